"""`python benchmarks/crops.py`: what a training crop of a phone photo costs, and what reducing it
first changes in the crop."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a program: it goes on as a part of the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "devkit"))
    from pack import run_program

    run_program(__file__)

import argparse
import logging
import time

import numpy as np
import torch
from PIL import Image

from ..attndb.data.augmentation import Crop, as_floats, draw_crop, render
from ..attndb.data.large_photo import LargePhoto

log = logging.getLogger(__name__)

SIZES = {"12 megapixels": (4032, 3024), "48 megapixels": (8064, 6048)}


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="crops.py", description=__doc__)
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--samples", type=int, default=8)
    options = parser.parse_args(arguments)
    generator = torch.Generator().manual_seed(0)
    crops = [draw_crop("reference", generator) for _ in range(options.samples)]
    for name, size in SIZES.items():
        _measure(name, scene(*size), crops, options.resolution)
    return 0


def scene(width: int, height: int) -> Image.Image:
    """A picture with as much contrast in each octave, down to single pixels, as photos have."""
    draw = np.random.default_rng(0)
    levels = np.zeros((height, width, 3), dtype=np.float32)
    side = 2
    while side <= 2 * max(width, height):
        shape = (max(1, side * height // width), side, 3)
        octave = (draw.standard_normal(shape) * 24 + 128).clip(0, 255).astype(np.uint8)
        picture = Image.fromarray(octave).resize((width, height), Image.Resampling.BICUBIC)
        levels += np.asarray(picture, dtype=np.float32) - 128
        side *= 2
    return Image.fromarray((levels * 0.8 + 128).clip(0, 255).astype(np.uint8))


def _measure(name: str, image: Image.Image, crops: list[Crop], resolution: int) -> None:
    before, old = _timed(lambda: [render(image, crop, resolution) for crop in crops])
    large = LargePhoto(image, resolution)
    once, _ = _timed(lambda: [large.render_bytes(Crop(angle=1.0)), large.render_bytes(Crop())])
    after, new = _timed(lambda: [as_floats(*large.render_bytes(crop)) for crop in crops])
    log.info(
        "%s at %d px: %.3f s a sample before, %.3f s now, and %.2f s once a photo (CPU time)",
        name,
        resolution,
        before / len(crops),
        after / len(crops),
        once,
    )
    turned = [(a, b) for a, b, crop in zip(old, new, crops, strict=True) if crop.angle]
    differ = [255 * np.abs(a[0] - b[0])[(a[1] * b[1]) > 0] for a, b in turned]
    contrast = np.mean([255 * a[0][a[1] > 0].std() for a, _ in turned])
    log.info(
        "  turned crops differ by %.2f of 255 on average, 99 %% of the values by less than %.1f "
        "(spread of the picture: %.0f); %.2f %% of the mask differs",
        np.mean([d.mean() for d in differ]),
        np.mean([np.percentile(d, 99) for d in differ]),
        contrast,
        100 * np.mean([(a[1] != b[1]).mean() for a, b in turned]),
    )


def _timed(work):
    start = time.process_time()
    result = work()
    return time.process_time() - start, result
