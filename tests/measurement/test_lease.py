"""The lease between processes: others wait at their next step while one is alone, and a dead holder holds nothing."""

import multiprocessing
import os
import signal
import time

import pytest

from harness.measurement import lease as lease_module
from harness.measurement.lease import MachineLease

pytestmark = pytest.mark.skipif(lease_module.fcntl is None, reason="no such locks on this system")
context = multiprocessing.get_context("fork")


def worker(folder, counter, started):
    """Count, between looks at the lease, for ever."""
    own = MachineLease(folder)
    own.join()
    started.set()
    while True:
        own.give_way()
        counter.value += 1


def holder(folder, started):
    own = MachineLease(folder)
    own.join()
    with own.alone():
        started.set()
        time.sleep(60)


def begin(target, *args):
    started = context.Event()
    process = context.Process(target=target, args=(*args, started), daemon=True)
    process.start()
    assert started.wait(20)
    return process


@pytest.fixture
def counting(tmp_path):
    counter = context.Value("q", 0)
    process = begin(worker, tmp_path, counter)
    yield counter
    process.kill()
    process.join()


def grows(counter, during=0.2):
    before = counter.value
    time.sleep(during)
    return counter.value > before


def test_others_wait_while_one_is_alone_and_go_on_afterwards(tmp_path, counting):
    mine = MachineLease(tmp_path)
    mine.join()
    assert grows(counting)
    with mine.alone() as alone:
        assert alone and not grows(counting)
    assert grows(counting)
    mine.leave()
    assert grows(counting) and not mine.joined


def test_two_are_never_alone_at_once(tmp_path):
    inside, most = context.Value("i", 0), context.Value("i", 0)

    def compete():
        own = MachineLease(tmp_path)
        own.join()
        for _ in range(20):
            with own.alone():
                with inside.get_lock():
                    inside.value += 1
                    most.value = max(most.value, inside.value)
                time.sleep(0.001)
                with inside.get_lock():
                    inside.value -= 1

    processes = [context.Process(target=compete) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 4 and most.value == 1


def test_a_dead_holder_holds_nothing(tmp_path):
    process = begin(holder, tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    own = MachineLease(tmp_path)
    own.join()
    with own.alone() as alone:
        assert alone


def test_who_has_not_joined_waits_for_nobody(tmp_path):
    process = begin(holder, tmp_path)
    own = MachineLease(tmp_path)
    own.give_way()
    with own.alone() as alone:
        assert not alone
    process.kill()
    process.join()
