"""train_stage: from a request to a trained concept, wherever the work is done."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from ..artifacts.concept import TrainedConcept
from ..artifacts.tensor_file import free_space, size_text
from ..artifacts.weight_delta import cast_delta, delta_tensors
from ..config.choices import CategoryToken
from ..config.methods import PUBLISHED_WITH_PRIOR
from ..config.stage import StageConfig
from ..data.dataset import ConceptDataset
from ..data.photo_batches import PhotoBatches
from ..data.prior_batches import PriorBatches
from ..data.rendered_ahead import RenderedAhead
from ..data.tokens import TokenizedText
from ..methods.registry import method_of
from ..models.conditioning import Embeddings
from ..models.protocol import Model
from .callback import Callbacks
from .run import Run, request_digest
from .step_loss import StepLoss
from .texts import Texts, texts_of
from .trainer import train
from .training import StageResult
from .workbench import Workbench

log = logging.getLogger(__name__)

CODE_VERSION = 1
"""Raised whenever the training code gives other results for the same request."""

LORA_CODE_VERSION = 3
"""The same, of runs that train a LoRA. From 2 on there are two thin layers beside the frozen one,
W x + U (D x), where 1 had the changed weight, (W + U D) x; 3 adds into W x. Equal to rounding."""


@dataclass(frozen=True, kw_only=True)
class StageRequest:
    """One stage, asked for."""

    dataset: ConceptDataset
    config: StageConfig
    concept: TrainedConcept | None = None
    """What it goes on from; None: the base model and the untrained embedding of the category."""
    category_token: CategoryToken = "last word"  # noqa: S105 (a word, no secret)
    """Which part of the category the placeholder starts from and is tied to."""
    title: str
    """Named in the log and in messages."""
    checkpoint_every: int = 100
    """Steps between checkpoints; 0: only when it is stopped. Does not change the outcome."""
    low_memory_if_needed: bool = False
    """Turn low_memory on where the stage would not fit without it. What was decided is part of the
    run: it goes on as it began, on whatever machine."""

    @property
    def choices(self) -> list[StageConfig]:
        """The settings that may be trained with, the mildest first."""
        if not self.low_memory_if_needed or self.config.low_memory:
            return [self.config]
        try:
            return [self.config, self.config.with_(low_memory=True)]
        except ValueError:  # does not go with the optimiser, clipping or the precision
            return [self.config]


def train_stage(
    bench: Workbench, request: StageRequest
) -> tuple[TrainedConcept, tuple[StepLoss, ...]]:
    """Trains one stage on private copies and returns the concept it makes, and its losses.

    The training lives in a run folder: asked for again, it goes on where it was stopped, or answers
    at once if it was finished. Without a concept (a skipped stage, legal as an ablation) the
    placeholder starts from the category's embedding, and the log says so.
    """
    learns = "embedding" in request.config.trains
    vectors = request.config.vectors if learns else None
    bench.check(request.dataset, request.concept, vectors)
    if request.config.regularization.inside_mask and not request.dataset.masked:
        raise ValueError(
            "inside_mask is on in Attention Map Regularization, and the dataset has no masks: give "
            "the photos masks in the dataset node (e.g. from Mask Subject), or turn it off"
        )
    request, prior = _with_its_prior(bench, request)
    has = None if request.concept is None else len(request.concept.vectors)
    tie = request.category_token
    texts = texts_of(bench, request.dataset, request.config, tie, has, prior)
    _say_what_is_trained(request, texts)
    identity = bench.identity(request.dataset)
    concept = request.concept
    if concept is not None and concept.record.get("base_sha256") != identity["base_sha256"]:
        log.warning(
            "%s: the concept was trained on another %s checkpoint than this MODEL; going on from "
            "it anyway",
            request.title,
            concept.base_family,
        )
    config, result = _finished_or_trained(bench, request, texts, identity)
    if concept is None:
        concept = _new_concept(bench, request, texts, result, identity)
    delta = {name: cast_delta(d, bench.weights_dtype) for name, d in result.delta.items()}
    record: dict[str, Any] = {
        **config.as_dict(),
        "losses": [loss.parts for loss in result.losses],
        **_loss_names(result.losses),
        **result.facts,
    }
    if request.dataset.prior is not None:
        record["prior"] = request.dataset.prior.record()
    return concept.with_stage(result.vectors, delta, record), result.losses


def _loss_names(losses: Sequence[StepLoss]) -> dict[str, list[str]]:
    """Names of a record's losses, where they have more parts than the three of old."""
    return {"loss_names": list(losses[0].shares)} if losses and losses[0].others else {}


