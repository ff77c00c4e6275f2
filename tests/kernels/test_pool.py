"""The thread pool: same bits under load, from many callers, and after fork()."""

import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pockettts_fast import _core
from pockettts_fast._core import kernels
from reference.rounding import assert_same_bits

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
CHILD_SECONDS = 30.0


class Work:
    """A linear layer large enough for helpers, its input, and the answer of one thread."""

    def __init__(self, rng: np.random.Generator, threads: int, cols: int = 512, rows: int = 16) -> None:
        weight = rng.standard_normal((cols, 256), dtype=np.float32)
        self.x = rng.standard_normal((rows, 256), dtype=np.float32)
        isa = _core.available_isas()[-1]
        self.linear = kernels.PackedLinear(isa, threads, weight)
        self.expected = kernels.PackedLinear(isa, 1, weight).apply(self.x)

    def check(self) -> None:
        assert_same_bits(self.linear.apply(self.x), self.expected)


def in_child(task: Callable[[], None]) -> None:
    """Runs task in a forked child; fails when it raises or does not come back."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: forking beside threads is the point
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            task()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    deadline = time.monotonic() + CHILD_SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done == pid:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    pytest.fail(f"the child hung for {CHILD_SECONDS:.0f} s")


@pytest.mark.parametrize("threads", [0, -1, 1025])
def test_a_pool_needs_between_one_and_1024_threads(threads: int) -> None:
    with pytest.raises(ValueError, match=f"threads must be between 1 and 1024, got {threads}"):
        _core.Pool(threads)


def test_a_kernel_needs_at_least_one_thread() -> None:
    weight = np.ones((4, 4), np.float32)
    with pytest.raises(ValueError, match="threads must be between 1 and 1024, got 0"):
        kernels.PackedLinear("scalar", 0, weight)


def test_a_pool_remembers_its_threads() -> None:
    assert [_core.Pool(n).threads for n in (1, 2, 7)] == [1, 2, 7]


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_repeated_steps_give_the_same_bits(threads: int, rng: np.random.Generator) -> None:
    work = Work(rng, threads)
    for _ in range(200):
        work.check()


def test_helpers_that_fell_asleep_wake_up(rng: np.random.Generator) -> None:
    work = Work(rng, 4)
    for _ in range(10):
        work.check()
        time.sleep(0.01)  # far longer than helpers spin


def test_many_python_threads_share_one_pool(rng: np.random.Generator) -> None:
    works = Work(rng, 3), Work(rng, 3, cols=100, rows=1)
    start = threading.Barrier(8)

    def hammer(i: int) -> None:
        start.wait()
        for _ in range(60):
            works[i % 2].check()

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(hammer, i) for i in range(8)]:
            done.result(timeout=60)


def test_python_threads_share_one_matrix(rng: np.random.Generator) -> None:
    work = Work(rng, 2)
    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work.check) for _ in range(300)]:
            done.result(timeout=60)


def test_pools_come_and_go_while_another_works(rng: np.random.Generator) -> None:
    steady, stop = Work(rng, 2), threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            steady.check()

    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(keep_busy)
        try:
            for _ in range(30):
                Work(rng, 3).check()
        finally:
            stop.set()
        busy.result(timeout=60)


def test_an_unused_pool_can_be_dropped() -> None:
    for _ in range(100):
        _core.Pool(8)


@needs_fork
def test_a_forked_child_computes_with_a_pool_its_parent_used(rng: np.random.Generator) -> None:
    work = Work(rng, 3)
    work.check()  # starts the helpers, which the child will not have

    def child() -> None:
        for _ in range(50):
            work.check()

    in_child(child)
    work.check()


@needs_fork
def test_a_forked_child_computes_with_a_pool_its_parent_never_used(rng: np.random.Generator) -> None:
    work = Work(rng, 3)
    in_child(work.check)


@needs_fork
def test_a_grandchild_computes(rng: np.random.Generator) -> None:
    work = Work(rng, 3)
    work.check()

    def child() -> None:
        work.check()
        in_child(work.check)
        work.check()

    in_child(child)


@needs_fork
def test_a_child_may_use_and_drop_several_inherited_pools_in_any_order(rng: np.random.Generator) -> None:
    # New threads may get the handles of threads the parent had: an inherited handle must not be touched.
    works = [Work(rng, 3) for _ in range(3)]
    for work in works:
        work.check()

    def child() -> None:
        works[2].check()
        works[0].check()
        del works[1]
        works[1].check()
        own = Work(np.random.default_rng(0), 3)
        own.check()
        works.clear()
        own.check()

    in_child(child)


@needs_fork
def test_a_child_forked_in_the_middle_of_a_step_computes(rng: np.random.Generator) -> None:
    work, stop = Work(rng, 3), threading.Event()
    weight = rng.standard_normal((32, 16, 3), dtype=np.float32)
    rows = rng.standard_normal((64, 16), dtype=np.float32)
    isa = _core.available_isas()[-1]
    expected = kernels.Conv1d(isa, 1, weight).step(rows)

    def keep_busy() -> None:
        while not stop.is_set():
            work.check()
            kernels.Conv1d(isa, 2, weight).step(rows)

    def child() -> None:
        work.check()
        assert_same_bits(kernels.Conv1d(isa, 2, weight).step(rows), expected)  # takes pooled scratch

    with ThreadPoolExecutor(3) as pool:
        busy = [pool.submit(keep_busy) for _ in range(3)]
        try:
            for _ in range(15):
                in_child(child)
        finally:
            stop.set()
        for done in busy:
            done.result(timeout=60)
