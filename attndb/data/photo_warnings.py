"""What a user should hear of a dataset's photos before a training, in the log."""

from __future__ import annotations

import logging

from ..config.printable import printable
from .dataset import ConceptDataset
from .likeness import alike

log = logging.getLogger(__name__)

_NAMED = 5


def warn_of_photos(dataset: ConceptDataset) -> None:
    """Warns of a single photo, and of photos that are nearly the same."""
    if len(dataset.photos) == 1:
        log.warning(
            "one photo of %s: what surrounds the subject in it is learned as well; 3 to 6 photos "
            "in different places are usual",
            printable(dataset.placeholder),
        )
    same = alike(dataset.photos)
    for first, second in same[:_NAMED]:
        log.warning("%s and %s are nearly the same picture", printable(first), printable(second))
    if same:
        log.warning(
            "%d of %d photos are nearly the same as another: what they share is learned twice; "
            "leave one of each out",
            len(same),
            len(dataset.photos),
        )
