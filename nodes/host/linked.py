"""Files whose names come over a wire, which the host does not tell before the node runs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

_WATCHED = 100
"""A node may run once for each of a list of names."""


class LinkedFiles:
    """Whether what a node read lately, by names that came over a wire, has changed since.

    A node's `fingerprint_inputs` is given None for a linked name: what it then says has to stay the
    same from queue to queue, or all behind the node runs again, and has to change with the files.
    """

    def __init__(self, state_of: Callable[..., str]) -> None:
        """`state_of`: of the names that one run of the node is given; changes with the files."""
        self._state_of = state_of
        self._states: dict[tuple[Hashable, ...], str] = {}
        self._changes = 0

    @contextmanager
    def reading(self, *names: Hashable) -> Iterator[None]:
        """Around a node's reading of the files of these names: they are looked at from now on, and
        what changes while they are read is seen, too."""
        before = self._state_of(*names)
        yield
        self._states.pop(names, None)
        self._states[names] = before
        for oldest in list(self._states)[:-_WATCHED]:
            del self._states[oldest]

    def state(self) -> str:
        """Changes when one of them did."""
        for names, before in self._states.items():
            now = self._state_of(*names)
            if now != before:
                self._states[names] = now
                self._changes += 1
        return f"linked {self._changes}"
