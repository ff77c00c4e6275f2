"""Running the command line inside the test's process, as the console script does."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.outcome import Outcome
from pockettts_fast.cli import main

Cli = Callable[..., Outcome]


@pytest.fixture
def cli(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """``cli("generate", "--text", "hello", stdin=b"")`` -> Outcome."""

    def run(*arguments: str | Path, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="ascii"))
        capsysbinary.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsysbinary.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err.decode())

    return run


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds or leaves files elsewhere, or depends on the variables of who runs it."""
    monkeypatch.chdir(tmp_path)
    for name in ("POCKETTTS_FAST_DEBUG", "POCKETTTS_FAST_ISA"):
        monkeypatch.delenv(name, raising=False)
