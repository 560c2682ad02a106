"""PhotoProgress: the host's bar over some photos."""

from __future__ import annotations

import comfy.model_management
import comfy.utils


class PhotoProgress:
    """Told how many photos are done; Cancel stops it."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._bar = comfy.utils.ProgressBar(total)

    def __call__(self, done: int) -> None:
        """Moves the bar. Raises the host's interrupt if the user pressed Cancel."""
        self._bar.update_absolute(done, self._total)
        comfy.model_management.throw_exception_if_processing_interrupted()
