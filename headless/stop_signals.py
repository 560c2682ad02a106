"""Signals that end a program: the first within a step, what was done kept; a later one at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SAME_S = 3.0
"""One that comes so soon after the first is the first again: a batch system that ends a job tells
all of its processes, and torchrun tells its own once more."""


@contextmanager
def stop_signals(
    interrupt: Callable[[], None], clock: Callable[[], float] = time.monotonic
) -> Iterator[list[int]]:
    """Calls `interrupt` for Ctrl+C or the end of a batch system's time; raises KeyboardInterrupt
    for a second one. Gives the signals that came."""
    caught: list[int] = []
    since = 0.0

    def stop(number: int, _: Any) -> None:
        nonlocal since
        if not caught:
            caught.append(number)
            since = clock()
            interrupt()
        elif clock() - since > SAME_S:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
