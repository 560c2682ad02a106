"""Photos in pools of latents: batches of tiny pictures over an encoder that counts its calls."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from attndreambooth.attndb.config.data import DataConfig
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.data.dataset import ConceptDataset
from attndreambooth.attndb.data.latent_cache import LatentCache
from attndreambooth.attndb.data.latent_pool import PoolSettings
from attndreambooth.attndb.data.photo import Photo
from attndreambooth.attndb.data.photo_batches import PhotoBatches
from attndreambooth.devkit.tiny_model import prompt_of

PHOTOS, CROPS, AT_ONCE = 3, 5, 2
MASK = Image.new("L", (70, 80), 200)


class Encoder:
    """Means of 8 x 8 pixels; as autoencoders do, it rounds differently for another count."""

    def __init__(self):
        self.sizes = []

    def __call__(self, pixels):
        self.sizes.append(len(pixels))
        blocks = torch.nn.functional.avg_pool2d(pixels.permute(0, 3, 1, 2), 8)
        return torch.cat([blocks, blocks[:, :1]], dim=1) * (1 + 1e-6 * len(pixels))


def photos(shade=0, mask=None):
    pictures = np.random.default_rng(shade).integers(0, 255, (PHOTOS, 80, 70, 3), dtype=np.uint8)
    return tuple(Photo(str(i), Image.fromarray(p), mask=mask) for i, p in enumerate(pictures))


def batches(
    folder=None, *, encoder=None, seed=0, stage=2, steps=9, of=None, changes=None, **settings
):
    if folder is not None:
        limit = settings.pop("limit", 1e9)
        cache = LatentCache(folder, settings.pop("identity", {"vae": "00"}), limit)
        settings["cache"] = cache
    config = StageConfig(
        stage=stage,
        steps=steps,
        batch_size=4,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        data=DataConfig(**{"resolution": 64, "latent_pool": CROPS, **(changes or {})}),
        seed=seed,
    )
    dataset = ConceptDataset(of or photos(), "dog", "<x>")
    settings = PoolSettings(**{"at_once": AT_ONCE, **settings})
    encoder = encoder or Encoder()
    return PhotoBatches(dataset, (prompt_of(),), config, 1000, encoder, (), settings), encoder


def filled(*given, **settings):
    """Latents and weights of nine steps after filling, and the sizes of the calls it took."""
    source, encoder = batches(*given, **settings)
    assert source.fills and source.fill()
    found = [source[step] for step in range(9)]
    values = [b.latents for b in found] + [b.mask for b in found if b.mask is not None]
    return torch.cat([v.flatten() for v in values]), encoder.sizes


def files(folder):
    return sorted(folder.glob("*.safetensors"))
