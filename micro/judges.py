"""Five small classifiers of scenes, trained on the world alone, that judge what the model draws.

They never see a picture of the model: only renderings, slightly blurred, noised and moved, from a
stream of scenes that the model was not trained on.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .autoencoder import to_model_range
from .scenes import JUDGE_TEST, JUDGE_TRAIN, make_scenes, scene_rng
from .world import CATEGORIES, COLOURS, PATTERNS, PLACES, STYLES, Scene, random_scene, render

log = logging.getLogger(__name__)

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "category": tuple(CATEGORIES),
    "colour": tuple(COLOURS),
    "pattern": tuple(PATTERNS),
    "place": tuple(PLACES),
    "style": tuple(STYLES),
}
WIDTHS = (32, 64, 128, 160)


def trunk(widths: tuple[int, ...] = WIDTHS) -> nn.Sequential:
    """Pictures (B, 3, 64, 64) -> features (B, widths[-1], 4, 4)."""
    layers: list[nn.Module] = []
    before = 3
    for width in widths:
        layers += [
            nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        before = width
    return nn.Sequential(*layers)


class Judge(nn.Module):
    """One attribute: its own trunk and its own head, so that judges share nothing."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.trunk = trunk()
        self.head = nn.Linear(WIDTHS[-1] * 16, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of pictures (B, 3, 64, 64) in -1..1."""
        return self.head(F.dropout(self.trunk(x).flatten(1), 0.2, self.training))


class Judges(nn.Module):
    """The five judges."""

    def __init__(self) -> None:
        super().__init__()
        self.judges = nn.ModuleDict({name: Judge(len(v)) for name, v in ATTRIBUTES.items()})

    @torch.no_grad()
    def predict(self, pictures: Tensor) -> dict[str, list[str]]:
        """Each attribute's value for pictures (B, H, W, 3) uint8 or (B, 3, 64, 64) in -1..1."""
        x = to_model_range(pictures) if pictures.dtype == torch.uint8 else pictures
        return {
            name: [ATTRIBUTES[name][i] for i in judge(x).argmax(dim=1).tolist()]
            for name, judge in self.judges.items()
        }


def labels(scenes: list[Scene]) -> dict[str, Tensor]:
    return {
        name: torch.tensor([values.index(getattr(scene, name)) for scene in scenes])
        for name, values in ATTRIBUTES.items()
    }


def judge_scenes(seed: int, stream: int, count: int) -> tuple[np.ndarray, list[Scene]]:
    """Pictures (count, 64, 64, 3) uint8 and scenes of the judges' own stream.

    Every other scene leaves the fixed places and sizes of the training set, so that no judge
    relies on them.
    """
    scenes = make_scenes(seed, stream, count)
    for i in range(0, count, 2):
        rng = scene_rng(seed, stream, i)
        moved = {
            "x": float(rng.uniform(21, 43)),
            "y": float(rng.uniform(33, 37)),
            "half": float(rng.uniform(16, 22)),
        }
        scenes[i] = random_scene(scene_rng(seed, stream, i), **moved)
    return np.stack([render(scene)[0] for scene in scenes]), scenes


def soften(x: Tensor, generator: torch.Generator) -> Tensor:
    """Small blur, noise and contrast change: drawn pictures are never as clean as rendered."""
    b = len(x)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = 0.9 * torch.rand(b, 1, 1, 1, generator=generator)
    x = x + (torch.rand(b, 1, 1, 1, generator=generator) < 0.5) * share * (blurred - x)
    gain = 1 + 0.12 * (torch.rand(b, 1, 1, 1, generator=generator) - 0.5)
    level = 0.1 * torch.rand(b, 1, 1, 1, generator=generator)
    return x * gain + level * torch.randn(x.shape, generator=generator)


def train_judges(
    *, seed: int = 0, scenes: int = 16000, epochs: int = 6, rate: float = 2e-3
) -> tuple[Judges, dict[str, float]]:
    """Trained judges and their accuracy on 2,000 unseen clean scenes of the training layout."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    pictures, train = judge_scenes(seed, JUDGE_TRAIN, scenes)
    truth = labels(train)
    model = Judges().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2, fused=True)
    batch, done, total = 128, 0, epochs * (scenes // 128)
    for epoch in range(epochs):
        order = torch.randperm(scenes, generator=generator)
        for start in range(0, scenes - batch + 1, batch):
            index = order[start : start + batch]
            x = to_model_range(torch.from_numpy(pictures[index.numpy()]))
            x = soften(x, generator).contiguous(memory_format=torch.channels_last)
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 - done / total) + 1e-6
            with torch.autocast("cpu", torch.bfloat16):
                logits = {name: judge(x) for name, judge in model.judges.items()}
            loss = sum(F.cross_entropy(logits[n].float(), truth[n][index]) for n in ATTRIBUTES)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            done += 1
        log.info("judges, epoch %d: loss %.4f", epoch + 1, float(loss.detach()))
    model.eval()
    return model, held_out_accuracy(model, seed)


def held_out_accuracy(model: Judges, seed: int = 0, count: int = 2000) -> dict[str, float]:
    """Share of right answers on clean scenes that no training has seen."""
    test = make_scenes(seed, JUDGE_TEST, count)
    right = dict.fromkeys(ATTRIBUTES, 0)
    for start in range(0, count, 250):
        part = test[start : start + 250]
        guesses = model.predict(torch.from_numpy(np.stack([render(s)[0] for s in part])))
        for name in ATTRIBUTES:
            right[name] += sum(
                guess == getattr(s, name) for guess, s in zip(guesses[name], part, strict=True)
            )
    return {name: count_right / count for name, count_right in right.items()}


def load_judges(folder: Path | None = None) -> Judges:
    """The shipped judges; weights.WeightsError unless the file is the one of the card."""
    from . import weight_files as weights

    tensors, _ = weights.load(weights.JUDGES, folder or weights.FOLDER)
    model = Judges()
    model.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    )
    return model.eval()
