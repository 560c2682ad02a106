"""ConceptLearner: an embedding, weights of the U-Net or both, under the denoising loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..config.stage import StageConfig
from ..data.batch import Batch
from ..losses.totals import LossTotals
from ..models.conditioning import Embeddings
from ..models.protocol import Model
from .base_weights import BaseWeights
from .denoising import Denoising, TextStates
from .method import Learned, ParameterGroup, Part
from .trained_weights import TrainedWeights, trained_weights


class ConceptLearner:
    """What the settings' method trains (config/methods.py), with L_diff alone. Methods whose loss
    has more parts extend it."""

    def __init__(self, model: Model, config: StageConfig, start: Embeddings) -> None:
        self.model, self.config = model, config
        self._learns = learns = "embedding" in config.trains
        self._start = {name: vectors.detach().clone() for name, vectors in start.items()}
        self._vectors = {
            name: nn.Parameter(
                vectors.detach().clone().float().to(model.device), requires_grad=learns
            )
            for name, vectors in start.items()
        }
        self._weights: TrainedWeights = trained_weights(model.unet, config)
        named = {"embedding": self._vectors if learns else {}, "unet": self._weights.parameters}
        self.groups: Sequence[ParameterGroup] = [
            ParameterGroup(name, parameters) for name, parameters in named.items() if parameters
        ]
        encoders = model.text_encoders.values() if learns else ()
        self.modules: Sequence[nn.Module] = [model.unet, *encoders]
        self.denoising = Denoising(model, config)
        self._text = TextStates(model, self._vectors, self.denoising.bf16)
        self.base: BaseWeights | None = None
        model.unet.requires_grad_(False)
        for parameter in self._weights.parameters.values():
            parameter.requires_grad_(True)

    @property
    def embeddings(self) -> Embeddings:
        """The placeholder's vectors of this moment."""
        return self._vectors

    def losses(self, part: Batch, totals: LossTotals) -> dict[str, Tensor]:
        """`denoising`, or `prior` for prior samples."""
        conditioning = self._text(part.prompts).with_sizes(part.sizes)
        if part.is_prior:
            assert self._weights.parameters, "no gradient in the embedding"
            prior = self.denoising.loss(part, conditioning, totals.prior_values)
            return {"prior": part.prior_weight * prior}
        return {"denoising": self.denoising.loss(part, conditioning, totals.values)}

    def parts(self, batch: Batch, totals: LossTotals, micro_batch: int) -> list[Part]:
        """The samples, and then the prior samples."""
        return [partial(self.losses, part, totals) for part in batch.parts(micro_batch)]

    def before_step(self, index: int) -> None:
        """Nothing."""

    def after_step(self) -> None:
        """Nothing."""

    def added(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def learned(self) -> Learned:
        """Vectors, the change of weights, and what is added."""
        vectors = {n: v.detach().float().cpu().clone() for n, v in self._vectors.items()}
        facts = {"embedding_cosine": self._cosine(vectors)} if self._learns else {}
        return Learned(vectors, self._weights.delta(), modules=self.added(), facts=facts)

    def _cosine(self, vectors: Mapping[str, Tensor]) -> float:
        """Of the vectors with where they started; the least of several encoders' (the paper's
        observation on TI+DB, section 3: its embedding hardly moves)."""
        pairs = [(vectors[name], start.float().cpu()) for name, start in self._start.items()]
        return min(float(torch.cosine_similarity(now, then).min()) for now, then in pairs)

    def detach(self) -> None:
        """Nothing requires a gradient any more; weights are fp32 and of the module itself."""
        self.model.unet.requires_grad_(False)
        self._weights.release()
        self._text.clear()
