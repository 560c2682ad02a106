"""train_stage: from a request to a trained concept, wherever the work is done."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from ..artifacts.concept import TrainedConcept
from ..artifacts.tensor_file import free_space, size_text
from ..artifacts.weight_delta import cast_deltas, delta_tensors
from ..config.methods import MethodName
from ..config.stage import StageConfig
from ..data.photo_batches import PhotoBatches
from ..data.prior_batches import PriorBatches
from ..data.rendered_ahead import RenderedAhead
from ..data.tokens import TokenizedText
from ..methods.registry import method_of
from ..models.conditioning import Embeddings
from ..models.protocol import Model
from .announcement import say_what_is_trained
from .callback import Callbacks
from .concept_checkpoints import ConceptCheckpoints
from .loss_log import losses_from_json, losses_to_json
from .micro_batches import micro_batches_from
from .ranks import Ranks
from .run import Run, request_digest
from .run_files import result_from, result_tensors
from .stage_concept import stage_concept
from .stage_request import StageRequest
from .step_loss import StepLoss
from .texts import Texts, texts_of
from .trainer import train
from .training import StageResult
from .workbench import Workbench

log = logging.getLogger(__name__)

CODE_VERSION = 1
"""Raised whenever the training code gives other results for the same request."""

LORA_CODE_VERSION = 4
"""The same, of runs that train a LoRA. From 2 on there are two thin layers beside the frozen one,
W x + U (D x), where 1 had the changed weight, (W + U D) x; 3 adds into W x; 4 has another order in
the gradient of D x. Equal to rounding."""

METHOD_VERSIONS: Mapping[MethodName, int] = {"custom_diffusion": 2, "neti": 2}
"""The same, of runs of one method, if not 1. In 1 Custom Diffusion's first token learned, and with
aspect_buckets NeTI's nested dropout depended on the micro-batch (without, 1 and 2 are the same)."""

CAPTIONS_VERSION = 2
"""The same, of runs whose method writes captions without the category. In 1 it left them out, and
every photo came with the template."""


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
    texts = texts_of(bench, request.dataset, request.config, request.category_token, has, prior)
    say_what_is_trained(request, texts)
    identity = bench.identity(request.dataset)
    concept = request.concept
    if (
        concept is not None
        and concept.record.get("base_sha256", identity["base_sha256"]) != identity["base_sha256"]
    ):
        log.warning(
            "%s: the concept was trained on another %s checkpoint than this MODEL; going on from "
            "it anyway",
            request.title,
            concept.base_family,
        )
    config, result = _finished_or_trained(bench, request, texts, identity)
    return stage_concept(bench, request, texts, identity, config, result), result.losses


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


def _finished_or_trained(
    bench: Workbench, request: StageRequest, texts: Texts, identity: dict[str, Any]
) -> tuple[StageConfig, StageResult]:
    """The settings that were taken, and what they gave."""
    asked = _asked(request, texts, identity)
    runs = {
        config: _run(bench, request, {**asked, "config": config.identity()})
        for config in request.choices
    }
    ranks = bench.ranks
    ranks.check_same({**asked, "config": request.config.identity()})
    begun = [config for config, run in runs.items() if run.begun]
    begun = begun or [config for config, run in runs.items() if run.earlier is not None]
    choices = begun[:1] or list(runs)
    with ExitStack() as entered:
        result = None
        if ranks.first and len(choices) == 1:  # before anything is loaded: finished, or in use?
            run = entered.enter_context(runs[choices[0]])
            result = run.finished()
            if result is not None:
                log.info("%s: finished before, taken from %s", request.title, run.folder)
        if ranks.many:
            choices, result = _as_the_first(ranks, list(runs), choices, result)
        if result is not None:
            return choices[0], result
        model = entered.enter_context(bench.private_model(request.dataset, request.concept))
        embeddings = _start(model, request, texts)
        with_prior = texts.prior is not None
        batches = _batches(bench, request, texts, model)
        fitted = bench.fit_to_memory(
            model, choices, texts.trained, embeddings, with_prior, not batches.fills
        )
        config = choices[ranks.largest([c.low_memory for c in choices].index(fitted.low_memory))]
        if config.low_memory != fitted.low_memory:  # another process has less memory
            fitted = config
        run = runs[config]
        if ranks.first and len(choices) > 1:
            entered.enter_context(run)
        concepts = ConceptCheckpoints(
            request.concepts_every if ranks.first else 0,
            config.steps,
            lambda result: stage_concept(bench, request, texts, identity, config, result),
            lambda concept, done: bench.keep_concept(
                concept, run.folder.name, done, request.concepts_kept
            ),
        )
        fitted_request = replace(request, config=fitted)
        result = _train(bench, fitted_request, texts, batches, model, embeddings, run, concepts)
        # as the concept has it: half a file and no cast where a MODEL in fp16 asks again
        result = replace(result, delta=cast_deltas(result.delta, bench.weights_dtype))
        if ranks.first:
            _keep(bench, result, run, request.title)
    return config, result