def _finished_or_trained(
    bench: Workbench, request: StageRequest, texts: Texts, identity: dict[str, Any]
) -> tuple[StageConfig, StageResult]:
    """The settings that were taken, and what they gave."""
    asked = _asked(request, texts, identity)
    runs = {
        config: _run(bench, request, {**asked, "config": config.identity()})
        for config in request.choices
    }
    begun = [config for config, run in runs.items() if run.begun]
    choices = begun[:1] or list(runs)
    with ExitStack() as entered:
        if len(choices) == 1:  # before anything is loaded: it may be finished, or in use
            run = entered.enter_context(runs[choices[0]])
            result = run.finished()
            if result is not None:
                log.info("%s: finished before, taken from %s", request.title, run.folder)
                return choices[0], result
        model = entered.enter_context(bench.private_model(request.dataset, request.concept))
        embeddings = _start(model, request, texts)
        with_prior = texts.prior is not None
        batches = _batches(bench, request, texts, model)
        fitted = bench.fit_to_memory(
            model, choices, texts.prompts, embeddings, with_prior, not batches.fills
        )
        [config] = [c for c in choices if c.low_memory == fitted.low_memory]
        run = runs[config]
        if len(choices) > 1:
            entered.enter_context(run)
        request = replace(request, config=fitted)
        result = _train(bench, request, texts, batches, model, embeddings, run)
        _keep(bench, result, run, request.title)
    return config, result


def _start(model: Model, request: StageRequest, texts: Texts) -> Embeddings:
    if request.concept is None:
        return texts.start(model, request.config)
    return {request.concept.text_key: request.concept.vectors.clone()}


def _batches(
    bench: Workbench, request: StageRequest, texts: Texts, model: Model
) -> PhotoBatches | PriorBatches:
    """What the stage trains on, whichever of its settings fits into the memory."""
    config, dataset = request.config, request.dataset
    timesteps, encode = model.diffusion.timesteps, model.encode_image
    pool = bench.pool(config.data.resolution)
    if config.data.latent_pool == 0:
        pool = replace(pool, at_once=1, cache=None)  # as the recorded runs were made
    if dataset.private:
        pool = replace(pool, cache=None)  # whoever has the VAE can look at kept latents
    photos = PhotoBatches(dataset, texts.prompts, config, timesteps, encode, texts.own, pool)
    if dataset.prior is None or texts.prior is None:
        return photos
    return PriorBatches(photos, dataset.prior, texts.prior, config, timesteps, encode, pool)


def _train(
    bench: Workbench,
    request: StageRequest,
    texts: Texts,
    batches: PhotoBatches | PriorBatches,
    model: Any,
    embeddings: Embeddings,
    run: Run,
) -> StageResult:
    config, dataset = request.config, request.dataset
    callbacks = bench.callbacks(model, config, dataset, texts.prompts[0], embeddings, run)
    with RenderedAhead(batches, config.steps) as ahead:
        if ahead.fill(bench.encoding()):
            model.offload_autoencoder()
        return train(model, method_of(config), ahead, embeddings, Callbacks(*callbacks), run)


def _keep(bench: Workbench, result: StageResult, run: Run, title: str) -> None:
    """Keeps the result in the run's folder. A disk that cannot take it does not undo the training:
    the concept goes out all the same, and log and user are told what was not kept."""
    try:
        run.finish(result)
        bench.kept(run.kept)
    except OSError as error:
        size = sum(t.numel() * t.element_size() for t in delta_tensors(result.delta).values())
        message = (
            f"{title}: finished, but the result could not be kept in {run.folder}: "
            f"{error.__cause__ or error} ({size_text(size)} needed, {free_space(run.folder)} "
            "free). The concept goes out on the wires: Save Concept keeps it. Free space there; if "
            "ComfyUI is closed before the concept is saved, the same graph has to train again what "
            "no checkpoint holds"
        )
        log.error(message)
        bench.not_kept(message)


