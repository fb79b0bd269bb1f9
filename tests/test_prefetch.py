"""Batches made ahead of time are the same batches."""

import itertools
import threading

import pytest

from harness.prefetch import AHEAD, prefetched


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_all_batches_in_their_order(device):
    with prefetched(iter(range(20)), device) as batches:
        assert list(batches) == list(range(20))
    assert not threads()


def test_only_a_few_are_made_ahead_and_the_thread_ends():
    made, asked = [], threading.Event()

    def endless():
        for i in itertools.count():
            made.append(i)
            if i == AHEAD + 1:
                asked.set()                        # one in the reader's hand, AHEAD waiting, this one not yet put
            yield i

    with prefetched(endless(), "cuda") as batches:
        assert next(batches) == 0
        assert asked.wait(timeout=30)
        assert len(made) == AHEAD + 2 and threads()
    assert not threads()


def test_a_cpu_makes_them_when_asked():
    made = []
    with prefetched((made.append(i) or i for i in range(5)), "cpu") as batches:
        assert next(batches) == 0 and made == [0] and not threads()


def test_a_problem_is_raised_where_the_batch_is_asked_for():
    def broken():
        yield 1
        raise OSError("the disk is gone")

    with prefetched(broken(), "cuda") as batches:
        assert next(batches) == 1
        with pytest.raises(OSError, match="the disk is gone"):
            next(batches)
    assert not threads()
