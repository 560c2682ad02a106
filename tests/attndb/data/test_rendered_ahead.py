"""Crops rendered ahead in threads: the same bytes, the same errors, and an end."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from attndreambooth.attndb.data.batch import Batch
from attndreambooth.attndb.data.rendered_ahead import AHEAD, RenderedAhead

WAIT_S = 20.0


def batch(step):
    return Batch(torch.full((1, 1, 1, 1), float(step)), torch.zeros(1), torch.zeros(1), ())


class Source:
    """Steps that say which thread rendered and which encoded them."""

    def __init__(self, fails=None, free=None):
        """free: the only step that is rendered while `pause` is not set."""
        self.fails, self.free = fails, free
        self.rendered, self.encoded, self.lock = [], [], threading.Lock()
        self.pause = threading.Event()
        self.pause.set()

    def render(self, step):
        if step != self.free:
            self.pause.wait(WAIT_S)
        with self.lock:
            self.rendered.append((step, threading.current_thread()))
        if step == self.fails:
            raise OSError(f"no memory for step {step}")
        return f"crops of {step}"

    def encode(self, step, rendered):
        assert rendered == f"crops of {step}"
        self.encoded.append((step, threading.current_thread()))
        return batch(step)

    def fill(self, progress=None):
        return True


def until(true):
    """Waits for what another thread does."""
    end = time.monotonic() + WAIT_S
    while not true() and time.monotonic() < end:
        time.sleep(0.005)
    assert true()


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("attndb-render")]


def test_every_step_is_the_source_s_and_is_encoded_in_the_caller_s_thread():
    source = Source()
    with RenderedAhead(source, 6) as ahead:
        assert [int(ahead[step].latents) for step in range(6)] == list(range(6))
        assert ahead.fill()
    me = threading.current_thread()
    assert source.encoded == [(step, me) for step in range(6)]
    assert sorted(step for step, _ in source.rendered) == list(range(6))
    assert all(thread is not me for step, thread in source.rendered if step)
    assert threads() == []


def test_the_next_steps_are_rendered_while_one_computes_and_no_more():
    source = Source()
    with RenderedAhead(source, 100) as ahead:
        assert len(ahead[0]) == 1
        until(lambda: len(source.rendered) == 1 + AHEAD)
        time.sleep(0.05)
        assert sorted(step for step, _ in source.rendered) == list(range(1 + AHEAD))


def test_nothing_is_rendered_after_the_last_step():
    source = Source()
    with RenderedAhead(source, 3) as ahead:
        for step in range(3):
            assert len(ahead[step]) == 1
    assert max(step for step, _ in source.rendered) == 2


def test_a_step_asked_for_again_and_a_jump_give_what_they_should():
    source = Source()
    with RenderedAhead(source, 50) as ahead:
        for step in (4, 4, 5, 20, 0, 1):
            assert int(ahead[step].latents) == step
            assert len(ahead._jobs) <= AHEAD


def test_an_error_of_a_thread_reaches_the_caller_at_its_step():
    source = Source(fails=2)
    with RenderedAhead(source, 5) as ahead:
        assert len(ahead[0]) == len(ahead[1]) == 1
        with pytest.raises(OSError, match="no memory for step 2"):
            ahead[2]
        source.fails = None
        assert int(ahead[2].latents) == 2
    assert threads() == []


def test_stopped_in_the_middle_it_ends_its_threads_and_drops_what_was_queued():
    source = Source(free=0)
    source.pause.clear()  # the first that is queued is at work until the end
    with pytest.raises(KeyboardInterrupt), RenderedAhead(source, 50, ahead=8, workers=1) as ahead:
        assert len(ahead[0]) == 1
        threading.Timer(0.1, source.pause.set).start()
        raise KeyboardInterrupt
    assert threads() == []
    assert len(source.rendered) < 1 + 8  # not all that were queued


def test_outside_of_its_context_it_is_the_source():
    source = Source()
    assert int(RenderedAhead(source, 5)[3].latents) == 3
    assert [step for step, _ in source.rendered] == [3] and threads() == []
