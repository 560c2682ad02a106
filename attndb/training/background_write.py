"""BackgroundWrite: a large file goes to the disk while the training goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

LEAST = 64_000_000
"""Bytes from which on a thread is worth its while."""


def spare_memory() -> int:
    """Bytes of main memory that nobody needs; 0 where that cannot be told."""
    try:
        import psutil  # ComfyUI brings it
    except ImportError:
        return 0
    return int(psutil.virtual_memory().available)


def snapshot(tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """A copy in main memory; None if it is not worth one, or would take half of what is spare."""
    size = sum(value.nbytes for value in tensors.values())
    if size < LEAST or 2 * size > spare_memory():
        return None
    with torch.no_grad():
        return {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}


class BackgroundWrite:
    """One write at a time, in a thread of its own. What went wrong in it is raised where the
    training asks for it, as if it had happened there."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, write: Callable[[], None]) -> None:
        """Waits for the write before, raising its error, and begins this one."""
        self.wait()

        def run() -> None:
            try:
                write()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run, name="attndb checkpoint")
        self._thread.start()

    def ended(self) -> bool:
        """Whether a write has come to its end since this was asked last; raises its error."""
        if self._thread is None or self._thread.is_alive():
            return False
        self.wait()
        return True

    def wait(self) -> None:
        """Until nothing is being written; raises the error of what was."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
