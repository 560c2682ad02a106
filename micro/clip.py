"""Micro CLIP: pictures and captions of the world in one space, for the field's usual scores.

Trained on the world and on random subjects of it (never on the held-out concepts) with two
contrastive losses: picture with caption, as CLIP; and two pictures of one subject in different
scenes, so that the picture features tell subjects apart that no caption can.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .epochs import train_in_epochs
from .judges import soften
from .layout import channels_last
from .stock import CLIP_TRAIN, render_to, scene_rng, to_model_range
from .text import END, SHORT, CaptionEncoder, TextEncoder, Vocabulary
from .world import Scene, Words, random_caption, random_identity, random_scene, render

WIDTHS = (32, 64, 128, 192, 256)  # 128 px -> 4 x 4
FEATURES = 128


def _trunk() -> nn.Sequential:
    """Pictures (B, 3, 128, 128) -> features (B, 256, 4, 4)."""
    layers: list[nn.Module] = []
    before = 3
    for width in WIDTHS:
        layers += [
            nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        before = width
    return nn.Sequential(*layers)


class MicroClip(nn.Module):
    """Two encoders into one space of 128 dimensions."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.trunk = _trunk()
        self.image_head = nn.Linear(WIDTHS[-1] * 16, FEATURES)
        self.text = TextEncoder(vocabulary.rows)
        self.text_head = nn.Linear(self.text.width, FEATURES)
        self.log_scale = nn.Parameter(torch.tensor(2.5))

    def images(self, x: Tensor) -> Tensor:
        """Unit features (B, 128) of pictures (B, 3, 128, 128) in -1..1."""
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
    fixed = {"x": float(rng.uniform(44, 84)), "half": float(rng.uniform(28, 40))}
    if rng.random() < 0.5:
        fixed |= {"look": random_identity(rng), "words": Words()}
    first, second = random_scene(rng, **fixed), random_scene(rng)
    look = replace(first.look, held=second.look.held, held_colour=second.look.held_colour)
    words = replace(first.words, held=second.words.held)
    return first, replace(second, category=first.category, look=look, words=words)


def has_words(scene: Scene) -> bool:
    """Whether a caption describes the subject, so that the text loss counts it."""
    return scene.words.colour is not None


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Settings of the training; recorded in the weights file."""

    pairs: int = 12000
    epochs: int = 8
    batch: int = 128  # pairs
    rate: float = 1.5e-3  # peak, after a warm-up of 30 steps; linear to zero
    seed: int = 0


def rendered_pairs(
    folder: Path, config: ClipConfig
) -> tuple[NDArray[np.uint8], list[tuple[Scene, Scene]]]:
    """Pictures (pairs, 2, 128, 128, 3), memory-mapped, and scenes; rendered when missing."""
    pairs = [pair_of_scenes(scene_rng(config.seed, CLIP_TRAIN, i)) for i in range(config.pairs)]
    path = folder / f"pairs-{config.seed}-{config.pairs}.npy"
    render_to(path, [scene for pair in pairs for scene in pair])
    pictures = np.load(path, mmap_mode="r")
    return pictures.reshape(len(pairs), 2, *pictures.shape[1:]), pairs


def train_micro_clip(
    folder: Path,
    captions: CaptionEncoder,
    config: ClipConfig,
    bf16: bool = False,
) -> MicroClip:
    """A trained micro CLIP; pictures without words take part in the picture loss only."""
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    pictures, pairs = rendered_pairs(folder, config)
    model = channels_last(MicroClip(captions.vocabulary))

    def loss_of(index: Tensor) -> Tensor:
        chosen = index.numpy()
        both = np.array(pictures[chosen]).reshape(-1, *pictures.shape[2:])
        x = soften(to_model_range(both), generator)
        named = [j for j, k in enumerate(chosen) if has_words(pairs[k][0])]
        texts = [random_caption(pairs[chosen[j]][0], rng) for j in named]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            features = model.images(x.contiguous(memory_format=torch.channels_last))
            text = model.texts(captions(texts)[:, :SHORT])
        features = features.unflatten(0, (-1, 2))  # (B, 2, 128)
        scale = model.log_scale.exp().clamp(max=100)
        subjects = contrast(features[:, 0], features[:, 1], scale)
        return subjects + contrast(features[named, 0], text, scale)

    return train_in_epochs("micro CLIP", model, config.pairs, config, loss_of, generator, warmup=30)


@torch.no_grad()
def held_out_retrieval(
    model: MicroClip, captions: CaptionEncoder, seed: int = 0, count: int = 256
) -> dict[str, float]:
    """Share of held-out pairs found among `count`: subject by subject, caption by picture."""
    rng = np.random.default_rng((seed, 1))
    pairs = [pair_of_scenes(scene_rng(seed, CLIP_TRAIN, 10**6 + i)) for i in range(count)]
    pictures = np.stack([render(scene).picture for pair in pairs for scene in pair])
    model.eval()
    features = model.images(to_model_range(pictures)).unflatten(0, (-1, 2))
    named = [i for i, pair in enumerate(pairs) if has_words(pair[0])]
    rows = captions([random_caption(pairs[i][0], rng) for i in named])[:, :SHORT]
    by_picture = (features[:, 0] @ features[:, 1].T).argmax(dim=1) == torch.arange(count)
    by_text = (features[named, 0] @ model.texts(rows).T).argmax(dim=1) == torch.arange(len(named))
    return {"subject": float(by_picture.float().mean()), "text": float(by_text.float().mean())}


class ClipScores:
    """Identity and text scores (docs/evaluation.md, Numbers) by the micro CLIP."""

    def __init__(self, model: MicroClip, captions: CaptionEncoder) -> None:
        self.model, self.captions = model, captions

    @torch.no_grad()
    def identity(self, photos: NDArray[np.uint8], drawn: NDArray[np.uint8]) -> float:
        """Mean cosine over all pairs of photos and drawn pictures, (N, 128, 128, 3) each."""
        a, b = (self.model.images(to_model_range(x)) for x in (photos, drawn))
        return float((a @ b.T).mean())

    @torch.no_grad()
    def text(self, prompt: str, drawn: NDArray[np.uint8]) -> float:
        """Mean cosine of a prompt, placeholder removed, with drawn pictures (N, 128, 128, 3)."""
        a = self.model.texts(self.captions([prompt])[:, :SHORT])
        return float((a @ self.model.images(to_model_range(drawn)).T).mean())
