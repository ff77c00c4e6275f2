"""The guard of the hot paths: what it calls a fault, and that the committed budget is one it can judge by."""

import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "tools").is_dir(), reason="the tools are not here")


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import instruction_budget

    return instruction_budget


def counts(instructions: float = 100_000, large: float = 1, small: float = 8) -> dict[str, dict[str, float]]:
    return {
        "instructions": {"codec": instructions},
        "large allocations": {"codec": large},
        "small allocations": {"codec": small},
    }


def test_counts_within_the_tolerance_are_no_fault(guard: ModuleType) -> None:
    for measured in (counts(), counts(105_000), counts(10), counts(small=10), counts(large=0)):
        assert guard.faults(measured, counts()) == []


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        (counts(105_001), "codec: 105,001 instructions a frame, the budget is 100,000"),
        (counts(large=2), "codec: 2 large allocations a frame, the budget is 1"),
        (counts(small=11), "codec: 11 small allocations a frame, the budget is 8"),
    ],
)
def test_a_count_above_its_budget_is_named(
    guard: ModuleType, measured: dict[str, dict[str, float]], message: str
) -> None:
    assert guard.faults(measured, counts()) == [message]


def test_stages_and_budget_have_to_be_the_same(guard: ModuleType) -> None:
    missing = counts()
    missing["instructions"] = {"lm step": 1}
    assert guard.faults(missing, counts()) == [
        "codec: instructions were not measured",
        "lm step: no budget of instructions",
    ]
    assert len(guard.faults(counts(), {})) == 3


def test_the_committed_budget_covers_every_kind_and_forbids_hidden_data(guard: ModuleType) -> None:
    budget = json.loads((ROOT / "bench" / "budget.json").read_text())
    assert len(budget["instructions"]) == 6
    assert guard.faults(budget, budget) == []
    outputs = {"lm step float32": 0, "lm step int8": 0, "codec frame float32": 1, "codec frame bf16": 1}
    assert budget["large allocations"] == outputs
