"""Custom Diffusion: keys and values of cross-attention, and a word (Kumari et al. 2023)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from ..config.stage import StageConfig
from ..data.batch import Batch
from ..losses.totals import LossTotals
from ..models.conditioning import Embeddings
from ..models.protocol import Model
from .concept_learner import ConceptLearner
from .concept_method import ConceptMethod


class CustomDiffusionLearner(ConceptLearner):
    """L_diff, from which keys and values of a text's first token learn nothing: so the published
    code has it, for that token is the same in every text."""

    def __init__(self, model: Model, config: StageConfig, start: Embeddings) -> None:
        super().__init__(model, config, start)
        self._layers = [
            layer
            for name, layer in model.unet.named_modules()
            if name.endswith((".attn2.to_k", ".attn2.to_v"))
        ]
        self._held: list[RemovableHandle] = []

    def losses(self, part: Batch, totals: LossTotals) -> dict[str, Tensor]:
        """`denoising`, or `prior` for prior samples."""
        if not self._held:
            self._held = [layer.register_forward_hook(_first_held) for layer in self._layers]
        return super().losses(part, totals)

    def after_step(self) -> None:
        """The U-Net is as it was found; until now the backward pass may have run it again."""
        while self._held:
            self._held.pop().remove()

    def detach(self) -> None:
        """The same, also where a step broke off."""
        super().detach()
        self.after_step()


class CustomDiffusion(ConceptMethod):
    """What the text says to the image (to_k and to_v of every attn2) learns the subject together
    with the embedding of a word in front of the category, which begins as a rare one; prior samples
    keep the category (sections 3.1 and 3.2)."""

    learner = CustomDiffusionLearner
    version = 2  # in 1 the first token learned


def _first_held(_layer: object, _inputs: object, states_BTD: Tensor) -> Tensor:
    return torch.cat([states_BTD[:, :1].detach(), states_BTD[:, 1:]], dim=1)