def _asked(request: StageRequest, texts: Texts, identity: dict[str, Any]) -> dict[str, Any]:
    """All that decides the outcome of a stage besides its settings; hashes the concept."""
    rest = texts.prompts[1:]
    return {
        **identity,
        "code_version": LORA_CODE_VERSION if _trains_a_lora(request.config) else CODE_VERSION,
        "dataset_sha256": request.dataset.digest,
        "concept_sha256": None if request.concept is None else request.concept.digest(),
        "prompt": request.dataset.prompt,
        "tied_position": texts.prompts[0].category,
        **({"tied_positions": [p.category for p in rest]} if rest else {}),
    }


def _trains_a_lora(config: StageConfig) -> bool:
    return config.lora_rank > 0 and config.trains_denoiser


def _run(bench: Workbench, request: StageRequest, asked: dict[str, Any]) -> Run:
    slug = re.sub(r"[^A-Za-z0-9_-]+", "", request.dataset.placeholder)[:60] or "concept"
    config = request.config
    part = f"stage{config.stage}" if config.method == "attndreambooth" else config.method
    folder = bench.run_folder(f"{slug}-{part}-{request_digest(asked)[:12]}")
    return Run(folder, asked, request.checkpoint_every)


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


def _say_what_is_trained(request: StageRequest, texts: Texts) -> None:
    category, config, more = texts.category, request.config, len(texts.prompts) - 1
    if config.method != "attndreambooth":
        _say_words(request, texts)
        return
    log.info(
        "%s: prompt %r%s; the placeholder's map is tied to token %d of %r (id %d)",
        request.title,
        texts.prompts[0].text,
        f" and {more} more" if more else "",
        category.tied_offset + 1,
        category.text,
        category.ids[category.tied_offset],
    )
    for name, weight in config.held_to_the_base.items():
        if weight:
            log.info("%s: held to the base model by %s %g", request.title, name, weight)
    if request.concept is None and "embedding" not in config.trains:
        log.warning(
            "%s: no concept connected; the placeholder starts from the untrained embedding of %r "
            "(an ablation of the method)",
            request.title,
            category.text,
        )


def _say_words(request: StageRequest, texts: Texts) -> None:
    """Of a compared method."""
    prompts = texts.own or texts.prompts
    first, more = prompts[0], len(prompts) - 1
    initial = request.config.words.initial or texts.category.text
    log.info(
        "%s: prompt %r%s; the placeholder begins as %r",
        request.title,
        first.text,
        f" and {more} more" if more else "",
        initial,
    )
    if texts.prior is None and request.config.method in PUBLISHED_WITH_PRIOR:
        log.warning(
            "%s: published with prior images (Add Prior Images), and the dataset has none: the "
            "category may take the subject's looks, and fewer steps are usual",
            request.title,
        )


def _new_concept(
    bench: Workbench,
    request: StageRequest,
    texts: Texts,
    result: StageResult,
    identity: dict[str, Any],
) -> TrainedConcept:
    dataset, category = request.dataset, texts.category
    return TrainedConcept(
        placeholder=dataset.placeholder,
        category=dataset.category,
        text_key=bench.text_key(),
        vectors=result.vectors,
        base_family=identity["base_family"],
        record={
            "base_sha256": identity["base_sha256"],
            "prediction_type": identity["prediction_type"],
            "schedule_sha256": identity["schedule_sha256"],
            "prompt": dataset.prompt,
            **({"templates": list(dataset.templates)} if len(dataset.templates) > 1 else {}),
            "tie": category.tie,
            "tied_token_id": category.ids[category.tied_offset],
            "photos": [photo.record(dataset.private) for photo in dataset.photos],
            **({} if dataset.private else {"thumbnail": bench.thumbnail(dataset)}),
            "versions": identity["versions"],
            "stages": [],
        },
    )
