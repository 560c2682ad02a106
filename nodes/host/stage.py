"""run_stage: one training stage from the host's wires to a trained concept."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import torch
from PIL import Image
from torch import Tensor

from ...attndb.artifacts.concept import TrainedConcept
from ...attndb.artifacts.digest import tensors_digest
from ...attndb.artifacts.tensor_file import free_space, size_text
from ...attndb.artifacts.weight_delta import cast_delta, delta_tensors
from ...attndb.config.choices import CategoryToken
from ...attndb.config.stage import StageConfig
from ...attndb.data.augmentation import Crop, render
from ...attndb.data.dataset import ConceptDataset
from ...attndb.data.photo_batches import PhotoBatches
from ...attndb.data.prior_batches import PriorBatches
from ...attndb.data.tokens import CategoryWord, TokenizedPrompt, TokenizedText
from ...attndb.training.attention_monitor import AttentionMonitor, AttentionMonitorSettings
from ...attndb.training.run import Run, request_digest
from ...attndb.training.stage import StageResult
from ...attndb.training.step_loss import StepLoss
from ...attndb.training.trainer import Callback, Callbacks, train_stage
from .compat import versions
from .model.concept_patches import check_fits
from .model.families import check_trainable, family
from .model.memory import fit_to_memory
from .model.placeholders import apply_to_clip, inner_name
from .model.private_model import PrivateModel, private_model, training_mode
from .model.text import text_digest, tokenize_prior_prompt, tokenize_training_prompt
from .model.weights import UNET_PREFIX, merged_weights
from .paths import run_folder
from .ui.images import thumbnail_url
from .ui.plan import NodePlan
from .ui.preview import PreviewPictures, PreviewSampler, PreviewSettings
from .ui.progress import EncodingProgress, TrainingProgress
from .ui.status import show_text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageInputs:
    """What comes in over a stage node's wires."""

    model: Any
    clip: Any
    vae: Any
    dataset: ConceptDataset
    tie: CategoryToken = "last word"


@dataclass(frozen=True)
class TrackingOptions:
    """What is kept and shown of a training; none of it changes the outcome."""

    title: str
    """Named in the log and in the loss curve."""
    checkpoint_every: int = 100
    """Steps between checkpoints; 0: only when it is stopped."""
    preview: PreviewSettings | None = None
    """Pictures during the training."""
    plan: NodePlan | None = None
    """All that the node trains, for what it says of its progress; this stage is the present one."""


def run_stage(
    wires: StageInputs,
    config: StageConfig,
    concept: TrainedConcept | None,
    keeping: TrackingOptions,
) -> tuple[TrainedConcept, tuple[StepLoss, ...]]:
    """Trains one stage on private copies and returns the concept it makes; the wires stay as is.

    The training lives in a run folder under the host's output directory: asked for again, it goes
    on where it was stopped, or answers at once if it was finished. Without a concept (a skipped
    stage, legal as an ablation) the placeholder starts from the category's embedding, and the log
    says so.
    """
    title = keeping.title
    check_trainable(wires.model, wires.clip, wires.vae)
    if concept is not None:
        check_continues(wires, concept)
    wires, prior_prompt = _prior(wires, config, title)
    count = config.vectors if concept is None else concept.vectors.shape[0]
    prompt, category = tokenize_training_prompt(wires.clip, wires.dataset, count, wires.tie)
    log.info(
        "%s: prompt %r; the placeholder's map is tied to token %d of %r (id %d)",
        title,
        prompt.text,
        category.tied_offset + 1,
        category.text,
        category.ids[category.tied_offset],
    )
    if concept is None and config.trains != "embedding":
        log.warning(
            "%s: no concept connected; the placeholder starts from the untrained embedding of %r "
            "(an ablation of the method)",
            title,
            category.text,
        )
    weights = merged_weights(wires.model, UNET_PREFIX, without_concept=wires.dataset.placeholder)
    request = _request(wires, config, concept, prompt, tensors_digest(weights))
    if concept is not None and concept.record.get("base_sha256") != request["base_sha256"]:
        log.warning(
            "%s: the concept was trained on another %s checkpoint than this MODEL; going on from "
            "it anyway",
            title,
            concept.base_family,
        )
    name = f"{_slug(wires.dataset.placeholder)}-stage{config.stage}-{request_digest(request)[:12]}"
    with Run(run_folder(name), request, keeping.checkpoint_every) as run:
        if keeping.plan is not None:
            keeping.plan.folder = f"output/attndb/{run.folder.name}"
        result = run.finished()
        if result is not None:
            log.info("%s: finished before, taken from %s", title, run.folder)
        else:
            words = _Words(prompt, category, prior_prompt)
            result = _train(wires, config, concept, words, weights, run, keeping)
            _keep(result, run, keeping)
    if concept is None:
        concept = _new_concept(wires, prompt, category, result.vectors, request)
    dtype = torch.float32 if wires.model.model.get_dtype() == torch.float32 else torch.float16
    delta = {name: cast_delta(change, dtype) for name, change in result.delta.items()}
    record = _stage_record(config, wires.dataset, result.losses)
    return concept.with_stage(result.vectors, delta, record), result.losses


