"""What every training node does: its stages one after the other, and what they give."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..attndb.artifacts.concept import TrainedConcept
from ..attndb.config.data import DataConfig
from ..attndb.config.stage import StageConfig
from ..attndb.data.dataset import ConceptDataset
from ..attndb.training.loss_table import LossTable
from ..attndb.training.ranks import Ranks
from ..attndb.training.session import train_stage
from ..attndb.training.stage_request import StageRequest
from ..attndb.training.step_loss import StepLoss
from ..attndb.viz.loss_curve import loss_curve
from .host.model.concept_patches import apply_to_model
from .host.model.placeholders import apply_to_clip
from .host.ui.images import to_image
from .host.ui.plan import plan_of
from .host.ui.preview import PreviewSettings
from .host.ui.progress import NodeProgress
from .host.ui.watcher import NoWatcher, Watcher
from .host.workbench import HostWorkbench
from .training_options import NO_OPTIONS, TrainingOptions

log = logging.getLogger(__name__)


def with_shared(config: StageConfig, shared: Mapping[str, Any]) -> StageConfig:
    """The settings with what `shared_widgets` say; what these leave to a preset stays."""
    augmentation = shared["augmentation"]
    return config.with_(
        seed=shared["seed"],
        micro_batch=shared["micro_batch"],
        precision=shared["precision"],
        data=DataConfig(
            resolution=shared["resolution"] or config.data.resolution,
            augmentation=(config.data.augmentation if augmentation == "preset" else augmentation),
            mask_fill=shared["mask_fill"],
            latent_pool=shared["latent_pool"],
        ),
    )


@dataclass(frozen=True)
class Trained:
    """What a training node made."""

    concepts: tuple[TrainedConcept, ...]
    """The concept after each stage."""
    values: tuple[Any, ...]
    """Of `result_sockets`."""
    folder: str
    """Where the last stage's work lies, below the host's output directory."""


def train_stages(
    wires: tuple[Any, Any, Any],
    dataset: ConceptDataset,
    stages: Sequence[tuple[str, StageConfig]],
    name: str,
    *,
    category_tie: Any,
    checkpoint_every: int,
    options: TrainingOptions | None = None,
    preview: PreviewSettings | None = None,
    concept: TrainedConcept | None = None,
    watcher: Watcher | None = None,
    ranks: Ranks | None = None,
    preset: str = "",
) -> Trained:
    """Trains stages, by their titles, each on what the one before it learned. `wires`: MODEL, CLIP
    and VAE. `name`: of the whole, over its curve. `watcher`: who follows it without a page.
    `ranks`: the processes that train together; None: this one alone. `preset`: that the settings
    came from, if any."""
    options, watcher = options or NO_OPTIONS, watcher or NoWatcher()
    configs = [options.applied(config) for _, config in stages]
    if any(config.data.keep_subject for config in configs) and not dataset.masked:
        log.warning("keep_subject: no photo has a mask, so crops are cut as without it")
    plan = plan_of([title for title, _ in stages], configs)
    losses: list[StepLoss] = []
    concepts: list[TrainedConcept] = []
    with NodeProgress(plan) as node:
        bench = HostWorkbench(*wires, plan, preview, watcher, ranks, preset)
        for number, config in enumerate(configs):
            plan.begin(number)
            request = StageRequest(
                dataset=dataset,
                config=config,
                concept=concept,
                category_token=category_tie,
                title=plan.title,
                checkpoint_every=checkpoint_every,
                low_memory_if_needed=options.low_memory_if_needed,
                keep_state=options.keep_state,
                concepts_every=options.concepts_every,
                concepts_kept=options.concepts_kept,
            )
            concept, own = train_stage(bench, request)
            losses.extend(own)
            concepts.append(concept)
            watcher.stage(plan)
        assert concept is not None, "a node trains at least one stage"
        node.finished(concept.trigger)
    model, clip, _ = wires
    picture = loss_curve(LossTable.of(losses).curves, f"{name}: {dataset.placeholder}")
    values = (
        concept,
        apply_to_model(model, concept, 1.0, bench.reference(configs[-1], dataset)),
        apply_to_clip(clip, concept),
        to_image([picture]),
        {"loss": [loss.total for loss in losses]},
    )
    return Trained(tuple(concepts), values, plan.folder)
