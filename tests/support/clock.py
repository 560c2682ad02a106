"""Clock: seconds that pass when a test lets them."""

from __future__ import annotations


class Clock:
    """Called, it says the time; `now` is set by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now
