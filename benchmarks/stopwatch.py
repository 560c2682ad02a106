"""Stopwatch: where the time of a whole training goes, by the calls that take it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock


class Stopwatch:
    """Processor seconds by part. What a part calls of another part counts for the inner one."""

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self._clock = clock
        self._running: list[list[Any]] = []  # [part, seconds of inner parts]
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What happens inside is `name`'s."""
        start, frame = self._clock(), [name, 0.0]
        self._running.append(frame)
        try:
            yield
        finally:
            self._running.pop()
            took = self._clock() - start
            if self._running:
                self._running[-1][1] += took
            self.seconds[name] = self.seconds.get(name, 0.0) + took - frame[1]
            self.calls[name] = self.calls.get(name, 0) + 1

    def watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, timed."""

        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return call(*args, **kwargs)

        return timed

    @contextmanager
    def watching(self, parts: Mapping[str, Sequence[tuple[Any, str]]]) -> Iterator[None]:
        """Times (owner, attribute) calls by part while inside."""
        with ExitStack() as entered:
            for name, places in parts.items():
                for owner, attribute in places:
                    timed = self.watched(name, getattr(owner, attribute))
                    entered.enter_context(mock.patch.object(owner, attribute, timed))
            yield
