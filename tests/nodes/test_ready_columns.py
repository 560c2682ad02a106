"""Columns are ready before the first is drawn: none holds a copy of weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from support.concepts import concept_with
from torch import Tensor

from attndreambooth.attndb.artifacts.weight_delta import LowRank
from attndreambooth.attndb.config.applied import Applied
from attndreambooth.attndb.memory.meta_trace import Ledger
from attndreambooth.attndb.models.cross_attention import cross_attention_layers
from attndreambooth.attndb.models.image_attention import ImageBlocks
from attndreambooth.attndb.models.space_time_mapper import SpaceTimeMapper

APPLIED = (Applied(1.0, 0.0), Applied(0.6, 0.2))
SMALL = 128 * 1024
"""Bytes of vectors, and of the latents of a photo."""


@pytest.fixture(scope="module")
def wires(run) -> tuple[Any, Any, Any]:
    return run("AttnDBLoadMicroModel")[:3]


def weights(unet: Any) -> dict[str, Tensor]:
    """Of all its linear layers."""
    layers = unet.named_modules()
    return {f"{n}.weight": x.weight for n, x in layers if isinstance(x, torch.nn.Linear)}


def made(kind: str, wires: tuple[Any, Any, Any]) -> Any:
    """A concept that changes every linear layer, or with what its method adds."""
    from attndreambooth.nodes.host.model.families import family
    from attndreambooth.nodes.host.model.placeholders import embedding_widths

    model, clip, _ = wires
    unet, [width] = model.model.diffusion_model, embedding_widths(clip).values()
    if kind == "whole":
        delta: Any = {n: torch.ones_like(w, dtype=torch.float16) for n, w in weights(unet).items()}
    elif kind == "LoRA":
        half = partial(torch.ones, dtype=torch.float16)
        shapes = {n: tuple(w.shape) for n, w in weights(unet).items()}
        delta = {n: LowRank(half(o, 8), half(8, i), (o, i)) for n, (o, i) in shapes.items()}
    else:
        delta = {}
    layers, modules = cross_attention_layers(unet), {}
    if kind == "ViCo":
        modules = {f"vico.{n}": v for n, v in ImageBlocks(unet, layers).tensors().items()}
    elif kind == "NeTI":
        own = SpaceTimeMapper(width, len(layers)).tensors()
        modules = {f"neti.{n}": v for n, v in own.items()}
    plain = concept_with(delta, family(model))
    return dataclasses.replace(plain, vectors=torch.ones(1, width), modules=modules)


def there(concept: Any, wires: tuple[Any, Any, Any]) -> Iterator[Tensor]:
    """What is in memory without a column."""
    for module in wires[0].model, wires[1].cond_stage_model:
        yield from [*module.parameters(), *module.buffers()]
    yield from [*concept.embeddings.values(), *concept.modules.values()]
    for change in concept.delta.values():
        yield from (change.up, change.down) if isinstance(change, LowRank) else (change,)


def nbytes(change: Tensor | LowRank) -> int:
    parts = (change.up, change.down) if isinstance(change, LowRank) else (change,)
    return sum(part.nbytes for part in parts)


@pytest.mark.parametrize("kind", ["whole", "LoRA", "ViCo", "NeTI"])
def test_a_column_that_waits_holds_no_copy_of_weights(wires, kind):
    """NeTI's mapper is small, and is made anew."""
    from attndreambooth.nodes import columns

    concept = made(kind, wires)
    ways = APPLIED[: 1 if kind == "NeTI" else 2]
    asked = columns.columns_of({"concept": concept}, (), before=False, applied=ways)
    side = wires[0].model.latent_format.latent_channels
    photo = {"samples": torch.zeros(1, side, 16, 16)}
    columns._with_concept(wires, asked[0], photo)  # the concept's digest is worked out once
    with Ledger(there(concept, wires)) as ledger:
        ready = [columns._with_concept(wires, column, photo) for column in asked]
    made_anew = sum(v.nbytes for v in concept.modules.values()) if kind == "NeTI" else 0
    assert len(ready) == len(ways) and ledger.live < made_anew + SMALL
    copied = [*concept.modules.values(), *concept.delta.values()]
    assert kind == "NeTI" or sum(nbytes(v) for v in copied) > 4 * SMALL
