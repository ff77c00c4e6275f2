"""Fixtures of the comparisons with the original."""

import functools
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _quiet_upstream(recwarn: pytest.WarningsRecorder) -> None:
    """The original warns about things of its own; only its results are compared."""


@pytest.fixture
def pair(checkpoints: Callable[..., Path]) -> Callable[..., Any]:
    """Both models of a tiny configuration: (name, seed, eos_after, arguments, **changes) -> Pair."""
    pytest.importorskip("pocket_tts")
    from parity.pairs import Pair

    def load(
        name: str = "plain",
        seed: int = 1,
        eos_after: float | None = 12.0,
        arguments: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Pair:
        return Pair(checkpoints(name, seed, eos_after, **changes), **(arguments or {}))

    return load


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Both models of a released architecture at full size with random weights; one at a time in memory."""
    pytest.importorskip("pocket_tts")
    from parity.pairs import Pair
    from pockettts_fast.testing import write_checkpoint

    @functools.lru_cache(maxsize=1)
    def load(language: str) -> Pair:
        gc.collect()
        folder = tmp_path_factory.mktemp(language)
        path = write_checkpoint(folder, language, 1, eos_after=12.0)
        loaded = Pair(path)
        (folder / "model.safetensors").unlink()  # mapped, but nobody needs its name
        return loaded

    yield load
    load.cache_clear()
    gc.collect()
