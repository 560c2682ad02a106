"""What the server's owner allows on disk: environment variables in gigabytes."""

from __future__ import annotations

import logging
import os

log = logging.getLogger(__name__)


def limit_in_bytes(variable: str, otherwise: float | None = None) -> float | None:
    """Bytes that the variable allows; `otherwise` if it is not set. A value that is no number of
    gigabytes is warned of, and sets no limit (None)."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return otherwise
    try:
        limit = float(text) * 1e9
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        log.warning("%s = %r: use gigabytes, e.g. 20; nothing is removed", variable, text)
        return None
    return limit
