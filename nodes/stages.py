"""The training nodes: one per stage, and one for all three."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..attndb.artifacts.concept import TrainedConcept
from ..attndb.config.choices import require_choice
from ..attndb.config.optimizer import OptimizerConfig
from ..attndb.config.presets import PRESETS, paper
from ..attndb.config.stage import StageConfig
from .errors import naming_node
from .host.ui.preview import PreviewSettings
from .regularization_choice import RegularizationChoice
from .socket_types import Concept, Regularization
from .sockets import (
    extra_sockets,
    recipe_widgets,
    result_sockets,
    shared_widgets,
    wire_sockets,
)
from .training import train_stages, with_shared
from .training_options import TrainingOptions

CATEGORY = "AttnDreamBooth/training"


def _changed(
    base: StageConfig, regularization: RegularizationChoice | None, shared: dict[str, Any]
) -> StageConfig:
    config = with_shared(base, shared)
    if regularization is None:
        return config
    return config.with_(regularization=regularization.applied(base.regularization))


class _Stage(io.ComfyNode):
    """What the three stage nodes share: a published default and the run."""

    STAGE = 0
    NODE_ID = ""
    NAME = ""
    ABOUT = ""
    ALIASES: tuple[str, ...] = ()

    @classmethod
    def define_schema(cls) -> io.Schema:
        published = paper()[cls.STAGE - 1]
        weights = published.regularization
        inputs: list[io.Input] = [
            *wire_sockets(),
            *recipe_widgets(published),
            *shared_widgets(published.data.resolution),
        ]
        if cls.STAGE == 1:
            inputs.append(
                io.Int.Input(
                    "vectors",
                    default=1,
                    min=1,
                    max=16,
                    tooltip="Vectors of the new token. Published: 1. More hold more detail and "
                    "take more places of the 77 that a prompt has.",
                    advanced=True,
                )
            )
        inputs += [
            Regularization.Input(
                "regularization",
                optional=True,
                tooltip=f"Weights of the attention map regulariser. Not connected: the published "
                f"{weights.mean_weight:g} / {weights.variance_weight:g}.",
            ),
            *extra_sockets(),
            Concept.Input(
                "concept",
                optional=True,
                tooltip="The concept so far. "
                + (
                    "Connect one to train its embedding further."
                    if cls.STAGE == 1
                    else "Not connected: the placeholder starts untrained (an ablation)."
                ),
            ),
        ]
        return io.Schema(
            node_id=cls.NODE_ID,
            display_name=cls.NAME,
            category=CATEGORY,
            description=cls.ABOUT,
            search_aliases=[*cls.ALIASES, "train", "fine-tune", "finetune", "personalization"],
            inputs=inputs,
            outputs=result_sockets(),
        )

    @classmethod
    @naming_node
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        dataset: Any,
        steps: int,
        learning_rate: float,
        batch_size: int,
        category_tie: str,
        checkpoint_every: int,
        vectors: int = 1,
        regularization: RegularizationChoice | None = None,
        options: TrainingOptions | None = None,
        preview: PreviewSettings | None = None,
        concept: TrainedConcept | None = None,
        **shared: Any,
    ) -> io.NodeOutput:
        published = paper()[cls.STAGE - 1]
        config = _changed(published, regularization, shared).with_(
            steps=steps,
            batch_size=batch_size,
            vectors=vectors,
            optimizer=OptimizerConfig(learning_rate=learning_rate),
        )
        trained = train_stages(
            (model, clip, vae),
            dataset,
            [(cls.NAME, config)],
            cls.NAME,
            category_tie=category_tie,
            checkpoint_every=checkpoint_every,
            options=options,
            preview=preview,
            concept=concept,
        )
        return io.NodeOutput(*trained.values)


class LearnEmbedding(_Stage):
    """Stage 1."""

    STAGE = 1
    NODE_ID = "AttnDBStage1LearnEmbedding"
    NAME = "Stage 1: Learn Embedding"
    ABOUT = (
        "Learns the new token's embedding, so that it sits among the other words of a prompt. The "
        "U-Net and the text encoder stay frozen. Published: 60 steps, rate 1e-3, batch 8."
    )
    ALIASES = ("textual inversion", "train embedding", "token", "new word")


class TrainCrossAttention(_Stage):
    """Stage 2."""

    STAGE = 2
    NODE_ID = "AttnDBStage2TrainCrossAttention"
    NAME = "Stage 2: Train Cross-Attention"
    ABOUT = (
        "Learns the new token's attention map by training the cross-attention layers alone. "
        "Published: 100 steps, rate 2e-5, batch 8."
    )
    ALIASES = ("custom diffusion", "attention map")


class TrainUNet(_Stage):
    """Stage 3."""

    STAGE = 3
    NODE_ID = "AttnDBStage3TrainUNet"
    NAME = "Stage 3: Train U-Net"
    ABOUT = (
        "Learns the subject's identity by training the whole U-Net. Published: 500 steps, rate "
        "2e-6, batch 8 (fast: 200 steps, rate 1e-5, batch 4)."
    )
    ALIASES = ("dreambooth", "train lora", "identity")


class AllStages(io.ComfyNode):
    """The whole recipe in one node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBAllStages",
            display_name="Train Concept",
            category=CATEGORY,
            description="Teaches the model your subject: AttnDreamBooth, all three stages one "
            "after the other, by a preset. Two are published: paper (60 + 100 + 500 steps) and "
            "fast (60 + 100 + 200); others are LoRAs, for SDXL or for the toy model.",
            search_aliases=[
                *(
                    "attndreambooth",
                    "all stages",
                    "train",
                    "training",
                    "trainer",
                    "fine-tune",
                    "finetune",
                    "dreambooth",
                    "teach",
                ),
                *("personalization", "personalize", "train lora", "train concept", "subject"),
                *("face", "character", "style", "textual inversion", "embedding"),
            ],
            essentials_category="Image Generation",
            inputs=[
                *wire_sockets(),
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    default="paper",
                    tooltip="paper: the published recipe. fast: a shorter third stage, very close "
                    "for short prompts, slightly worse for complex ones. lora: the paper's as a "
                    "LoRA of rank 16, for small GPUs and small files, not measured. micro: the toy "
                    "model's. micro-turbo: the same in less than a quarter of the computing, "
                    "micro-lora: as a LoRA. "
                    "sdxl, sdxl-lora: for SDXL, derived from the paper's, not measured.",
                ),
                *shared_widgets(None),
                Regularization.Input(
                    "regularization",
                    optional=True,
                    tooltip="Changes the attention map regulariser in all three stages. Not "
                    "connected: the preset's own weights in each.",
                ),
                *extra_sockets(),
            ],
            outputs=[
                *result_sockets(),
                Concept.Output(
                    "concepts",
                    is_output_list=True,
                    tooltip="The concept after stage 1, 2 and 3: to Compare Concepts.",
                ),
            ],
        )

    @classmethod
    @naming_node
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        dataset: Any,
        preset: str,
        category_tie: str,
        checkpoint_every: int,
        regularization: RegularizationChoice | None = None,
        options: TrainingOptions | None = None,
        preview: PreviewSettings | None = None,
        **shared: Any,
    ) -> io.NodeOutput:
        require_choice("preset", preset, tuple(PRESETS))
        configs = [_changed(base, regularization, shared) for base in PRESETS[preset]()]
        trained = train_stages(
            (model, clip, vae),
            dataset,
            [(f"Stage {config.stage} of 3", config) for config in configs],
            "AttnDreamBooth",
            category_tie=category_tie,
            checkpoint_every=checkpoint_every,
            options=None if options is None else options.for_preset(),
            preview=preview,
            preset=preset,
        )
        return io.NodeOutput(*trained.values, list(trained.concepts))


NODES: list[type[io.ComfyNode]] = [LearnEmbedding, TrainCrossAttention, TrainUNet, AllStages]
