"""What every training node gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ..attndb.artifacts.concept import TrainedConcept
from ..attndb.training.step_loss import StepLoss
from ..attndb.viz.loss_curve import loss_curve
from .host.model.concept_patches import apply_to_model
from .host.model.placeholders import apply_to_clip
from .host.ui.images import to_image


def training_result(
    model: Any, clip: Any, concept: TrainedConcept, losses: Sequence[StepLoss], title: str
) -> io.NodeOutput:
    """The values of `result_sockets`."""
    picture = loss_curve(
        [loss.denoising for loss in losses],
        [loss.regularization for loss in losses],
        title,
        prior=[loss.prior for loss in losses],
    )
    return io.NodeOutput(
        concept,
        apply_to_model(model, concept, 1.0),
        apply_to_clip(clip, concept),
        to_image([picture]),
        {"loss": [loss.total for loss in losses]},
    )
