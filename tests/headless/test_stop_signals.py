"""A signal stops a training within a step; the same one, told twice, does not stop that."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from attndreambooth.headless.stop_signals import SAME_S, stop_signals

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there they cannot be sent so")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_told_twice_is_one_and_a_later_one_stops_at_once(number):
    now, interrupts = [100.0], []
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_signals(lambda: interrupts.append(now[0]), lambda: now[0]) as caught:
        os.kill(os.getpid(), number)
        assert caught == [number]
        now[0] += SAME_S / 2
        os.kill(os.getpid(), signal.SIGTERM)
        assert (caught, interrupts) == ([number], [100.0])
        now[0] += SAME_S
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
