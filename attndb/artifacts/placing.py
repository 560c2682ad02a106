"""A complete file takes its name, also where another program looks at it for a moment."""

from __future__ import annotations

import os
import time
from pathlib import Path

_WINDOWS = os.name == "nt"
_PAUSES_S = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Between tries."""


def put_in_place(partial: Path, path: Path) -> None:
    """`os.replace`. On Windows a virus scanner or an indexer that has one of the two open for a
    moment makes it refuse: it is tried again for a second and a half. OSError if it stays so."""
    for pause in _PAUSES_S if _WINDOWS else ():
        try:
            os.replace(partial, path)
            return
        except PermissionError:
            time.sleep(pause)
    os.replace(partial, path)
