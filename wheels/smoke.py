"""Whether an installed wheel is whole and speaks: run it with the Python of a fresh environment.

    python wheels/smoke.py

Checks the installed files, the demo voice in Python and on the command line, every instruction set that
this processor runs, and that nothing imports torch. Needs neither a network nor anything but the package.
Prints one line of facts.
"""

import importlib.metadata
import os
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

TEXT = "Hello from a small computer."
CONFIGS = 27
FRAME = 1920  # samples the model speaks at once, 80 ms
HEAVY = ("torch", "scipy", "transformers")  # never needed to speak
SOURCES = (".pyx", ".c", ".cpp", ".h", ".o")


class SmokeError(Exception):
    """What is wrong with the installed package."""


def expect(condition: bool, fault: str) -> None:
    if not condition:
        raise SmokeError(fault)


def installed_folder() -> Path:
    """The package in site-packages, never the sources of a checkout."""
    folder = Path(str(importlib.metadata.distribution("pockettts-fast").locate_file("pockettts_fast")))
    expect(folder.is_dir(), f"{folder} is not a folder: install the wheel first")
    return folder


def check_files(folder: Path) -> str:
    """What the wheel has to bring along, and what it must not."""
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    for name in ("py.typed", "_core.pyi", "audio/_dsp.pyi", "demo/demo.yaml"):
        expect(name in files, f"{name} is not in the installed package")
    for pattern in ("_core.*.so", "audio/_dsp.*.so", "demo/*.safetensors", "demo/tokenizer.*"):
        expect(any(folder.glob(pattern)), f"{pattern} is not in the installed package")
    configs = len(list(folder.glob("configs/*.yaml")))
    expect(configs == CONFIGS, f"{configs} configurations are installed, expected {CONFIGS}")
    sources = sorted(name for name in files if name.endswith(SOURCES))
    expect(not sources, f"sources are in the installed package: {', '.join(sources[:5])}")
    size = sum((folder / name).stat().st_size for name in files if "__pycache__" not in name)
    return f"{configs} configurations, {size / 1e6:.1f} MB installed"


def check_python() -> None:
    """The demo speaks through the API, without the libraries it can do without."""
    import numpy as np

    import pockettts_fast

    where = Path(str(pockettts_fast.__path__[0])).resolve()
    expect(where == installed_folder().resolve(), f"Python took the package from {where}, not the installed one")
    model = pockettts_fast.TTSModel.load_model(language="demo")
    voice = model.get_state_for_audio_prompt("demo")
    whole = model.generate_audio(voice, TEXT, seed=1)
    expect(whole.dtype == np.float32 and whole.ndim == 1, f"audio is {whole.dtype} of shape {whole.shape}")
    expect(len(whole) >= 2 * FRAME, f"{len(whole)} samples are less than two frames")
    expect(bool(np.isfinite(whole).all()) and float(np.abs(whole).max()) > 0, "audio is silent or not finite")
    pieces = list(model.generate_audio_stream(voice, TEXT, seed=1))
    expect(len(pieces) > 1, "the stream came in one piece")
    expect(np.array_equal(np.concatenate(pieces), whole), "the stream differs from the whole")
    loaded = [name for name in HEAVY if name in sys.modules]
    expect(not loaded, f"speaking imported {', '.join(loaded)}")


def run(*arguments: str, **environment: str) -> None:
    """One command of the installed program."""
    program = Path(sys.executable).parent / "pockettts-fast"
    done = subprocess.run(
        [str(program), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    expect(done.returncode == 0, f"pockettts-fast {' '.join(arguments)}: status {done.returncode}: {done.stderr}")


def check_wav(path: Path) -> int:
    """Samples in a 16-bit mono WAV file whose header and size agree."""
    with wave.open(str(path)) as file:
        form = file.getnchannels(), file.getsampwidth(), file.getframerate()
        expect(form == (1, 2, 24000), f"{path.name} has (channels, bytes, rate) {form}")
        samples = file.readframes(file.getnframes())
        expect(len(samples) == 2 * file.getnframes(), f"{path.name} is shorter than its header says")
    expect(path.stat().st_size == 44 + len(samples), f"{path.name} does not end where its header says")
    expect(any(samples), f"{path.name} is silent")
    return len(samples) // 2


def check_command_line() -> str:
    """The demo speaks with every instruction set that runs here."""
    from pockettts_fast import _core

    isas = _core.available_isas()
    with tempfile.TemporaryDirectory() as folder:
        for isa in isas:
            wav = Path(folder, f"{isa}.wav")
            arguments = ("--language", "demo", "--text", TEXT, "--seed", "1", "--output-path", str(wav))
            run("generate", *arguments, POCKETTTS_FAST_ISA=isa)
            samples = check_wav(wav)
            expect(samples >= FRAME, f"the demo spoke {samples} samples with {isa}")
    run("doctor")
    run("--version")
    return f"speaks with {', '.join(isas)}"


def main() -> int:
    try:
        files = check_files(installed_folder())
        check_python()
        speaks = check_command_line()
    except SmokeError as err:
        print(f"FAIL {err}")
        return 1
    print(f"OK {files}, {speaks}, no {' or '.join(HEAVY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
