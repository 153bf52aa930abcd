"""The native pool: chunks, numbers of threads, failures, callers at once, forks, idleness."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time

import pytest

from graphgrad.runtime import blas, engine, pool, threads
from graphgrad.runtime.program import (
    PARALLEL,
    PRODUCTS,
    STATUS_THREAD,
    STATUS_THREADS,
    STATUS_WORDS,
)

pytestmark = pytest.mark.skipif(not threads.available(), reason="no threads here")

# Items are words: [meeting size, met so far, limit of turns, failing item (or -1)], then of each
# item how often it ran and by which thread.
KERNELS = f"""
define i32 @note(ptr %status, i64 %lo, i64 %hi, ptr %args) {{
entry:
  %many = load i64, ptr %args
  %met_at = getelementptr i64, ptr %args, i64 1
  %turns_at = getelementptr i64, ptr %args, i64 2
  %turns = load i64, ptr %turns_at
  %bad_at = getelementptr i64, ptr %args, i64 3
  %bad = load i64, ptr %bad_at
  %number_at = getelementptr i64, ptr %status, i64 {STATUS_THREAD}
  %number = load i64, ptr %number_at
  %me = atomicrmw add ptr %met_at, i64 1 seq_cst
  br label %meet
meet:
  %turn = phi i64 [ 0, %entry ], [ %later, %again ]
  %met = load atomic i64, ptr %met_at seq_cst, align 8
  %all = icmp sge i64 %met, %many
  br i1 %all, label %items, label %again
again:
  %y = call i32 @sched_yield()
  %later = add i64 %turn, 1
  %patient = icmp slt i64 %later, %turns
  br i1 %patient, label %meet, label %items
items:
  %i = phi i64 [ %lo, %meet ], [ %lo, %again ], [ %next, %fine ]
  %inside = icmp slt i64 %i, %hi
  br i1 %inside, label %item, label %done
item:
  %twice = mul i64 %i, 2
  %word = add i64 %twice, 4
  %ran_at = getelementptr i64, ptr %args, i64 %word
  %ran = atomicrmw add ptr %ran_at, i64 1 monotonic
  %who_at = getelementptr i64, ptr %ran_at, i64 1
  store i64 %number, ptr %who_at
  %fails = icmp sge i64 %i, %bad
  %checked = icmp sge i64 %bad, 0
  %both = and i1 %fails, %checked
  br i1 %both, label %fail, label %fine
fail:
  store i64 7, ptr %status
  %index_at = getelementptr i64, ptr %status, i64 1
  store i64 %i, ptr %index_at
  ret i32 1
fine:
  %next = add i64 %i, 1
  br label %items
done:
  ret i32 0
}}
declare i32 @sched_yield()
"""
FOREVER = 1 << 40


class Job:
    """Runs the kernel `note` over items, and keeps what it noted."""

    def __init__(self, library: engine.Library) -> None:
        self.library = library  # the code goes with it
        self.kernel = library.address("note")
        types = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
        self.parallel = ctypes.CFUNCTYPE(ctypes.c_int32, *types)(pool.routine_address(PARALLEL))

    def run(self, count, grain, limit, *, meeting=0, turns=FOREVER, bad=-1):
        self.status = (ctypes.c_int64 * STATUS_WORDS)()
        self.status[STATUS_THREADS] = limit
        self.words = (ctypes.c_int64 * (4 + 2 * count))(meeting, 0, turns, bad)
        found = self.parallel(self.status, self.kernel, count, grain, self.words)
        self.ran = list(self.words[4::2])
        self.who = list(self.words[5::2])
        return found


@pytest.fixture(scope="module")
def library():
    return engine.compile_module(KERNELS, engine.host_target())[0]


@pytest.fixture
def job(library):
    return Job(library)


def os_threads():
    return len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("count", "grain"), [(1, 1), (7, 3), (64, 1), (1000, 64), (5, 100), (0, 1)]
)
def test_each_item_runs_once(job, count, grain, limit):
    for _ in range(20):
        assert job.run(count, grain, limit) == 0
        assert job.ran == [1] * count
        assert set(job.who) <= set(range(limit))


@pytest.mark.parametrize("limit", [2, 3, 5])
def test_threads_work_at_the_same_time_with_numbers_of_their_own(job, limit):
    """Each chunk waits until as many have begun as there are threads."""
    for _ in range(10):
        assert job.run(limit, 1, limit, meeting=limit) == 0
        assert sorted(job.who) == list(range(limit))


def test_no_more_threads_than_asked_for(job):
    job.run(6, 1, 6, meeting=6)
    assert job.run(4, 1, 2, meeting=3, turns=2000) == 0
    assert set(job.who) <= {0, 1}


@pytest.mark.parametrize("bad", [0, 5, 37, 99])
def test_the_lowest_failure_is_reported(job, bad):
    """Every item from `bad` on fails; a single thread would have met that one first."""
    for limit in (1, 2, 4):
        for _ in range(20):
            assert job.run(100, 3, limit, bad=bad) == 1
            assert list(job.status[:2]) == [7, bad]
            assert job.ran[: bad + 1] == [1] * (bad + 1)


def test_a_failure_in_a_helper_is_reported(job):
    assert job.run(2, 1, 2, meeting=2, bad=1) == 1
    assert list(job.status[:2]) == [7, 1]
    assert job.status[STATUS_THREAD] == 0  # the caller's own words are left alone


def test_a_second_caller_works_alone(library):
    first, second = Job(library), Job(library)
    held = threading.Thread(target=first.run, args=(2, 1, 2), kwargs={"meeting": 3})
    held.start()
    while not getattr(first, "words", None) or first.words[1] < 2:
        time.sleep(0.001)
    assert second.run(100, 1, 2) == 0  # while two threads wait in the first job
    assert second.ran == [1] * 100
    assert set(second.who) == {0}
    first.words[1] = 3
    held.join()
    assert first.ran == [1, 1]


def test_many_callers_at_once(library):
    failed = []

    def work(k):
        job = Job(library)
        for i in range(300):
            bad = i % 50 if k % 2 else -1
            result = job.run(50, 1 + k, 3, bad=bad)
            if result != (bad >= 0) or (bad >= 0 and job.status[1] != bad):
                failed.append((k, i, result))
            if bad < 0 and job.ran != [1] * 50:
                failed.append((k, i, job.ran))

    callers = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in callers:
        t.start()
    for t in callers:
        t.join()
    assert failed == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")
def test_threads_are_made_once(job):
    job.run(5, 1, 5, meeting=5)
    before = os_threads()
    for limit in (2, 5, 3, 1) * 25:
        job.run(20, 1, limit)
    assert os_threads() == before


def test_waiting_threads_take_no_time(job):
    job.run(3, 1, 3, meeting=3)
    for _ in range(20):  # soon they have gone to sleep, on a busy machine later
        begin = time.process_time()
        time.sleep(0.05)
        spent = time.process_time() - begin
        if spent < 0.005:
            break
    assert spent < 0.005


def test_helpers_sleep_and_wake(job):
    for _ in range(20):
        time.sleep(0.002)  # longer than they spin
        assert job.run(2, 1, 2, meeting=2) == 0
        assert sorted(job.who) == [0, 1]


IN_A_CHILD = """
import os, sys
sys.path.insert(0, {root!r})
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks with threads
from graphgrad.runtime import engine
from tests.runtime.test_pool import KERNELS, Job
job = Job(engine.compile_module(KERNELS, engine.host_target())[0])
job.run(3, 1, 3, meeting=3)
for _ in range(5):
    child = os.fork()
    ok = job.run(3, 1, 3, meeting=3) == 0 and sorted(job.who) == [0, 1, 2]
    if child == 0:
        os._exit(0 if ok else 1)
    assert ok
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_parent_and_child_of_a_fork_each_have_threads():
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    text = IN_A_CHILD.format(root=root)
    run = subprocess.run([sys.executable, "-c", text], timeout=60, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_default_number_of_threads():
    text = "from graphgrad.runtime import threads; print(threads.count())"

    def count(**settings):
        given = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
        command = [sys.executable, "-c", text]
        run = subprocess.run(command, env={**given, **settings}, capture_output=True, text=True)
        return int(run.stdout)

    if hasattr(os, "sched_getaffinity"):
        assert count() == len(os.sched_getaffinity(0))
    assert count(GRAPHGRAD_NUM_THREADS="3") == 3
    assert count(OMP_NUM_THREADS="2,4") == 2
    assert count(GRAPHGRAD_NUM_THREADS="3", OMP_NUM_THREADS="2") == 3
    assert count(GRAPHGRAD_NUM_THREADS="many", OMP_NUM_THREADS="2") == 2


def test_an_impossible_number_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        threads.set_count(0)


@pytest.mark.skipif(blas.thread_switch() is None, reason="the BLAS has one number of threads")
def test_a_number_of_threads_set_during_a_product_remains():
    word, number = ctypes.c_void_p, ctypes.c_int64
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, word, number, number, word)
    products = ctypes.CFUNCTYPE(ctypes.c_int32, word, kind, number, number, word)(
        pool.routine_address(PRODUCTS)
    )
    during = []

    def kernel(*_):
        during.append(blas.get_threads())
        pool.set_blas_threads(2)
        during.append(blas.get_threads())
        return 0

    before = blas.get_threads()
    try:
        pool.set_blas_threads(3)
        assert blas.get_threads() == 3
        assert products((ctypes.c_int64 * STATUS_WORDS)(), kind(kernel), 1, 1, None) == 0
        assert during == [1, 1]
        assert blas.get_threads() == 2
    finally:
        pool.set_blas_threads(before)
