"""Classifiers of scenes, trained on the world alone, that judge what the model draws.

They never see a picture of the model: only renderings, slightly blurred, noised and moved, from a
stream of scenes that the model was not trained on. Two trunks share nothing: one looks at the
whole scene, one at the objects.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .epochs import train_in_epochs
from .layout import channels_last
from .stock import JUDGE_TEST, JUDGE_TRAIN, make_scenes, rendered, to_model_range
from .world import Scene, Words, random_identity, random_scene, render
from .world.vocabulary import (
    CATEGORIES,
    COLOURS,
    HATS,
    HELD,
    LIGHTS,
    PATTERNS,
    PLACES,
    RELATIONS,
    STYLES,
)

NONE = "none"
SCENE_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "place": tuple(PLACES),
    "style": tuple(STYLES),
    "light": tuple(LIGHTS),
}
OBJECT_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "category": CATEGORIES,
    "colour": tuple(COLOURS),
    "pattern": tuple(PATTERNS),
    "second": (NONE, *CATEGORIES),
    "relation": (NONE, *RELATIONS),
    "hat": (NONE, *HATS),
    "held": (NONE, *HELD),
}
ATTRIBUTES = SCENE_ATTRIBUTES | OBJECT_ATTRIBUTES
FINE = ("hat", "held")
IGNORED = -100  # label of what has no name: cross-entropy leaves it out


def attributes_of(scene: Scene) -> dict[str, str | None]:
    """The true value of each attribute; None where no name of the list fits."""
    look, friend = scene.look, scene.companion
    return {
        "place": scene.place,
        "style": scene.style,
        "light": scene.light,
        "category": scene.category,
        "colour": scene.words.colour if scene.words.colour in COLOURS else None,
        "pattern": look.pattern,
        "second": friend.category if friend else NONE,
        "relation": friend.relation if friend else NONE,
        "hat": look.hat if look.hat in HATS else None if look.hat else NONE,
        "held": look.held or NONE,
    }


def labels(scenes: list[Scene]) -> dict[str, Tensor]:
    """Attribute -> class numbers (N,), IGNORED where there is none."""
    rows = [attributes_of(scene) for scene in scenes]
    out = {}
    for name, values in ATTRIBUTES.items():
        numbers = [IGNORED if row[name] is None else values.index(str(row[name])) for row in rows]
        out[name] = torch.tensor(numbers)
    return out


def _stack(widths: tuple[int, ...], extra: int, before: int = 3) -> nn.Sequential:
    """Halving convolutions; the layer of number `extra` is followed by one that keeps the size."""
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        for stride in (2, 1) if i == extra else (2,):
            layers += [
                nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            before = width
    return nn.Sequential(*layers)


class Judges(nn.Module):
    """One answer for each attribute of a picture.

    Hats and held things are a few pixels wide: their heads see the map before the last halving.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scene = _stack((24, 48, 64, 96), extra=2)  # at half size: 64 -> 4 x 4
        self.object = _stack((32, 64, 112), extra=2)  # 128 -> 16 x 16
        self.close = _stack((160,), extra=-1, before=112)  # -> 8 x 8
        self.fine = nn.Sequential(
            nn.Conv2d(112, 96, 3, padding=1, bias=False),
            nn.BatchNorm2d(96),
            nn.ReLU(inplace=True),
            nn.Conv2d(96, 20, 1),
            nn.ReLU(inplace=True),
        )  # 16 x 16
        lengths = {name: 96 * 16 for name in SCENE_ATTRIBUTES}
        lengths |= {name: 20 * 256 if name in FINE else 160 * 64 for name in OBJECT_ATTRIBUTES}
        self.heads = nn.ModuleDict(
            {name: nn.Linear(n, len(ATTRIBUTES[name])) for name, n in lengths.items()}
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits (B, classes) of each attribute for pictures (B, 3, 128, 128) in -1..1."""
        objects = self.object(x)
        maps = (self.scene(F.avg_pool2d(x, 2)), self.close(objects), self.fine(objects))
        whole, close, fine = (F.dropout(m.flatten(1), 0.2, self.training) for m in maps)
        return {
            name: head(whole if name in SCENE_ATTRIBUTES else fine if name in FINE else close)
            for name, head in self.heads.items()
        }

    @torch.no_grad()
    def predict(self, pictures: NDArray[np.uint8], batch: int = 100) -> dict[str, list[str]]:
        """Each attribute's value for pictures (N, 128, 128, 3)."""
        found: dict[str, list[str]] = {name: [] for name in ATTRIBUTES}
        for start in range(0, len(pictures), batch):
            logits = self(to_model_range(pictures[start : start + batch]))
            for name, values in ATTRIBUTES.items():
                found[name] += [values[i] for i in logits[name].argmax(dim=1).tolist()]
        return found


def judge_scene(rng: np.random.Generator, index: int) -> Scene:
    """Every other scene leaves the fixed places and sizes; free colours as in the base world."""
    if index % 2:
        return random_scene(rng)
    moved = {"x": float(rng.uniform(44, 84)), "half": float(rng.uniform(29, 39))}
    if index % 8 == 0:
        moved |= {"look": random_identity(rng), "words": Words()}
    return random_scene(rng, **moved)


def soften(x: Tensor, generator: torch.Generator) -> Tensor:
    """Small blur, noise and contrast change: drawn pictures are never as clean as rendered."""
    b = len(x)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = 0.9 * torch.rand(b, 1, 1, 1, generator=generator)
    x = x + (torch.rand(b, 1, 1, 1, generator=generator) < 0.5) * share * (blurred - x)
    gain = 1 + 0.12 * (torch.rand(b, 1, 1, 1, generator=generator) - 0.5)
    level = 0.1 * torch.rand(b, 1, 1, 1, generator=generator)
    return x * gain + level * torch.randn(x.shape, generator=generator)


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Settings of the judges' training; recorded in the weights file."""

    scenes: int = 40000
    epochs: int = 10
    batch: int = 64
    rate: float = 2e-3  # peak, after a warm-up of 100 steps; linear to zero
    seed: int = 0


def train_judges(folder: Path, config: JudgeConfig, bf16: bool = False) -> Judges:
    """Trained judges; `folder` keeps the rendered scenes. `bf16` halves a step's time where the
    processor has such products."""
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    pictures, scenes = rendered(folder, config.seed, JUDGE_TRAIN, config.scenes, judge_scene)
    truth = labels(scenes)
    model = channels_last(Judges())

    def loss_of(index: Tensor) -> Tensor:
        x = soften(to_model_range(pictures[index.numpy()]), generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(x.contiguous(memory_format=torch.channels_last))
        losses = [F.cross_entropy(logits[n].float(), truth[n][index]) for n in ATTRIBUTES]
        return torch.stack(losses).nan_to_num().sum()

    return train_in_epochs("judges", model, config.scenes, config, loss_of, generator, warmup=100)


def held_out_accuracy(model: Judges, seed: int = 0, count: int = 2000) -> dict[str, float]:
    """Share of right answers on clean scenes that no training has seen, among those with one."""
    scenes = make_scenes(seed, JUDGE_TEST, count)
    pictures = np.stack([render(scene).picture for scene in scenes])
    model.eval()
    seen = model.predict(pictures)
    shares = {}
    for name in ATTRIBUTES:
        pairs = [
            (guess, value)
            for guess, scene in zip(seen[name], scenes, strict=True)
            if (value := attributes_of(scene)[name]) is not None
        ]
        shares[name] = sum(guess == value for guess, value in pairs) / len(pairs)
    return shares