@dataclass(frozen=True)
class _Words:
    """What a stage trains on, as the text encoder sees it."""

    prompt: TokenizedPrompt
    category: CategoryWord
    prior: TokenizedText | None
    """Prompt of the prior images, if there are any."""


def _prior(
    wires: StageInputs, config: StageConfig, title: str
) -> tuple[StageInputs, TokenizedText | None]:
    """The wires with the prior images that this stage uses, and their prompt. Stage 1 uses none:
    its embedding is not in their prompt, and nothing else is trained."""
    prior = wires.dataset.prior
    if prior is None:
        return wires, None
    if config.trains == "embedding":
        log.info(
            "%s: the %d prior images are not used here: they have no gradient in the embedding",
            title,
            len(prior.images),
        )
        return replace(wires, dataset=wires.dataset.without_prior()), None
    prompt = tokenize_prior_prompt(wires.clip, prior.prompt)
    log.info(
        "%s: prior preservation on %d images of %r, weight %g",
        title,
        len(prior.images),
        prior.prompt,
        prior.weight,
    )
    return wires, prompt


def _batches(
    wires: StageInputs, config: StageConfig, words: _Words, backend: PrivateModel
) -> PhotoBatches | PriorBatches:
    dataset, encode = wires.dataset, backend.encode_image
    timesteps = backend.diffusion.timesteps
    batches = PhotoBatches(dataset, words.prompt, config, timesteps, encode)
    if dataset.prior is None or words.prior is None:
        return batches
    return PriorBatches(batches, dataset.prior, words.prior, config, timesteps, encode)


def _keep(result: StageResult, run: Run, keeping: TrackingOptions) -> None:
    """Keeps the result in the run's folder. A disk that cannot take it does not undo the training:
    the concept goes out on the wires all the same, and log and node say what was not kept."""
    try:
        run.finish(result)
    except OSError as error:
        size = sum(t.numel() * t.element_size() for t in delta_tensors(result.delta).values())
        message = (
            f"{keeping.title}: finished, but the result could not be kept in {run.folder}: "
            f"{error.__cause__ or error} ({size_text(size)} needed, {free_space(run.folder)} "
            "free). The concept goes out on the wires: Save Concept keeps it. Free space there; if "
            "ComfyUI is closed before the concept is saved, the same graph has to train again what "
            "no checkpoint holds"
        )
        log.error(message)
        show_text(message)
        if keeping.plan is not None:
            keeping.plan.not_kept = message


