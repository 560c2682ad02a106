"""NeTI: a word for every timestep and layer, given by a small mapper (Alaluf et al. 2023).

Shapes: B batch, L text attention layers, N = B L texts, W the mapper's hidden width, D text width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..config.stage import StageConfig
from ..data.batch import Batch
from ..data.draws import step_generator
from ..losses.totals import LossTotals
from ..models.conditioning import Conditioning, Embeddings
from ..models.precision import autocast
from ..models.protocol import Model
from ..models.space_time_mapper import SpaceTimeMapper, nested_dropout
from .concept_learner import ConceptLearner
from .concept_method import ConceptMethod
from .method import ParameterGroup, Part

MODULE = "neti."
"""In front of the names of the mapper's weights, among what a method adds to the model."""


class NeTILearner(ConceptLearner):
    """L_diff of the denoiser, each of whose layers reads a text of its own."""

    def __init__(self, model: Model, config: StageConfig, start: Embeddings) -> None:
        if len(start) != 1:
            raise ValueError(
                f"this model reads {len(start)} text encoders ({', '.join(start)}), and NeTI's "
                "mapper is for one: use SD 1.5 or SD 2.x, or another method"
            )
        super().__init__(model, config, start)
        [(self._encoder, vectors)] = start.items()
        self._layers = [layer.name for layer in model.text_attention()]
        self._mapper = SpaceTimeMapper(
            vectors.shape[1],
            len(self._layers),
            bypass=config.mapper.bypass,
            norm=1.0 if vectors.is_meta else float(vectors[0].norm()),
            generator=step_generator("mapper", config.seed),
        ).to(model.device)
        self.groups: Sequence[ParameterGroup] = [
            ParameterGroup("mapper", dict(self._mapper.named_parameters()))
        ]
        self.modules: Sequence[nn.Module] = [model.unet, *model.text_encoders.values()]
        self._step = 0

    def before_step(self, index: int) -> None:
        """Decides the draws of nested dropout."""
        self._step = index

    def losses(self, part: Batch, totals: LossTotals) -> dict[str, Tensor]:
        """`denoising`, of the first samples of a batch."""
        return self._losses(part, totals, 0)

    def parts(self, batch: Batch, totals: LossTotals, micro_batch: int) -> list[Part]:
        """The samples; each part knows where in the batch it begins. Of a batch in several shapes
        a part in the middle may be a short one."""
        parts: list[Part] = []
        first = 0
        for part in batch.parts(micro_batch):
            parts.append(partial(self._losses, part, totals, first))
            first += len(part)
        return parts

    def _losses(self, part: Batch, totals: LossTotals, first: int) -> dict[str, Tensor]:
        conditioning = self._conditioning(part, first)
        return {"denoising": self.denoising.loss(part, conditioning, totals.values)}

    def _conditioning(self, part: Batch, first: int) -> Conditioning:
        """Keys' and values' text for every layer, at the samples' own timesteps."""
        device, count = self.model.device, len(self._layers)
        t_N = part.timesteps.repeat_interleave(count)
        layer_N = torch.arange(count, device=device).repeat(len(part))
        keep_NW = self._kept(first, len(part)).flatten(0, 1).to(device)
        vector_ND, bypass_ND = self._mapper(t_N, layer_N, keep_NW)
        prompts = [prompt for prompt in part.prompts for _ in self._layers]
        with autocast(device, self.denoising.bf16):
            keys, values = self.model.encode_words(
                prompts,
                {self._encoder: vector_ND[:, None]},
                {} if bypass_ND is None else {self._encoder: bypass_ND[:, None]},
            )
        keys_BLTD, values_BLTD = (
            states[self._encoder].unflatten(0, (-1, count)) for states in (keys, values)
        )
        layers = {
            name: (keys_BLTD[:, index], values_BLTD[:, index])
            for index, name in enumerate(self._layers)
        }
        return Conditioning({self._encoder: keys_BLTD[:, 0]}, layers=layers)

    def _kept(self, first: int, samples: int) -> Tensor:
        """(B, L, W); drawn for the whole batch, so that its parts do not matter."""
        whole = max(self.config.batch_size, first + samples)
        generator = step_generator("nested dropout", self.config.seed, self._step)
        share = self.config.mapper.nested_dropout
        return nested_dropout(whole, len(self._layers), share, generator)[first : first + samples]

    def added(self) -> dict[str, Tensor]:
        """The mapper; the word's own vector stays as it began."""
        return {f"{MODULE}{name}": value for name, value in self._mapper.tensors().items()}


class NeTI(ConceptMethod):
    """The frozen model is told the subject by another vector at each timestep and in each layer;
    what learns is the mapper that gives them. The word's own embedding stays the category's."""

    learner = NeTILearner
    loss_names: Sequence[str] = ("denoising",)

    def __init__(self, config: StageConfig) -> None:
        super().__init__(config)
        # in 1 nested dropout depended on the micro-batch where a batch has several shapes
        self.version = 2 if config.data.aspect_buckets else 1
