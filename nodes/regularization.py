"""The nodes of the cross-attention map regulariser: for our stages, and for the stock trainer."""

from __future__ import annotations

import logging
from typing import Any, get_args

from comfy_api.v0_0_2 import io

from ..attndb.attention.tied_words import tied_columns
from ..attndb.config import regularization as config
from ..attndb.config.choices import LayerChoice
from .errors import naming_node
from .host.capture.prompt import encode, prompt_words
from .host.capture.stock_training import TiedCaption, regularize_stock_training
from .regularization_choice import OWN, RegularizationChoice
from .socket_types import Regularization

log = logging.getLogger(__name__)


def _weight_widgets(summed: str, *, own: bool = False) -> list[io.Input]:
    """The regulariser's two weights; `summed`: over what it is. `own`: they can be left to the
    stages."""
    left = " -1: each stage's own." if own else ""
    return [
        io.Float.Input(
            "mean_weight",
            default=OWN if own else 2.0,
            min=OWN if own else 0.0,
            max=100000.0,
            step=0.1,
            tooltip="lambda_mu: weight of the squared difference of the maps' means. "
            f"{summed}{left}",
        ),
        io.Float.Input(
            "variance_weight",
            default=OWN if own else 5.0,
            min=OWN if own else 0.0,
            max=100000.0,
            step=0.1,
            tooltip="lambda_sigma: weight of the squared difference of their variances." + left,
        ),
    ]


class AttentionMapRegularization(io.ComfyNode):
    """Strength and place of the regulariser."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBAttentionMapRegularization",
            display_name="Attention Map Regularization",
            category="AttnDreamBooth/training",
            description="Ties the mean and variance of the new token's attention map to those of "
            "its category word. Published weights: 0.1 / 0 in stage 1, 2 / 5 in stages 2 and 3; at "
            "-1 each stage has its own, times strength. Both 0: no regularisation (an ablation).",
            search_aliases=["attention loss", "cross attention", "regularizer", "prompt ignored"],
            inputs=[
                *_weight_widgets(
                    "Summed over the batch, so its strength grows with the batch size.", own=True
                ),
                io.Combo.Input(
                    "layers",
                    options=list(get_args(LayerChoice)),
                    default="all",
                    tooltip="Which cross-attention layers of the U-Net are tied. Published: all.",
                    advanced=True,
                ),
                io.Boolean.Input(
                    "inside_mask",
                    default=False,
                    optional=True,  # prompts that were saved before it was there run as they did
                    tooltip="Take means and variances over the subject's pixels alone, where the "
                    "dataset has masks. Published: over all pixels.",
                    advanced=True,
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1000.0,
                    step=0.1,
                    optional=True,  # as above
                    tooltip="Factor on both weights, in every stage that this is connected to. 2: "
                    "a tie twice as strong, in Train Concept with every preset.",
                ),
            ],
            outputs=[
                Regularization.Output(
                    "regularization",
                    tooltip="Connect to a stage, or to Train Concept for all three stages.",
                )
            ],
        )

    @classmethod
    @naming_node
    def execute(
        cls,
        mean_weight: float,
        variance_weight: float,
        layers: LayerChoice,
        inside_mask: bool = False,
        strength: float = 1.0,
    ) -> io.NodeOutput:
        return io.NodeOutput(
            RegularizationChoice(
                mean_weight=mean_weight,
                variance_weight=variance_weight,
                strength=strength,
                layers=layers,
                inside_mask=inside_mask,
            )
        )


class RegularizeTrainLora(io.ComfyNode):
    """A MODEL whose attention stays tied while ComfyUI's own trainer trains on it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBRegularizeTrainLora",
            display_name="Regularize Attention (Train LoRA)",
            category="AttnDreamBooth/training",
            description="In front of ComfyUI's own Train LoRA: ties the attention map of your new "
            "word to that of its category word, so that the LoRA does not swallow the prompt. "
            "Drawing with this MODEL is unchanged.",
            search_aliases=["attention loss", "regularizer", "prompt ignored", "overfit"],
            is_input_list=True,
            inputs=[
                io.Model.Input("model", tooltip="The MODEL to train a LoRA on. It stays as it is."),
                io.Clip.Input("clip", tooltip="The CLIP that encodes the captions."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The caption, with both words: the text that Train LoRA gets. For a "
                    "caption per photo connect the list of them.",
                ),
                io.String.Input(
                    "token",
                    default="",
                    tooltip="The new word, as it stands in the text: sks, embedding:my-dog. "
                    "sks#2 is the second sks.",
                ),
                io.String.Input(
                    "category",
                    default="",
                    tooltip="The word that says what it is: dog. Empty: the word after the token.",
                ),
                *_weight_widgets(
                    "Summed over the samples of a step, so its strength grows with batch size and "
                    "accumulation."
                ),
            ],
            outputs=[
                io.Model.Output("model", tooltip="Connect to the model of Train LoRA."),
                io.Conditioning.Output(
                    "positive",
                    is_output_list=True,
                    tooltip="The captions encoded, exactly as CLIP Text Encode does it: connect to "
                    "the positive of Train LoRA.",
                ),
            ],
        )

    @classmethod
    @naming_node
    def execute(
        cls,
        model: list[Any],
        clip: list[Any],
        text: list[str],
        token: list[str],
        category: list[str],
        mean_weight: list[float],
        variance_weight: list[float],
    ) -> io.NodeOutput:
        node = str(cls.define_schema().display_name)
        weights = config.Regularization(
            mean_weight=mean_weight[0], variance_weight=variance_weight[0]
        )
        encoded = {caption: encode(clip[0], caption) for caption in dict.fromkeys(text)}
        positive = [encoded[caption] for caption in text]
        if not weights.active:
            return io.NodeOutput(model[0], positive)
        captions, problems = [], []
        for caption, conditioning in encoded.items():
            try:
                columns = tied_columns(prompt_words(clip[0], caption), token[0], category[0])
                captions.append(TiedCaption(caption, columns, conditioning))
            except ValueError as error:
                problems.append(f"{caption!r}: {error}")
        if not captions:
            raise ValueError(problems[0])
        for problem in problems:
            log.warning("%s: not tied in %s", node, problem)
        regularized = regularize_stock_training(
            model[0], captions, weights.mean_weight, weights.variance_weight, node
        )
        return io.NodeOutput(regularized, positive)


NODES: list[type[io.ComfyNode]] = [AttentionMapRegularization, RegularizeTrainLora]
