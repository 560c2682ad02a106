"""AttnDreamBooth: one of its three stages (Pang et al. 2024, section 4).

Shapes: B batch, C attention columns, V the placeholder's vectors, D text width.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

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
from .concept_learner import ConceptLearner


class AttnDreamBooth:
    """Stage 1 trains the embedding, 2 the cross-attention layers, 3 the U-Net; each with the
    regulariser that ties the placeholder's attention map to the category's."""

    loss_names: Sequence[str] = ("denoising", "attention_map", "prior")

    def __init__(self, config: StageConfig) -> None:
        self.config = config

    def attach(self, model: Model, start: Embeddings) -> AttnDreamBoothLearner:
        """Ready to train from these vectors on."""
        return AttnDreamBoothLearner(model, self.config, start)


class AttnDreamBoothLearner(ConceptLearner):
    """L = L_diff + L_reg, and the prior samples' L_diff without it: their prompt has no placeholder
    whose map could be tied (DreamBooth: Ruiz et al. 2022, section 3.2)."""

    def __init__(self, model: Model, config: StageConfig, start: Embeddings) -> None:
        super().__init__(model, config, start)
        self._attached = ExitStack()
        layers = choose_layers(model.text_attention(), config.regularization.layers)
        self._tap = CrossAttentionTap(layers)
        if config.regularization.active:
            self._attached.enter_context(self._tap)
        self._columns: dict[tuple[int, ...], Tensor] = {}

    def losses(self, part: Batch, totals: LossTotals) -> dict[str, Tensor]:
        """`denoising` and `attention_map`, or `prior` (METHOD: sections 1 and 3)."""
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

    def detach(self) -> None:
        """Also takes the tap off."""
        self._attached.close()
        super().detach()

    def _columns_of(self, batch: Batch) -> Tensor:
        """(B, C) token columns of the placeholder and, last, the category."""
        for columns in {prompt.columns for prompt in batch.prompts} - self._columns.keys():
            self._columns[columns] = torch.tensor(columns, device=self.model.device)
        return torch.stack([self._columns[prompt.columns] for prompt in batch.prompts])