def _as_the_first(
    ranks: Ranks, all_of: list[StageConfig], choices: list[StageConfig], result: StageResult | None
) -> tuple[list[StageConfig], StageResult | None]:
    """The first process's choices, and its result if it has one: the others read no folders."""
    state = None
    if ranks.first:
        told: list[Any] = [[all_of.index(config) for config in choices], None]
        if result is not None:
            losses = losses_to_json(list(result.losses))
            told[1] = [losses, str(len(result.losses)), result.facts, result.micro_batches]
        state = {} if result is None else result_tensors(result), told
    tensors, (chosen, finished) = ranks.of_first(state)
    choices = [all_of[number] for number in chosen]
    if finished is None or ranks.first:
        return choices, result
    read, made_with = losses_from_json(*finished[:2]), micro_batches_from(finished[3])
    return choices, result_from(tensors, read, finished[2], made_with)


def _start(model: Model, request: StageRequest, texts: Texts) -> Embeddings:
    if request.concept is None:
        return texts.start(model, request.config)
    return {name: vectors.clone() for name, vectors in request.concept.embeddings.items()}


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
    more = (config, timesteps, encode)
    photos = PhotoBatches(dataset, texts.of_photos, *more, texts.own, pool, model.reads_sizes)
    if dataset.prior is None or texts.prior is None:
        return photos
    return PriorBatches(photos, dataset.prior, texts.prior, *more, pool, model.reads_sizes)


def _train(
    bench: Workbench,
    request: StageRequest,
    texts: Texts,
    batches: PhotoBatches | PriorBatches,
    model: Any,
    embeddings: Embeddings,
    run: Run,
    concepts: ConceptCheckpoints,
) -> StageResult:
    config, dataset, ranks = request.config, request.dataset, bench.ranks
    if run.earlier is not None and not batches.encoded_as_in(run.earlier.steps):
        log.info(
            "%s: not going on from the %d steps in %s, which encoded its photos one by one: one "
            "long training fills its pool",
            *(request.title, run.earlier.steps, run.earlier.folder),
        )
        run.earlier = None
    callbacks = bench.callbacks(model, config, dataset, texts.prompts[0], embeddings, run)
    with RenderedAhead(batches, config.steps) as ahead:
        if ahead.fill(bench.encoding()):
            model.offload_autoencoder()
        told, own = Callbacks(concepts, *callbacks), run if ranks.first else None
        return train(model, method_of(config), ahead, embeddings, told, own, ranks)


def _keep(bench: Workbench, result: StageResult, run: Run, title: str) -> None:
    """Keeps the result in the run's folder. A disk that cannot take it does not undo the training:
    the concept goes out all the same, and log and user are told what was not kept."""
    try:
        run.finish(result)
        bench.kept(run.kept)
    except OSError as error:
        size = sum(t.nbytes for t in delta_tensors(result.delta).values())
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
    captions = bool(texts.bare) and any(p.caption is not None for p in request.dataset.photos)
    return {
        **identity,
        **code_versions(request.config),
        **({"captions_version": CAPTIONS_VERSION} if captions else {}),
        "dataset_sha256": request.dataset.digest,
        "concept_sha256": None if request.concept is None else request.concept.digest(),
        "prompt": request.dataset.prompt,
        "tied_position": texts.prompts[0].category,
        **({"tied_positions": [p.category for p in rest]} if rest else {}),
    }


def code_versions(config: StageConfig) -> dict[str, int]:
    """The versions of the training code that a run of this configuration depends on."""
    version = METHOD_VERSIONS.get(config.method)
    if config.method == "neti" and not config.data.aspect_buckets:
        version = None
    return {
        **({"method_version": version} if version else {}),
        "code_version": LORA_CODE_VERSION if _trains_a_lora(config) else CODE_VERSION,
    }


def _trains_a_lora(config: StageConfig) -> bool:
    return config.lora_rank > 0 and config.trains_denoiser


def _run(bench: Workbench, request: StageRequest, asked: dict[str, Any]) -> Run:
    slug = re.sub(r"[^A-Za-z0-9_-]+", "", request.dataset.placeholder)[:60] or "concept"
    config = request.config
    part = f"stage{config.stage}" if config.method == "attndreambooth" else config.method
    folder = bench.run_folder(f"{slug}-{part}-{request_digest(asked)[:12]}")
    return Run(folder, asked, request.checkpoint_every, request.keep_state)
