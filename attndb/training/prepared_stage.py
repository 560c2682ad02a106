"""PreparedStage: a stage that can be trained, with all that is known before anything is loaded."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from ..artifacts.clip_layer import layer_name, trained_layer
from ..data.tokens import TokenizedText
from .announcement import say_what_is_trained
from .stage_request import StageRequest
from .texts import Texts, texts_of
from .workbench import Workbench

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedStage:
    """A stage that can be trained: its parts were checked, and fit each other."""

    bench: Workbench
    request: StageRequest
    """What was asked for, without what this stage does not use."""
    texts: Texts
    identity: dict[str, Any]
    """The workbench's, of this dataset."""


def prepare(bench: Workbench, request: StageRequest) -> PreparedStage:
    """The stage that was asked for, told in the log. ValueError, with the remedy, if it cannot be
    trained at this workbench."""
    _check(bench, request)
    request, prior = _with_its_prior(bench, request)
    texts = texts_of(bench, request, prior)
    say_what_is_trained(request, texts)
    stage = PreparedStage(bench, request, texts, bench.identity(request.dataset))
    _warn_of_another_base(stage)
    _warn_of_another_layer(stage)
    return stage


def _check(bench: Workbench, request: StageRequest) -> None:
    config, dataset = request.config, request.dataset
    vectors = config.vectors if "embedding" in config.trains else None
    bench.check(dataset, request.concept, vectors)
    if config.regularization.inside_mask and not dataset.masked:
        raise ValueError(
            "inside_mask is on in Attention Map Regularization, and the dataset has no masks: give "
            "the photos masks in the dataset node (e.g. from Mask Subject), or turn it off"
        )


def _with_its_prior(
    bench: Workbench, request: StageRequest
) -> tuple[StageRequest, TokenizedText | None]:
    """The request with the prior images that it uses, and their prompt. Where an embedding alone is
    trained there are none: it is not in their prompt."""
    prior, title = request.dataset.prior, request.title
    if prior is None:
        return request, None
    if not request.config.trains_denoiser:
        log.info(
            "%s: the %d prior images are not used here: they have no gradient in the embedding",
            title,
            len(prior.images),
        )
        return replace(request, dataset=request.dataset.without_prior()), None
    prompt = bench.tokenize_prior(prior.prompt)
    log.info(
        "%s: prior preservation on %d images of %r, weight %g",
        title,
        len(prior.images),
        prior.prompt,
        prior.weight,
    )
    return request, prompt


def _warn_of_another_base(stage: PreparedStage) -> None:
    concept, base = stage.request.concept, stage.identity["base_sha256"]
    if concept is not None and concept.record.get("base_sha256", base) != base:
        log.warning(
            "%s: the concept was trained on another %s checkpoint than this MODEL; going on from "
            "it anyway",
            stage.request.title,
            concept.base_family,
        )


def _warn_of_another_layer(stage: PreparedStage) -> None:
    concept, now = stage.request.concept, stage.bench.clip_layer()
    trained = None if concept is None else trained_layer(concept.record)
    if trained not in (None, now):
        log.warning(
            "%s: the concept was trained with %s so far, and this CLIP is read at %s; going on "
            "from it anyway",
            stage.request.title,
            layer_name(trained),
            layer_name(now),
        )
