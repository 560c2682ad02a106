"""The gate before the diffusion model: what the autoencoder alone does to subjects it never saw."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .autoencoder import Autoencoder
from .concepts import CONCEPTS
from .stock import CODER_TEST, coder_scene, make_scenes, to_model_range, to_pictures
from .world import Rendered, render
from .world.vocabulary import STYLES

TOLERANCE = 12.0  # of 255: how far a part's mean colour may be off, in each channel on average
LEAST_PIXELS = 24  # a part that is seen with fewer has no colour worth measuring
PARTS_GOAL, PSNR_GOAL = 0.95, 29.0


def part_errors(
    drawn: NDArray[np.uint8], true: NDArray[np.uint8], parts: NDArray[np.uint8]
) -> dict[int, float]:
    """Role -> mean absolute difference of the part's mean colours (0..255), on one picture."""
    errors = {}
    for role in np.unique(parts[parts > 0]):
        where = parts == role
        if where.sum() >= LEAST_PIXELS:
            a, b = (x[where].astype(np.float64).mean(axis=0) for x in (drawn, true))
            errors[int(role)] = float(np.abs(a - b).mean())
    return errors


def psnr(drawn: NDArray[np.uint8], true: NDArray[np.uint8], where: NDArray[np.bool_]) -> float:
    """Peak signal-to-noise ratio in dB on the pixels of a mask."""
    error = (drawn[where].astype(np.float64) - true[where].astype(np.float64)) ** 2
    return float(10 * np.log10(255**2 / max(error.mean(), 1e-9)))


@dataclass(frozen=True)
class GateRow:
    """One group of pictures: share of parts in tolerance, mean error, PSNR all over and inside."""

    name: str
    pictures: int
    parts: float
    error: float
    psnr: float
    object_psnr: float

    @property
    def passed(self) -> bool:
        return self.parts >= PARTS_GOAL and self.object_psnr >= PSNR_GOAL


def measure(
    name: str, scenes: list[Rendered], copy: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
) -> GateRow:
    """`copy` gives the pictures (N, H, W, 3) as they come back from the autoencoder."""
    errors: list[float] = []
    whole, inside = [], []
    for start in range(0, len(scenes), 32):
        part = scenes[start : start + 32]
        drawn = copy(np.stack([s.picture for s in part]))
        for picture, scene in zip(drawn, part, strict=True):
            errors += part_errors(picture, scene.picture, scene.parts).values()
            whole.append(psnr(picture, scene.picture, np.ones(scene.parts.shape, dtype=bool)))
            inside.append(psnr(picture, scene.picture, scene.parts > 0))
    share = float(np.mean(np.array(errors) <= TOLERANCE))
    return GateRow(
        name,
        len(scenes),
        share,
        float(np.mean(errors)),
        float(np.mean(whole)),
        float(np.mean(inside)),
    )


def through(model: Autoencoder) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """Pictures -> the same through encoder and decoder."""

    @torch.no_grad()
    def copy(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return to_pictures(model.decode(model.encode(to_model_range(pictures))))

    return copy


def gate(model: Autoencoder, *, seed: int = 0, count: int = 240) -> list[GateRow]:
    """Rows for the held-out concepts, for random identities of another stream, and for styles."""
    model.eval()
    copy = through(model)
    photos = [photo for concept in CONCEPTS.values() for photo, _ in concept.photos()]
    scenes = make_scenes(seed, CODER_TEST, count, coder_scene)
    strangers = [scene for i, scene in enumerate(scenes) if i % 4]
    rows = [measure("photos of the held-out concepts", photos, copy)]
    drawn = [render(scene) for scene in strangers]
    rows.append(measure("random identities, all styles", drawn, copy))
    for style in STYLES:
        own = [d for d, s in zip(drawn, strangers, strict=True) if s.style == style]
        rows.append(measure(f"of these, {style}", own, copy))
    return rows


def gate_table(rows: list[GateRow]) -> str:
    """The rows as Markdown, as in the model card."""
    lines = [
        "| pictures | number | parts within 12 of 255 | mean error | PSNR | PSNR in the object |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.pictures} | {row.parts:.1%} | {row.error:.1f} "
        f"| {row.psnr:.1f} dB | {row.object_psnr:.1f} dB |"
        for row in rows
    ]
    return "\n".join(lines)
