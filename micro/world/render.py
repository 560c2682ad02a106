"""Scene -> picture with its truth. Same scene, same bytes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .paint import paint_object
from .scene import Companion, Look, Scene, stands
from .shapes import HELD
from .styles import STYLE_PAINTERS, Layers, block_roles


@dataclass(frozen=True)
class Rendered:
    """A picture (SIZE, SIZE, 3) uint8 and what is where in it."""

    picture: NDArray[np.uint8]
    parts: NDArray[np.uint8]  # (SIZE, SIZE) role of the subject's part that is seen; 0 elsewhere
    companion: NDArray[np.bool_]  # (SIZE, SIZE)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(SIZE, SIZE) the subject without what it holds."""
        return (self.parts > 0) & (self.parts != HELD)


def companion_look(friend: Companion) -> Look:
    """Plain and smooth, with limbs in a darker shade."""
    r, g, b = (round(value * 0.7) for value in friend.rgb)
    return Look(body=friend.rgb, second=(r, g, b))


def render(scene: Scene) -> Rendered:
    """The picture, the subject's parts and the companion's mask."""
    stand, beside = stands(scene)
    subject = paint_object(scene.category, scene.look, stand)
    objects = [(subject, stand)]
    nobody = np.zeros(subject.cover.shape, dtype=bool)
    if scene.companion is not None and beside is not None:
        look = companion_look(scene.companion)
        other = paint_object(scene.companion.category, look, beside)
        in_front = scene.companion.relation == "next to"
        objects.insert(1 if in_front else 0, (other, beside))
    layers = Layers(scene.place, scene.variant, scene.light, tuple(objects))
    picture = STYLE_PAINTERS[scene.style](layers)
    parts, beside_mask = subject.roles, nobody
    if len(objects) == 2:
        behind, front = (item[0] for item in objects)
        hidden = front.cover > 0.5
        if front is subject:
            beside_mask = (behind.cover > 0.5) & ~hidden
        else:
            parts, beside_mask = np.where(hidden, 0, parts).astype(np.uint8), hidden
    if scene.style == "pixel":
        parts = block_roles(parts, subject.cover)
    return Rendered(np.clip(np.round(picture), 0, 255).astype(np.uint8), parts, beside_mask)
