"""train_stage: from a request to a trained concept, wherever the work is done."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from ..artifacts.concept import TrainedConcept
from ..artifacts.tensor_file import free_space, size_text
from ..artifacts.weight_delta import cast_deltas, delta_tensors
from ..config.stage import StageConfig
from ..data.photo_batches import PhotoBatches
from ..data.prior_batches import PriorBatches
from ..data.rendered_ahead import RenderedAhead
from ..methods.registry import method_of
from ..models.conditioning import Embeddings
from ..models.protocol import Model
from .callback import Callbacks
from .concept_checkpoints import ConceptCheckpoints
from .out_of_memory import encoded
from .prepared_stage import PreparedStage, prepare
from .run import Run
from .stage_concept import stage_concept
from .stage_request import StageRequest
from .stage_runs import StageRuns
from .step_loss import StepLoss
from .trainer import train
from .training import StageResult
from .workbench import TrainableModel, Workbench

log = logging.getLogger(__name__)

CODE_VERSION = 1
"""Raised whenever the training code gives other results for the same request. What one method alone
does otherwise raises `Method.version`."""

LORA_CODE_VERSION = 4
"""The same, of runs that train a LoRA. From 2 on there are two thin layers beside the frozen one,
W x + U (D x), where 1 had the changed weight, (W + U D) x; 3 adds into W x; 4 has another order in
the gradient of D x. Equal to rounding."""

POOL_VERSION = 3
"""The same, of runs that draw from a pool of crops. In 1 a crop was drawn by chance, some of them
again before others had their turn; in 2 all photos had the same crops."""

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
    stage = prepare(bench, request)
    with StageRuns(stage, _asked(stage)) as runs:
        result = runs.finished() or _trained(stage, runs)
        bench.ended(runs.run.folder, len(result.losses))
    return stage_concept(stage, runs.config, result), result.losses


def _trained(stage: PreparedStage, runs: StageRuns) -> StageResult:
    """What a private copy of the model learns, with the settings that fit into the memory."""
    bench, request, texts = stage.bench, stage.request, stage.texts
    dataset, ranks = request.dataset, bench.ranks
    with bench.private_model(dataset, request.concept) as model:
        start, batches = _start(stage, model), _batches(stage, model)
        with_prior, encodes = texts.prior is not None, not batches.fills
        fitted = runs.take(
            bench.fit_to_memory(model, runs.choices, texts.trained, start, with_prior, encodes)
        )
        run = runs.run
        concepts = _concept_checkpoints(stage, runs, model)
        watching = bench.callbacks(model, fitted, dataset, texts.prompts[0], start, run)
        told, own = Callbacks(concepts, *watching), run if ranks.first else None
        with RenderedAhead(batches, fitted.steps) as ahead:
            filled = encoded(lambda: ahead.fill(bench.encoding()), model.device, fitted)
            if filled:
                model.offload_autoencoder()
            result = train(
                *(model, method_of(fitted), ahead, start, told, own, ranks), bench.ends_early
            )
        # as the concept has it: half a file and no cast where a MODEL in fp16 asks again
        result = replace(result, delta=cast_deltas(result.delta, bench.weights_dtype))
        result = _with_tiles(result, model)
        if ranks.first:
            _keep(bench, result, run, request.title)
    return result


def _start(stage: PreparedStage, model: Model) -> Embeddings:
    """The placeholder's vectors before the first step."""
    concept = stage.request.concept
    if concept is None:
        return stage.texts.start(model, stage.request.config)
    return {name: vectors.clone() for name, vectors in concept.embeddings.items()}


def _batches(stage: PreparedStage, model: TrainableModel) -> PhotoBatches | PriorBatches:
    """What the stage trains on, whichever of its settings fits into the memory."""
    config, dataset, texts = stage.request.config, stage.request.dataset, stage.texts
    timesteps, encode = model.diffusion.timesteps, model.encode_image
    pool = stage.bench.pool(config.data.resolution)
    pool = replace(pool, in_tiles=lambda: model.encoded_in_tiles)
    if config.data.latent_pool == 0:
        pool = replace(pool, at_once=1, cache=None)  # as the recorded runs were made
    if dataset.private:
        pool = replace(pool, cache=None)  # whoever has the VAE can look at kept latents
    more = (config, timesteps, encode)
    photos = PhotoBatches(dataset, texts.of_photos, *more, texts.own, pool, model.reads_sizes)
    if dataset.prior is None or texts.prior is None:
        return photos
    return PriorBatches(photos, dataset.prior, texts.prior, *more, pool, model.reads_sizes)


def _with_tiles(result: StageResult, model: TrainableModel) -> StageResult:
    """Says in the result how many photos were encoded in tiles since it was last begun or gone on
    with: other latents."""
    if not model.encoded_in_tiles:
        return result
    in_tiles = {"encoded_in_tiles": float(model.encoded_in_tiles)}
    return replace(result, facts={**result.facts, **in_tiles})


def _concept_checkpoints(
    stage: PreparedStage, runs: StageRuns, model: TrainableModel
) -> ConceptCheckpoints:
    """Keeps concepts on the way, if that was asked for; the first process does."""
    bench, request, config, run = stage.bench, stage.request, runs.config, runs.run
    return ConceptCheckpoints(
        request.concepts_every if bench.ranks.first else 0,
        config.steps,
        lambda result: stage_concept(stage, config, _with_tiles(result, model)),
        lambda concept, done: bench.keep_concept(
            concept, run.folder.name, done, request.concepts_kept
        ),
    )


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


def _asked(stage: PreparedStage) -> dict[str, Any]:
    """All that decides the outcome of a stage besides its settings; hashes the concept."""
    dataset, concept, texts = stage.request.dataset, stage.request.concept, stage.texts
    first, *rest = texts.prompts
    captions = bool(texts.bare) and any(photo.caption is not None for photo in dataset.photos)
    return {
        **stage.identity,
        **code_versions(stage.request.config),
        **({"captions_version": CAPTIONS_VERSION} if captions else {}),
        "dataset_sha256": dataset.digest,
        "concept_sha256": None if concept is None else concept.digest(),
        "prompt": dataset.prompt,
        "tied_position": first.category,
        **({"tied_positions": [prompt.category for prompt in rest]} if rest else {}),
    }


def code_versions(config: StageConfig) -> dict[str, int]:
    """The versions of the training code that a run of this configuration depends on."""
    version = method_of(config).version
    return {
        **({"method_version": version} if version > 1 else {}),
        "code_version": LORA_CODE_VERSION if _trains_a_lora(config) else CODE_VERSION,
        **({"pool_version": POOL_VERSION} if config.data.crops else {}),
    }


def _trains_a_lora(config: StageConfig) -> bool:
    return config.lora_rank > 0 and config.trains_denoiser
