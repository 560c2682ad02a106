"""Scenes: prompts that no photo shows, drawn by the stock nodes with the same noise every time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..attndb.viz.heatmaps import Cell
from ..devkit.in_process import Graph
from ..micro.sampling import GUIDANCE, SAMPLER, SCHEDULER
from ..micro.world import SIZE

Wires = tuple[Any, Any, Any]
"""MODEL, CLIP and VAE."""

SCENES = {
    "a photo of a {} in a forest": "forest",
    "a photo of a {} in front of a big green car in the desert at sunset": "car, desert",
    "a photo of a {} underwater": "underwater",
    "a sketch of a {} on the beach": "sketch, beach",
    "pixel art of a {} on a stage": "pixel art, stage",
    "a watercolour of a {} in the snow at night": "watercolour, snow",
}
"""Prompts, and their short names: of places, styles and second objects, which the embedded model
can draw; of what a subject wears or holds it draws a fifth (micro/weights/attndb-micro.md)."""
_MAPPED = (0, 1)
"""Scenes whose attention maps are shown."""


@dataclass(frozen=True)
class Scenes:
    """How the scenes are drawn."""

    seed: int
    """Of the first scene; of the next one it is the next."""
    steps: int
    """Of the sampler."""

    def drawn(self, wires: Wires, subject: str) -> list[Cell]:
        """A picture of each scene with the subject in it, under its short name."""
        _, clip, _ = wires
        cells = []
        for number, (scene, short) in enumerate(SCENES.items()):
            _, picture = self._draw(wires, _encoded(clip, scene.format(subject)), number)
            cells.append(Cell(short, picture[0]))
        return cells

    def mapped(self, graph: Graph, wires: Wires, words: tuple[str, str]) -> list[Cell]:
        """Of some scenes the picture, without a name, and where it looks for each word."""
        model, clip, vae = wires
        cells = []
        for number in _MAPPED:
            text = list(SCENES)[number].format(" ".join(words))
            watched, capture, positive = graph(
                "AttnDBCaptureAttention", model=model, clip=clip, text=text, words=", ".join(words)
            )
            latent, picture = self._draw((watched, clip, vae), positive, number)
            cells.append(Cell("", picture[0]))
            for word in words:
                mask = graph(
                    "AttnDBAttentionMaps",
                    capture=capture,
                    samples=latent,
                    image=picture,
                    words=word,
                    word=word,
                    mask_output="soft",
                )[1]
                cells.append(Cell(word, picture[0], mask[0]))
        return cells

    def _draw(self, wires: Wires, positive: Any, number: int) -> tuple[Any, torch.Tensor]:
        """Latent and picture (1, Y, X, 3) of a scene by KSampler and VAEDecode."""
        import nodes

        model, clip, vae = wires
        how = self.seed + number, self.steps, GUIDANCE, SAMPLER, SCHEDULER
        empty = nodes.EmptyLatentImage().generate(SIZE, SIZE, 1)[0]
        negative = _encoded(clip, "")
        latent = nodes.KSampler().sample(model, *how, positive, negative, empty, 1.0)[0]
        return latent, nodes.VAEDecode().decode(vae, latent)[0]


def _encoded(clip: Any, text: str) -> Any:
    import nodes

    return nodes.CLIPTextEncode().encode(clip, text)[0]
