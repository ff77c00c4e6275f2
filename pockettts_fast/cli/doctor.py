"""``pockettts-fast doctor``: what the program finds on this machine, and what is wrong with it."""

import os
import platform
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from pockettts_fast.cli import facts, options
from pockettts_fast.cli.errors import FAILED, one_line
from pockettts_fast.cli.machine import processor_name
from pockettts_fast.errors import PocketTTSError
from pockettts_fast.http_cache import _http_cache_folder, is_offline
from pockettts_fast.hub import HubAddress, _hub_cache_folder

_HUB = "https://huggingface.co"
_HUB_TIMEOUT_S = 4.0
_COMMIT = re.compile(r"[0-9a-f]{40}")
_VARIABLES = (
    "POCKETTTS_FAST_ISA",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "XDG_CACHE_HOME",
)


@dataclass
class Findings:
    """What is wrong, one sentence each."""

    sentences: list[str] = field(default_factory=list)

    def add(self, sentence: str) -> None:
        self.sentences.append(one_line(sentence))


@click.command()
@options.json_flag
@click.option("--hub", is_flag=True, help="Also ask whether the Hugging Face hub can be reached.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool, hub: bool) -> None:
    """Say what is found on this machine. Exits with 1 if something is wrong."""
    found = examine(ask_hub=hub)
    click.echo(facts.to_json(found) if as_json else as_text(found))
    if found["findings"]:
        ctx.exit(FAILED)


def examine(*, ask_hub: bool) -> dict[str, Any]:
    """Everything that the command prints, as plain data; ``findings`` lists what is wrong."""
    from pockettts_fast.cli.app import version_line

    findings = Findings()
    return {
        "program": version_line(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "processor": processor_name(),
        **_core_facts(findings),
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "cache": _cache_facts(findings),
        "token": _has_token(),
        "models_cached": _cached_models(findings),
        "hub": _hub_facts(findings) if ask_hub else "not asked",
        "libraries": _libraries(findings),
        "findings": findings.sentences,
    }


def as_text(found: Mapping[str, Any]) -> str:
    """The facts as lines of text."""
    lines = []
    for name, value in found.items():
        if name == "findings":
            continue
        label = name.replace("_", " ")
        if isinstance(value, Mapping):
            lines.append(f"{label}:")
            lines += [f"  {inner.replace('_', ' ')}: {_plain(part)}" for inner, part in value.items()]
            if not value:
                lines[-1] += " none"
        else:
            lines.append(f"{label}: {_plain(value)}")
    lines += [f"PROBLEM: {sentence}" for sentence in found["findings"]] or ["No problems found."]
    return "\n".join(lines)


def _plain(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_plain(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(part) for part in value) or "none"
    return one_line(str(value))


def _core_facts(findings: Findings) -> dict[str, Any]:
    """Instruction sets and cores, from the compiled part of the package."""
    try:
        from pockettts_fast import _core
    except ImportError as err:
        findings.add(f"The compiled part of the package cannot be loaded ({err}): install the package again.")
        return {"instruction_sets": None, "threads": None}
    active = None
    try:
        active = _core.active_isa()
    except ValueError as err:
        findings.add(f"{str(err)[:1].upper()}{str(err)[1:]}.")
    return {
        "instruction_sets": {
            "compiled": _core.compiled_isas(),
            "available": _core.available_isas(),
            "active": active,
            "processor_features": dict(_core.cpu_features()),
        },
        "threads": {
            "default": _core.usable_cores(),
            "affinity": _core.affinity_cores(),
            "cgroup_quota": _core.cgroup_quota() or None,
            "online": os.cpu_count(),
        },
    }


def _cache_facts(findings: Findings) -> dict[str, Any]:
    described = {}
    for name, folder in (("hub", _hub_cache_folder()), ("other_downloads", _http_cache_folder())):
        exists, writable = folder.is_dir(), _is_writable(folder)
        if not writable:
            findings.add(
                f"The cache folder {str(folder)!r} cannot be written, so nothing can be downloaded: "
                "set HF_HOME and XDG_CACHE_HOME to folders that can be written."
            )
        described[name] = {"path": str(folder), "exists": exists, "writable": writable}
    return described


def _is_writable(folder: Path) -> bool:
    """Whether files can be made in ``folder``, or ``folder`` itself where it does not exist yet."""
    for existing in (folder, *folder.parents):
        if existing.exists():
            return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return False


def _has_token() -> bool:
    """Whether there is a token for the hub. It is not read."""
    if os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN"):
        return True
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    path = os.environ.get("HF_TOKEN_PATH") or os.path.join(home, "token")
    return Path(os.path.expandvars(os.path.expanduser(path))).is_file()


def _cached_models(findings: Findings) -> dict[str, str]:
    """Which released models can be used without a download."""
    try:
        from pockettts_fast.config import available_languages, language_config_path, load_config
        from pockettts_fast.defaults import DEMO_LANGUAGE
    except ImportError as err:
        findings.add(f"The package is not complete ({err}): install it again.")
        return {}
    cached = {}
    for language in available_languages():
        if language == DEMO_LANGUAGE:
            continue
        try:
            config = load_config(language_config_path(language))
        except PocketTTSError as err:
            findings.add(f"The configuration of {language!r} cannot be used: {err}")
            continue
        separate = [config.flow_lm.weights_path, config.mimi.weights_path]
        cloning = [config.weights_path] if config.weights_path else separate
        tokenizer = config.flow_lm.lookup_table.tokenizer_path
        if _is_cached(tokenizer) and all(map(_is_cached, cloning)):
            cached[language] = "with voice cloning"
        elif _is_cached(tokenizer) and _is_cached(config.weights_path_without_voice_cloning):
            cached[language] = "without voice cloning"
    return cached


def _is_cached(address: str | None) -> bool:
    """Whether the file at an ``hf://`` address is in the cache, by the documented layout of that."""
    if address is None or not address.startswith("hf://"):
        return False
    try:
        parsed = HubAddress.parse(address)
    except PocketTTSError:
        return False
    folder = _hub_cache_folder() / f"models--{parsed.repository.replace('/', '--')}"
    commit = parsed.revision or "main"
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (folder / "refs" / commit).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return False
    return (folder / "snapshots" / commit / parsed.filename).is_file()


def _hub_facts(findings: Findings) -> dict[str, Any]:
    if is_offline():
        return {"reachable": None, "detail": "not asked, because HF_HUB_OFFLINE is set"}
    answer: list[str | int] = []
    began = time.monotonic()
    # In a thread, because looking up the name of the host knows no time limit.
    asking = threading.Thread(target=lambda: answer.append(_ask_hub()), daemon=True)
    asking.start()
    asking.join(_HUB_TIMEOUT_S + 1.0)
    status = answer[0] if answer else "it does not answer in time"
    if isinstance(status, int):
        return {"reachable": True, "status": status, "milliseconds": round(1000 * (time.monotonic() - began))}
    findings.add(f"The hub {_HUB} cannot be reached ({status}): nothing can be downloaded now.")
    return {"reachable": False, "detail": status}


def _ask_hub() -> str | int:
    """The status of an HTTP answer, or why there is none."""
    import urllib.error
    import urllib.request

    try:
        asked = urllib.request.Request(_HUB, method="HEAD")
        with urllib.request.urlopen(asked, timeout=_HUB_TIMEOUT_S) as response:
            return int(response.status)
    except urllib.error.HTTPError as err:
        return err.code
    except (OSError, ValueError) as err:
        return one_line(str(getattr(err, "reason", err)))


def _libraries(findings: Findings) -> dict[str, str | None]:
    """Versions of what the package requires, and of torch, which training checkpoints need."""
    from importlib import metadata

    try:
        required = metadata.requires("pockettts-fast") or []
    except metadata.PackageNotFoundError:
        required = []
        findings.add("The package is not installed: run `pip install .` in the folder of its sources.")
    versions: dict[str, str | None] = {}
    for requirement in required:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name is None or "extra ==" in requirement:
            continue
        try:
            versions[name[0]] = metadata.version(name[0])
        except metadata.PackageNotFoundError:
            versions[name[0]] = None
            findings.add(f"The library {name[0]} is missing: install the package again.")
    try:
        import soundfile

        versions["libsndfile"] = str(soundfile.__libsndfile_version__)
    except (ImportError, OSError) as err:
        versions["libsndfile"] = None
        findings.add(f"soundfile does not load ({err}), so that only 16-bit WAV recordings can be read.")
    try:
        versions["torch (for training checkpoints)"] = metadata.version("torch")
    except metadata.PackageNotFoundError:
        versions["torch (for training checkpoints)"] = None
    return versions
