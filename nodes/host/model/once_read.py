"""What was read of the weights on a wire, kept: each is read once per object, not once per queue.

To read them is not cheap: every weight is copied in fp32, and on cards for which the host streams
weights it loads the whole file again.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

Found = TypeVar("Found")

_KEPT: weakref.WeakKeyDictionary[Any, dict[tuple[Any, ...], Any]] = weakref.WeakKeyDictionary()
"""By the host's module, which lives as long as its weights; then by patches and purpose."""


def once_read(patcher: Any, purpose: tuple[Any, ...], read: Callable[[], Found]) -> Found:
    """What `read` gives, or gave for this purpose and the same weights: not to be changed.

    A patcher's `patches_uuid` changes with its patches, and clones without new ones share it.
    """
    key = (str(patcher.patches_uuid), *purpose)
    kept = _KEPT.setdefault(patcher.model, {})
    if key not in kept:
        kept[key] = read()
    return kept[key]
