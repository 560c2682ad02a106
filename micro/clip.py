"""Micro CLIP: pictures and captions of the world in one space, for identity and text scores.

Trained on the world and on random subjects of it (never on the held-out concepts) with two
contrastive losses: picture with caption, as CLIP; and two pictures of one subject in different
scenes, so that the picture features tell subjects apart that no caption can.
"""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import weight_files as weights
from .autoencoder import to_model_range
from .concepts import random_identity
from .judges import soften, trunk
from .scenes import CLIP_TRAIN, scene_rng
from .text import END, CaptionEncoder, TextEncoder, Vocabulary
from .world import Scene, random_caption, random_scene, render

log = logging.getLogger(__name__)

WIDTHS = (48, 96, 192, 256)
FEATURES = 128


class MicroClip(nn.Module):
    """Two encoders into one space of 128 dimensions."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        layers: nn.Module | None = None,
        text: TextEncoder | None = None,
    ) -> None:
        """`layers`: pictures to features (B, 256, 4, 4); they and `text` are of the first world if
        not given."""
        super().__init__()
        self.vocabulary = vocabulary
        self.trunk = layers or trunk(WIDTHS)
        self.image_head = nn.Linear(WIDTHS[-1] * 16, FEATURES)
        self.text = text or TextEncoder(vocabulary.rows)
        self.text_head = nn.Linear(self.text.width, FEATURES)
        self.log_scale = nn.Parameter(torch.tensor(2.5))

    def images(self, x: Tensor) -> Tensor:
        """Unit features (B, 128) of pictures (B, 3, 64, 64) in -1..1."""
        return F.normalize(self.image_head(self.trunk(x).flatten(1)).float(), dim=-1)

    def texts(self, rows: Tensor) -> Tensor:
        """Unit features (B, 128) of token rows (B, T): the state at the first end token."""
        states = self.text(rows)
        end = (rows == self.vocabulary.row(END)).int().argmax(dim=1)
        return F.normalize(self.text_head(states[torch.arange(len(rows)), end]).float(), dim=-1)


def contrast(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE over a batch of pairs."""
    logits = scale * a @ b.T
    truth = torch.arange(len(a))
    return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2


def pair_of_scenes(rng: np.random.Generator) -> tuple[Scene, Scene]:
    """One subject twice, in two scenes; every other subject is a random one without words."""
    place, style = random_scene(rng), random_scene(rng)
    x = {"x": float(rng.uniform(21, 43)), "half": float(rng.uniform(16, 22))}
    first = replace(random_scene(rng), **x)
    if rng.random() < 0.5:
        first = replace(first, identity=random_identity(rng))
    second = replace(first, place=place.place, style=style.style, x=style.x, half=style.half)
    return first, replace(second, variant=place.variant)


def train_micro_clip(
    captions: CaptionEncoder,
    *,
    seed: int = 0,
    pairs: int = 10000,
    epochs: int = 5,
    rate: float = 1.5e-3,
) -> MicroClip:
    """A trained micro CLIP; pictures without words take part in the picture loss only."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    scenes = [pair_of_scenes(scene_rng(seed, CLIP_TRAIN, i)) for i in range(pairs)]
    pictures = np.stack([[render(scene)[0] for scene in pair] for pair in scenes])  # (N, 2, ...)
    model = MicroClip(captions.vocabulary).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2, fused=True)
    batch, done = 128, 0
    total = epochs * (pairs // batch)
    rng = np.random.default_rng(seed)
    for epoch in range(epochs):
        order = torch.randperm(pairs, generator=generator).numpy()
        for start in range(0, pairs - batch + 1, batch):
            index = order[start : start + batch]
            x = to_model_range(torch.from_numpy(pictures[index].reshape(-1, 64, 64, 3)))
            x = soften(x, generator).contiguous(memory_format=torch.channels_last)
            named = [j for j, i in enumerate(index) if scenes[i][0].identity is None]
            rows = captions([random_caption(scenes[index[j]][0], rng) for j in named])[:, :24]
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (done + 1) / 30) * (1 - done / total) + 1e-6
            with torch.autocast("cpu", torch.bfloat16):
                features = model.images(x).unflatten(0, (-1, 2))  # (B, 2, 128)
                text = model.texts(rows)
            scale = model.log_scale.exp().clamp(max=100)
            loss = contrast(features[:, 0], features[:, 1], scale)
            loss = loss + contrast(features[named, 0], text, scale)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            done += 1
        log.info("micro CLIP, epoch %d: loss %.4f", epoch + 1, float(loss.detach()))
    return model.eval()


class ClipScores:
    """Identity and text scores in the style of METHOD section 7, by the micro CLIP."""

    def __init__(self, model: MicroClip, captions: CaptionEncoder) -> None:
        self.model, self.captions = model, captions

    @torch.no_grad()
    def identity(self, photos: Tensor, drawn: Tensor) -> float:
        """Mean cosine over all pairs of photos and drawn pictures, (N, 64, 64, 3) uint8 each."""
        a, b = (self.model.images(to_model_range(x)) for x in (photos, drawn))
        return float((a @ b.T).mean())

    @torch.no_grad()
    def text(self, prompt: str, drawn: Tensor) -> float:
        """Mean cosine of a prompt, placeholder removed, with drawn pictures."""
        a = self.model.texts(self.captions([prompt])[:, :24])
        return float((a @ self.model.images(to_model_range(drawn)).T).mean())


def load_micro_clip(captions: CaptionEncoder, folder: Path | None = None) -> ClipScores:
    """The shipped micro CLIP; weights.WeightsError unless the file is the one of the card."""
    tensors, metadata = weights.load(weights.CLIP, folder or weights.FOLDER)
    model = MicroClip(Vocabulary([int(token) for token in metadata["vocabulary"].split()]))
    model.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    )
    return ClipScores(model.eval(), captions)
