"""AttnDreamBooth: one of its three stages (Pang et al. 2024, section 4).

Shapes: B batch, C attention columns, V the placeholder's vectors, D text width.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor

from ..attention.tap import CrossAttentionTap
from ..config.stage import StageConfig
from ..data.batch import Batch
from ..losses.attention_map import attention_map_loss
from ..losses.totals import LossTotals
from ..models.conditioning import Embeddings
from ..models.cross_attention import choose_layers
from ..models.protocol import Model
from .base_weights import BaseWeights
from .concept_learner import ConceptLearner
from .concept_method import ConceptMethod
from .method import Part


class AttnDreamBoothLearner(ConceptLearner):
    """L = L_diff + L_reg, and the prior samples' L_diff without it: their prompt has no placeholder
    whose map could be tied (DreamBooth: Ruiz et al. 2022, section 3.2). As asked for, the weights
    are held to the base model's (docs/formulas.md, Beyond the paper)."""

    def __init__(self, model: Model, config: StageConfig, start: Embeddings) -> None:
        super().__init__(model, config, start)
        self._attached = ExitStack()
        layers = choose_layers(model.text_attention(), config.regularization.layers)
        self._tap = CrossAttentionTap(layers)
        if config.regularization.active:
            self._attached.enter_context(self._tap)
        self._columns: dict[tuple[int, ...], Tensor] = {}
        held = any(config.held_to_the_base.values())
        base = self.base = BaseWeights(model, self._weights) if held else None
        bf16 = self.denoising.bf16
        self._distance = base.anchor() if base and config.weight_anchor else None
        self._as_the_base = base.prediction(bf16) if base and config.prior_prediction else None

    def parts(self, batch: Batch, totals: LossTotals, micro_batch: int) -> list[Part]:
        """Also the samples once more for the base's prediction; and the weight anchor, once: after
        the samples, so that its gradient is there for one weight after the other."""
        parts = super().parts(batch, totals, micro_batch)
        if self._as_the_base is not None:
            for part in batch.for_base().parts(micro_batch):
                parts.append(partial(self.losses, part, totals))
        if self._distance is not None:
            parts.append(self.anchor)
        return parts

    def anchor(self) -> dict[str, Tensor]:
        """`weight_anchor`: lambda sum_i ||theta_i - theta_i,base||^2."""
        assert self._distance is not None, "only with weight_anchor"
        return {"weight_anchor": self.config.weight_anchor * self._distance()}

    def losses(self, part: Batch, totals: LossTotals) -> dict[str, Tensor]:
        """`denoising` and `attention_map`, or `prior`, or `prior_prediction`."""
        if part.of_base:
            self._tap.pause()
            return {"prior_prediction": self._distance_to_the_base(part, totals)}
        if part.is_prior:
            self._tap.pause()
            return super().losses(part, totals)
        weights = self.config.regularization
        subject = part.subject if weights.inside_mask else None
        with self._tap.watching(self._columns_of(part), subject) as statistics:
            shares = super().losses(part, totals)
        if weights.active:
            layers = list(statistics.values())
            shares["attention_map"] = attention_map_loss(
                layers, weights.mean_weight, weights.variance_weight
            )
        return shares

    def _distance_to_the_base(self, part: Batch, totals: LossTotals) -> Tensor:
        assert self._as_the_base is not None, "only with prior_prediction"
        text, values = self._text(part.prompts).with_sizes(part.sizes), totals.base_values
        distance = self.denoising.distance(self._as_the_base, part, text, values)
        return self.config.prior_prediction * distance

    def after_step(self) -> None:
        """Whoever asks the model between steps (a preview, a look at the maps) is not watched:
        its pictures are of other shapes, and nothing is learned from them."""
        self._tap.pause()

    def detach(self) -> None:
        """Also takes the tap off."""
        self._attached.close()
        super().detach()

    def _columns_of(self, batch: Batch) -> Tensor:
        """(B, C) token columns of the placeholder and, last, the category."""
        for columns in {prompt.columns for prompt in batch.prompts} - self._columns.keys():
            self._columns[columns] = torch.tensor(columns, device=self.model.device)
        return torch.stack([self._columns[prompt.columns] for prompt in batch.prompts])


class AttnDreamBooth(ConceptMethod):
    """Stage 1 trains the embedding, 2 the cross-attention layers, 3 the U-Net; each with the
    regulariser that ties the placeholder's attention map to the category's."""

    learner = AttnDreamBoothLearner

    def __init__(self, config: StageConfig) -> None:
        super().__init__(config)
        held = [name for name, weight in config.held_to_the_base.items() if weight]
        self.loss_names: Sequence[str] = ("denoising", "attention_map", "prior", *held)
