"""The header and the fixtures of the whole suite."""

import functools
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from pockettts_fast import TTSModel
    from pockettts_fast.voice_state import ModelState

VECTOR_ISAS = (
    "avx2",
    "avx512",
    "avx512_vnni",
    "avx512_bf16",
    "neon",
)  # those with a fused multiply-add: they promise equal bits


def pytest_report_header() -> str:
    """What the kernels run on; a forced set that cannot run stops the suite here."""
    try:
        from pockettts_fast import _core
    except ImportError as err:
        return f"pockettts_fast: the extension cannot be imported ({err})"
    try:
        active = _core.active_isa()
    except ValueError as err:
        raise pytest.UsageError(str(err)) from err
    available, compiled = (", ".join(names) for names in (_core.available_isas(), _core.compiled_isas()))
    return f"pockettts_fast: ISA {active} (can run: {available}; compiled: {compiled}), threads: {_core.usable_cores()}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`isa`: every instruction set in the build; one this processor lacks is a visible skip."""
    if "isa" not in metafunc.fixturenames:
        return
    from pockettts_fast import _core

    available = _core.available_isas()
    absent = pytest.mark.skip(reason="this processor does not run it")
    metafunc.parametrize(
        "isa",
        [pytest.param(name, marks=() if name in available else absent) for name in _core.compiled_isas()],
    )


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend only on the name of the test."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def vector_isas() -> tuple[str, ...]:
    """The vector sets that run here, at least two of them: a kernel gives the same bits on all."""
    from pockettts_fast import _core

    names = tuple(name for name in _core.available_isas() if name in VECTOR_ISAS)
    if len(names) < 2:
        pytest.skip(f"needs two vector instruction sets to compare, this processor runs {len(names)}")
    return names


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a tiny checkpoint once a session: (name of tiny_models, seed, eos_after, **more) -> its YAML."""
    import tiny_models
    from pockettts_fast.testing import write_checkpoint

    @functools.cache
    def write(name: str = "plain", seed: int = 1, eos_after: float | None = 25.0, **more: object) -> Path:
        folder = tmp_path_factory.mktemp(name)
        return write_checkpoint(folder, tiny_models.document(name, **more), seed, eos_after=eos_after)

    return write


@pytest.fixture(scope="session")
def speakers(checkpoints: Callable[..., Path]) -> "Callable[..., tuple[TTSModel, ModelState]]":
    """Loads such a checkpoint once a session, with a voice: the same arguments -> (model, voice)."""
    from pockettts_fast import TTSModel
    from pockettts_fast.testing import synthetic_prompt

    @functools.cache
    def load(*args: object, **more: object) -> "tuple[TTSModel, ModelState]":
        model = TTSModel.load_model(config=checkpoints(*args, **more), threads=2)
        return model, model.get_state_for_audio_prompt(synthetic_prompt(2.0, model.sample_rate, 3))

    return load
