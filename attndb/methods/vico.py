"""ViCo: pictures that look at a photo of the subject while they are drawn (Hao et al. 2023).

Shapes: B batch, T tokens, 2 words: the placeholder, and the end of the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..config.stage import StageConfig
from ..data.batch import Batch
from ..data.draws import step_generator
from ..data.tokens import TokenizedText
from ..losses.totals import LossTotals
from ..losses.word_map import word_map_loss
from ..models.conditioning import Embeddings
from ..models.image_attention import ImageAttention, ImageBlocks, columns
from ..models.protocol import Model
from .concept_learner import ConceptLearner
from .concept_method import ConceptMethod
from .method import ParameterGroup

MODULE = "vico."
"""In front of the names of the image blocks' weights, among what a method adds to the model."""


class ViCoLearner(ConceptLearner):
    """L_diff + lambda sum_l MSE(A_V / max A_V, sg(A_EOT / max A_EOT)), with a reference image for
    every sample."""

    def __init__(self, model: Model, config: StageConfig, start: Embeddings) -> None:
        if len(start) != 1:
            raise ValueError(
                f"this model reads {len(start)} text encoders ({', '.join(start)}), and ViCo was "
                "made for one: use SD 1.5 or SD 2.x, or another method"
            )
        super().__init__(model, config, start)
        self._blocks = _new_blocks(model, config.seed)
        self._attention = ImageAttention(model.unet, model.text_attention(), self._blocks)
        self.groups: Sequence[ParameterGroup] = [
            *self.groups,
            ParameterGroup(
                "image attention",
                dict(self._blocks.named_parameters()),
                config.image_attention.learning_rate,
            ),
        ]

    def losses(self, part: Batch, totals: LossTotals) -> dict[str, Tensor]:
        """`denoising`, and `attention_map` of the samples' references, its weight included."""
        assert part.reference is not None, "ViCo's samples come with references"
        device, weight = self.model.device, self.config.image_attention.map_weight
        words = [columns(len(p.tokens), _words(p), device) for p in part.prompts]
        conditioning = replace(self._text(part.prompts), reference=part.reference)
        self._attention.begin(len(part), torch.stack(words))
        denoising = self.denoising.loss(part, conditioning, totals.values)
        tied = word_map_loss(seen.maps for seen in self._attention.seen.values())
        share = len(part) / self.config.batch_size
        return {"denoising": denoising, "attention_map": weight * share * tied}

    def after_step(self) -> None:
        """Whoever asks the model between steps asks the frozen one."""
        self._attention.rest()

    def added(self) -> dict[str, Tensor]:
        """The image blocks."""
        return {f"{MODULE}{name}": value for name, value in self._blocks.tensors().items()}

    def detach(self) -> None:
        """The U-Net is as it was found, also where a step broke off."""
        super().detach()
        self._attention.rest()


class ViCo(ConceptMethod):
    """The frozen model is given blocks that look at another photo of the subject, where that looks
    at the subject's word; what learns is the blocks and the word."""

    learner = ViCoLearner
    loss_names: Sequence[str] = ("denoising", "attention_map")


def _new_blocks(model: Model, seed: int) -> ImageBlocks:
    if model.device.type == "meta":
        with model.device:
            return ImageBlocks(model.unet, model.text_attention())
    generator = step_generator("image attention", seed)
    return ImageBlocks(model.unet, model.text_attention(), generator).to(model.device)


def _words(prompt: TokenizedText) -> tuple[list[int], list[int]]:
    """Places of the placeholder, and of the end of the prompt: CLIP's end token has the largest id,
    and its first place counts."""
    ids = [-1 if token is None else token for token in prompt.tokens]
    return [i for i, token in enumerate(prompt.tokens) if token is None], [ids.index(max(ids))]
