"""Which instruction set a process uses, and what it says about the machine."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pockettts_fast import _core

VARIABLE = "POCKETTTS_FAST_ISA"
X86 = platform.machine().lower() in ("x86_64", "amd64")


def run_python(code: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter without an inherited choice of set."""
    inherited = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )


def active_isa(cwd: Path, **environment: str) -> str:
    done = run_python("from pockettts_fast import _core; print(_core.active_isa())", cwd, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_build_lists_its_sets_from_worst_to_best() -> None:
    compiled = _core.compiled_isas()
    assert compiled[0] == "scalar"
    assert len(set(compiled)) == len(compiled)
    if X86:
        assert compiled == ["scalar", "avx2", "avx512", "avx512_vnni", "avx512_bf16"]


def test_the_sets_that_run_are_compiled_sets_in_the_same_order() -> None:
    available = _core.available_isas()
    assert available[0] == "scalar"
    assert available == [name for name in _core.compiled_isas() if name in available]


@pytest.mark.skipif(not X86, reason="the features are those of x86-64")
def test_the_sets_that_run_follow_the_features_of_the_processor() -> None:
    features, available = _core.cpu_features(), _core.available_isas()
    assert ("avx2" in available) == features["avx2_fma"]
    assert ("avx512" in available) == features["avx512"]


@pytest.mark.skipif(not X86 or sys.platform != "linux", reason="reads the flags from Linux on x86-64")
def test_the_features_are_those_the_system_reports() -> None:
    line = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    flags = set(line.split(":")[1].split())
    features = _core.cpu_features()
    assert features["avx2_fma"] == ({"avx2", "fma"} <= flags)
    assert features["avx512"] == ({"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags)


def test_the_best_set_is_used_when_none_is_forced(tmp_path: Path) -> None:
    best = _core.available_isas()[-1]
    assert active_isa(tmp_path) == best
    assert active_isa(tmp_path, **{VARIABLE: ""}) == best


def test_a_forced_set_is_used(isa: str, tmp_path: Path) -> None:
    assert active_isa(tmp_path, **{VARIABLE: isa}) == isa


def test_this_process_uses_what_its_environment_forces() -> None:
    assert _core.active_isa() == (os.environ.get(VARIABLE) or _core.available_isas()[-1])


@pytest.mark.parametrize("name", ["avx1024", "AVX2", "scalar ", "best"])
def test_a_forced_set_that_does_not_exist_is_a_value_error_that_lists_those_that_run(name: str, tmp_path: Path) -> None:
    code = "from pockettts_fast import _core\ntry:\n    _core.active_isa()\nexcept ValueError as err:\n    print(err)\n"
    done = run_python(code, tmp_path, **{VARIABLE: name})
    assert done.returncode == 0, done.stderr
    assert f"'{name}' cannot run here" in done.stdout
    assert ", ".join(_core.available_isas()) in done.stdout
    assert VARIABLE in done.stdout


def test_a_compiled_set_that_the_processor_lacks_is_refused(tmp_path: Path) -> None:
    lacking = [name for name in _core.compiled_isas() if name not in _core.available_isas()]
    if not lacking:
        pytest.skip("this processor runs every compiled set")
    for name in lacking:
        with pytest.raises(ValueError, match=f"'{name}' cannot run here"):
            _core.kernels.activate(name, "silu", np.zeros(1, np.float32))


def test_a_kernel_refuses_an_unknown_set() -> None:
    with pytest.raises(ValueError, match=r"'sse9' cannot run here: use one of scalar"):
        _core.kernels.activate("sse9", "silu", np.zeros(1, np.float32))


def test_usable_cores_are_bounded_by_affinity_and_quota() -> None:
    cores, quota = _core.usable_cores(), _core.cgroup_quota()
    assert 1 <= cores <= _core.affinity_cores()
    if quota > 0:
        assert cores <= max(1, int(np.ceil(quota)))
    else:
        assert cores == _core.affinity_cores()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity masks")
def test_a_narrowed_affinity_mask_is_followed(tmp_path: Path) -> None:
    assert _core.affinity_cores() == len(os.sched_getaffinity(0))
    code = (
        "import os\n"
        "from pockettts_fast import _core\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "print(_core.affinity_cores(), _core.usable_cores())\n"
    )
    done = run_python(code, tmp_path)
    assert done.stdout.split() == ["1", "1"], done.stderr
