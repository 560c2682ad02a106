"""What a node that takes lists (`is_input_list`) gets: several values, or one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..attndb.config.printable import quoted


def one_value(name: str, value: Any) -> Any:
    """The value of a widget, which comes as a list of one, or repeated. ValueError if a list with
    different values is connected."""
    if not isinstance(value, list):
        return value
    different = [v for i, v in enumerate(value) if v not in value[:i]]
    if len(different) != 1:
        shown = ", ".join(quoted(v, 40) for v in different[:5]) or "nothing"
        raise ValueError(f"{name} is a list ({shown}): connect one value, it is for all images")
    return different[0]


def first(value: Any) -> Any:
    """What is on a wire that holds one thing."""
    return value[0] if isinstance(value, list) else value


def lines_of(text: Any, *, whole: bool = False) -> list[str]:
    """The lines of a text, or the texts of a list; some captioning nodes give one list for a whole
    batch in a list. `whole`: a text alone is one. ValueError if it is no text."""
    given = text if isinstance(text, list) else [text]
    parts = [part for one in given for part in (one if isinstance(one, list) else [one])]
    if not all(isinstance(part, str) for part in parts):
        raise ValueError(f"captions = {quoted(text)} is no text: connect text, one line an image")
    return parts[0].split("\n") if len(parts) == 1 and not whole else parts


def filled_lines(text: Any) -> list[str]:
    """The lines of a text, or of a list of texts, that are not empty."""
    texts = text if isinstance(text, list) else [text]
    return [line.strip() for part in texts for line in part.splitlines() if line.strip()]


def separate_masks(masks: Any) -> list[np.ndarray]:
    """Every mask of a MASK batch, or of a list of them, as an array (height, width)."""
    batches = masks if isinstance(masks, list) else [masks]
    given = [batch for batch in batches if batch is not None]
    separate = [batch if batch.ndim > 2 else batch[None] for batch in given]
    return [mask.cpu().float().numpy() for batch in separate for mask in batch]


def separate_images(images: Any) -> list[np.ndarray]:
    """Every picture of an IMAGE batch, or of a list of them, as an array (height, width,
    channels)."""
    batches = images if isinstance(images, list) else [images]
    return [picture.cpu().float().numpy() for batch in batches for picture in batch]
