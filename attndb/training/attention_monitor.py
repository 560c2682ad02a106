"""AttentionMonitor: what the regulariser sees, looked at every n steps of a training.

One training photo with fixed noise at a few fixed timesteps is shown to the model of the moment,
without gradient: the maps of the placeholder and of the category, and their means and variances
over heads and pixels. It takes no part in the training: same weights, same losses, with and
without it.

Shapes: B timesteps, C attention columns, Y X latent pixels, P pixels of a layer, T tokens, E width
of a layer.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..artifacts.tensor_file import read_tensors, tensors_writer, text_writer, write_whole
from ..attention.column_statistics import column_statistics
from ..attention.layer_size import layer_size
from ..attention.prompt_words import Word
from ..attention.recorder import MapKey, MapRecorder
from ..attention.word_maps import MapSelection, word_maps_of
from ..data.tokens import TokenizedPrompt
from ..models.conditioning import Conditioning, Embeddings
from ..models.placement import placed
from ..models.protocol import Model
from ..viz.curves import Curve, CurvePanel, curves
from ..viz.grid import format_value, table
from ..viz.heatmaps import Cell, HeatmapStyle
from .attention_look import AttentionLook, Predict, Seen
from .out_of_memory import is_out_of_memory
from .step_loss import StepLoss
from .training import Training

log = logging.getLogger(__name__)

_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class AttentionMonitorSettings:
    """When to look, and at what noise."""

    every: int = 25
    """Steps between looks; before the first step and after the last one there is one too."""
    timesteps: tuple[int, ...] = (250, 500, 750)
    """Where on the noise schedule (0..999) to look; the maps are averaged over them."""
    seed: int = 0
    """Of the noise, the same at every look."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every = {self.every}: use 1 or more")
        if not self.timesteps or not all(0 <= t <= 999 for t in self.timesteps):
            raise ValueError(f"timesteps = {self.timesteps}: use numbers from 0 to 999")


@dataclass(frozen=True)
class AttentionReading:
    """What was seen after one step; each number is the mean over the layers."""

    step: int
    placeholder_mean: float
    placeholder_variance: float
    category_mean: float
    category_variance: float