def _train(
    wires: StageInputs,
    config: StageConfig,
    concept: TrainedConcept | None,
    words: _Words,
    weights: dict[str, Tensor],
    run: Run,
    keeping: TrackingOptions,
) -> StageResult:
    with training_mode():
        delta = {} if concept is None else concept.delta
        backend = private_model(wires.model, wires.clip, wires.vae, weights, delta)
        weights.clear()
        if concept is None:
            vectors = backend.initial_vectors(words.category.initial_ids, config.vectors)
        else:
            vectors = concept.vectors.clone()
        shape, prior = (vectors.shape[0], vectors.shape[1]), words.prior is not None
        config = fit_to_memory(
            keeping.title, backend, wires.vae, config, words.prompt, shape, prior
        )
        batches = _batches(wires, config, words, backend)
        pictures = None
        if keeping.preview is not None:
            names = (wires.dataset.placeholder, wires.dataset.category)
            sampler = PreviewSampler(
                keeping.preview, wires.model, wires.clip, wires.vae, backend.unet, names
            )
            pictures = PreviewPictures(sampler, run.folder / "previews", config.steps)
        progress = TrainingProgress(
            keeping.title, config.steps, pictures, lambda: run.trouble, keeping.plan
        )
        observers: list[Callback] = [progress]
        if keeping.preview is not None and keeping.preview.attention_maps:
            every = keeping.preview.every
            watch = _attention_watch(wires, config, words.prompt, backend, every, run)
            watch.begin(backend, vectors)
            observers.insert(0, watch)
        if batches.fill(EncodingProgress(keeping.title, keeping.plan)):
            backend.offload_autoencoder()
        return train_stage(backend, batches, config, vectors, Callbacks(*observers), run)


def _attention_watch(
    wires: StageInputs,
    config: StageConfig,
    prompt: TokenizedPrompt,
    backend: PrivateModel,
    every: int,
    run: Run,
) -> AttentionMonitor:
    """Looks at the first training photo, cut from its centre."""
    pixels, _ = render(wires.dataset.photos[0].image, Crop(), config.data.resolution)
    return AttentionMonitor(
        AttentionMonitorSettings(every=every, seed=config.seed),
        prompt,
        (wires.dataset.placeholder, wires.dataset.category),
        backend.encode_image(torch.from_numpy(pixels)[None]).float().cpu(),
        Image.fromarray((pixels * 255.0).round().astype("uint8")),
        config.steps,
        run.folder / "attention",
    )


def _request(
    wires: StageInputs,
    config: StageConfig,
    concept: TrainedConcept | None,
    prompt: TokenizedPrompt,
    base_sha256: str,
) -> dict[str, Any]:
    """All that decides the outcome of a stage."""
    return {
        "base_family": family(wires.model),
        "base_sha256": base_sha256,
        "clip_sha256": text_digest(wires.clip),
        "clip_layer": wires.clip.layer_idx,
        "vae_sha256": tensors_digest(merged_weights(wires.vae.patcher, "")),
        "dataset_sha256": wires.dataset.digest,
        "concept_sha256": None if concept is None else concept.digest(),
        "prompt": prompt.text,
        "tied_position": prompt.category,
        "config": config.identity(),
        "device": str(comfy.model_management.get_torch_device().type),
        "versions": versions(),
    }


def _slug(placeholder: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "", placeholder) or "concept"


def check_continues(wires: StageInputs, concept: TrainedConcept) -> None:
    """ValueError if the concept belongs to another base or another placeholder."""
    check_fits(wires.model, concept)
    apply_to_clip(wires.clip, concept)
    if concept.placeholder != wires.dataset.placeholder:
        raise ValueError(
            f"the concept is for the placeholder {concept.placeholder!r}, and the dataset says "
            f"{wires.dataset.placeholder!r}: type the same one in the dataset node"
        )


def _new_concept(
    wires: StageInputs,
    prompt: TokenizedPrompt,
    category: CategoryWord,
    vectors: Tensor,
    request: dict[str, Any],
) -> TrainedConcept:
    dataset = wires.dataset
    return TrainedConcept(
        placeholder=dataset.placeholder,
        category=dataset.category,
        text_key=inner_name(wires.clip.tokenizer),
        vectors=vectors,
        base_family=request["base_family"],
        record={
            "base_sha256": request["base_sha256"],
            "prompt": prompt.text,
            "tie": category.tie,
            "tied_token_id": category.ids[category.tied_offset],
            "photos": [{"name": p.name, "sha256": p.digest} for p in dataset.photos],
            "thumbnail": thumbnail_url(dataset.photos[0].image),
            "versions": request["versions"],
            "stages": [],
        },
    )


def _stage_record(
    config: StageConfig, dataset: ConceptDataset, losses: tuple[StepLoss, ...]
) -> dict[str, Any]:
    record: dict[str, Any] = {**config.as_dict(), "losses": [loss.parts for loss in losses]}
    if dataset.prior is not None:
        record["prior"] = dataset.prior.record()
    return record