class AttentionMonitor:
    """An observer of training steps that keeps maps and numbers in a folder of the run.

    `looks.jsonl` holds the numbers, `maps-<step>.safetensors` the maps (2, Y, X) of placeholder
    and category, `maps.png` both over the photo at up to eight looks, `curves.png` the numbers.
    A resumed training goes on with what is there. A folder that cannot be written, or a memory
    that is too small for a look, is a warning.
    """

    def __init__(
        self,
        settings: AttentionMonitorSettings,
        prompt: TokenizedPrompt,
        names: tuple[str, str],
        latent: Tensor,
        photo: Image.Image,
        total: int,
        folder: Path,
    ) -> None:
        """`names`: placeholder and category; `latent` (1, C, Y, X) of `photo`; `total` steps."""
        self._settings, self._prompt, self._names = settings, prompt, names
        self._sight = AttentionLook(latent, settings.timesteps, settings.seed)
        self._photo, self._total = photo, total
        self._folder = folder
        self._looks: dict[int, AttentionReading] = {}
        self._maps: dict[int, Tensor] = {}
        self._read()

    @property
    def looks(self) -> tuple[AttentionReading, ...]:
        """What was seen so far, by step."""
        return tuple(self._looks[step] for step in sorted(self._looks))

    def begin(self, model: Model, embeddings: Embeddings) -> None:
        """Looks at the model before the first step, unless that was done before: in fp32, so all of
        it has to go on the device for once, and off it again: the photos are encoded next."""

        def predict(z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
            with placed(model.unet, model.device):
                return model.denoise(z_t, t, conditioning)

        if 0 not in self._looks:
            self._look(0, model, predict, embeddings)

    def due(self, done: int) -> bool:
        """Every so many steps, and at the end."""
        return done == self._total or done % self._settings.every == 0

    def __call__(self, loss: StepLoss, training: Training) -> None:
        """Told after every step; looks when it is due, unless that was done before: a training that
        goes on may be told once more of the step it was stopped after."""
        done = loss.step + 1
        if self.due(done) and done not in self._looks:
            predict = training.learner.denoising.predict
            with training.as_result():
                self._look(done, training.model, predict, training.embeddings)

    def maps_picture(self) -> Image.Image:
        """The photo, and both maps over it at up to eight looks: a column for each."""
        steps = sorted(self._maps)
        if len(steps) > _SHOWN:
            places = np.linspace(0, len(steps) - 1, _SHOWN).round().astype(int)
            steps = [steps[place] for place in places]
        photo = torch.from_numpy(np.asarray(self._photo.convert("RGB"), np.float32) / 255)
        rows = []
        for index, name in enumerate(self._names):
            row = []
            for step in steps:
                heat = self._maps[step][index].float()
                caption = f"{name}, " + ("before" if step == 0 else f"step {step}")
                row.append(Cell(caption, photo, heat, format_value(float(heat.mean()))))
            rows.append(row)
        grid = table(rows, HeatmapStyle(cell=192, normalization="shared"))
        return Image.fromarray((grid.numpy() * 255).round().astype(np.uint8))

    def curves_picture(self) -> Image.Image:
        """Means and variances of both columns over the steps."""
        looks = self.looks
        steps = [look.step for look in looks]
        shown = {
            "mean": ("placeholder_mean", "category_mean"),
            "variance": ("placeholder_variance", "category_variance"),
        }
        panels = []
        for title, fields in shown.items():
            values = [[getattr(look, field) for look in looks] for field in fields]
            drawn = [Curve(n, steps, v) for n, v in zip(self._names, values, strict=True)]
            panels.append(CurvePanel(f"{title} of the attention map", drawn))
        return curves(panels)

    def _look(self, step: int, model: Model, predict: Predict, embeddings: Embeddings) -> None:
        try:
            self._see(step, model, predict, embeddings)
        except RuntimeError as error:
            if not is_out_of_memory(error):  # the training fits; looking at it must not end it
                raise
            log.warning("step %d: not enough memory to look at the attention maps", step)
            return
        self._write(step)

    def _see(self, step: int, model: Model, predict: Predict, embeddings: Embeddings) -> None:
        taken = self._sight(model, predict, self._prompt, embeddings)
        # as the files hold them, so that the picture is the same after a resume
        maps, look = self._mean_maps(taken).half(), self._numbers(step, taken)
        self._maps[step], self._looks[step] = maps, look

    def _mean_maps(self, taken: list[Seen]) -> Tensor:
        """Maps of placeholder and category, (2, Y, X), over layers, heads and timesteps."""
        height, width = self._sight.latent.shape[-2:]
        words = (
            Word(label=self._names[0], columns=self._prompt.placeholder),
            Word(label=self._names[1], columns=(self._prompt.category,)),
        )
        recorder = MapRecorder(words, latent_size=(height, width), slices=1)
        for layer, q_BPE, k_BTE in taken:
            size = layer_size((height, width), q_BPE.shape[1])
            now = torch.zeros(1, dtype=torch.long, device=q_BPE.device)
            recorder.add(MapKey(layer.name, *size), q_BPE, k_BTE, layer.heads, slice_index=now)
        return word_maps_of(recorder.finish(), MapSelection(layers="all")).maps.mean(dim=0)

    def _numbers(self, step: int, taken: list[Seen]) -> AttentionReading:
        means, variances = [], []
        for layer, q_BPE, k_BTE in taken:
            columns_BC = torch.tensor([self._prompt.columns], device=q_BPE.device)
            found = column_statistics(q_BPE, k_BTE, columns_BC.expand(len(q_BPE), -1), layer.heads)
            means.append(found.mean.mean(dim=0))
            variances.append(found.variance.mean(dim=0))
        mean_C, variance_C = torch.stack(means).mean(dim=0), torch.stack(variances).mean(dim=0)
        return AttentionReading(
            step,
            float(mean_C[:-1].mean()),
            float(variance_C[:-1].mean()),
            float(mean_C[-1]),
            float(variance_C[-1]),
        )

    def _read(self) -> None:
        numbers = self._folder / "looks.jsonl"
        if not numbers.is_file():
            return
        try:
            lines = numbers.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            log.warning("%s: earlier looks cannot be read: %s", self._folder, error)
            return
        for line in lines:
            try:
                look = AttentionReading(**json.loads(line))
                maps = read_tensors(self._folder / f"maps-{look.step:05d}.safetensors")[0]["maps"]
            except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
                log.warning("%s: an earlier look cannot be read: %s", self._folder, error)
                continue
            if maps.ndim == 3 and len(maps) == len(self._names) and 0 <= look.step <= self._total:
                self._looks[look.step], self._maps[look.step] = look, maps

    def _write(self, step: int) -> None:
        text = "".join(json.dumps(asdict(look)) + "\n" for look in self.looks)
        maps = tensors_writer({"maps": self._maps[step]}, {})
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(
                {
                    self._folder / f"maps-{step:05d}.safetensors": maps,
                    self._folder / "looks.jsonl": text_writer(text),
                    self._folder / "maps.png": lambda f: self.maps_picture().save(f, "PNG"),
                    self._folder / "curves.png": lambda f: self.curves_picture().save(f, "PNG"),
                }
            )
        except OSError as error:
            log.warning("the attention maps of step %d were not saved: %s", step, error)
