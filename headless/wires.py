"""MODEL, CLIP, VAE and photos of a job, as the stock nodes and ours give them."""

from __future__ import annotations

import difflib
import gc
import os
from dataclasses import asdict
from typing import Any

import comfy.model_management
import comfy.sd
import folder_paths
import nodes
import torch

from ..attndb.artifacts.concept_files import read_pair
from ..attndb.config.model_fit import ModelKind, misfit
from ..attndb.config.printable import quoted
from ..attndb.data.continuation import check_same_category, check_same_placeholder
from ..attndb.data.dataset import ConceptDataset
from ..attndb.data.folder import load_folder
from ..attndb.data.photo_warnings import warn_of_photos
from ..attndb.data.plain_caption import SubjectWords
from ..attndb.jobs.document import Problem
from ..attndb.jobs.job import MICRO, Job, LoRAChoice, ModelChoice
from ..attndb.training.doubtful_settings import doubts
from ..nodes.host.model.checkpoint_kind import checkpoint_kind
from ..nodes.host.model.families import MICRO_KIND
from ..nodes.host.model.micro import load_micro
from ..nodes.host.paths import embedding_folders, find_concept, model_files
from ..nodes.host.ui.preview import PreviewSettings


def missing(job: Job) -> list[Problem]:
    """Models and concepts that a job names and ComfyUI does not have, or that it cannot go on
    from."""
    found = missing_models(job.model)
    try:
        preview_of(job)
    except ValueError as error:
        found.append(Problem(job.lines.get("preview", job.line), f"preview: {error}"))
    if job.concept:
        try:
            record = read_pair(*find_concept(job.concept))
            check_same_placeholder(job.photos.placeholder, record["placeholder"])
            check_same_category(job.photos.category, record["placeholder"], record["category"])
        except (OSError, ValueError) as error:
            found.append(Problem(job.lines.get("concept", job.line), str(error)))
    return found


def missing_models(model: ModelChoice) -> list[Problem]:
    """Files of a model that ComfyUI does not have, or that have no use."""
    found = []
    if model.checkpoint == MICRO and model.vae:
        text = f"vae {quoted(model.vae)} is not used: {MICRO} has its own; leave it out"
        return [Problem(model.line, text)]
    loras = [("LoRA", lora.name, "loras", lora.line) for lora in model.loras]
    for kind, name, folder, line in (
        ("checkpoint", model.checkpoint, "checkpoints", model.line),
        ("vae", model.vae, "vae", model.line),
        *loras,
    ):
        embedded = kind == "checkpoint" and name == MICRO
        if name and not embedded and not _is_there(name, folder):
            known = model_files(folder)
            close = difflib.get_close_matches(name, known, 1)
            remedy = f"did you mean {quoted(close[0])}?" if close else f"it has {len(known)}"
            found.append(
                Problem(line, f"{kind} {quoted(name)} is not in models/{folder}: {remedy}")
            )
    return found


def doubtful(job: Job) -> list[Problem]:
    """Settings that are legal and that a user would hardly want, or that are for another model, as
    far as its file tells which it is."""
    found, kind = [], _kind(job.model)
    line = job.lines.get("preset", job.lines.get("settings", job.line))
    for config in job.stages:
        texts = [*doubts(config), misfit(kind, job.recipe, config) if kind else ""]
        found += [Problem(line, f"{job.name}: {text}") for text in texts if text]
    return found


def _kind(model: ModelChoice) -> ModelKind | None:
    if model.checkpoint == MICRO:
        return MICRO_KIND
    path = _path(model.checkpoint, "checkpoints")
    return None if path is None else checkpoint_kind(path)


class Models:
    """The model of the job at hand: loaded once for jobs after one another that share it."""

    def __init__(self) -> None:
        self._choice: ModelChoice | None = None
        self._wires: tuple[Any, Any, Any] | None = None

    def wires(self, choice: ModelChoice) -> tuple[Any, Any, Any]:
        """MODEL, CLIP and VAE."""
        if self._wires is None or choice != self._choice:
            self._wires = None
            comfy.model_management.unload_all_models()
            self.tidy()
            self._choice, self._wires = choice, _loaded(choice)
        return self._wires

    @staticmethod
    def tidy() -> None:
        """Gives back the memory of what is no longer used."""
        gc.collect()
        comfy.model_management.soft_empty_cache()


def dataset_of(job: Job) -> ConceptDataset:
    """The photos with their words, and prior images if there are any."""
    chosen = job.photos
    photos = load_folder(
        chosen.folder,
        captions=chosen.captions,
        words=SubjectWords(chosen.category, chosen.placeholder, chosen.trigger),
        masks=chosen.masks,
        skip_broken=chosen.skip_broken,
        check=comfy.model_management.throw_exception_if_processing_interrupted,
    )
    dataset = ConceptDataset(
        photos,
        chosen.category,
        chosen.placeholder,
        chosen.template,
        background=chosen.background_weight,
        private=chosen.private,
    )
    warn_of_photos(dataset)
    if job.prior is None:
        return dataset
    return dataset.with_prior(load_folder(job.prior.folder), job.prior.prompt, job.prior.weight)


def preview_of(job: Job) -> PreviewSettings | None:
    """Pictures during the training."""
    return None if job.preview is None else PreviewSettings(**asdict(job.preview))


def _is_there(name: str, folder: str) -> bool:
    """Whether a stock loader takes the name: Load VAE has some that are no file's (`taesd`)."""
    if folder == "vae" and name in nodes.VAELoader.INPUT_TYPES()["required"]["vae_name"][0]:
        return True
    return _path(name, folder) is not None


def _path(name: str, folder: str) -> str | None:
    """Of a file of the host's; of a checkpoint, which alone is loaded by its path, any."""
    if folder == "checkpoints" and os.path.isabs(name) and os.path.isfile(name):
        return name
    return folder_paths.get_full_path(folder, name)


def _loaded(choice: ModelChoice) -> tuple[Any, Any, Any]:
    model, clip, vae = _checkpoint(choice)
    for lora in choice.loras:
        model, clip = _with_lora(model, clip, lora)
    return model, clip, vae


def _with_lora(model: Any, clip: Any, lora: LoRAChoice) -> tuple[Any, Any]:
    """As the stock node applies it. ValueError if it is for another model."""
    of_clip = lora.strength if lora.clip_strength is None else lora.clip_strength
    with torch.inference_mode():
        changed = nodes.LoraLoader().load_lora(model, clip, lora.name, lora.strength, of_clip)
    wanted = lora.strength or of_clip
    if wanted and _patches(*changed) == _patches(model, clip):
        raise ValueError(
            f"LoRA {quoted(lora.name)} changes nothing of this model: it is for another family, or "
            "is no LoRA; take it out of loras, or choose the checkpoint that it was made for"
        )
    return changed


def _patches(model: Any, clip: Any) -> int:
    """How many changes of weights are on MODEL and CLIP."""
    return sum(len(own) for patcher in (model, clip.patcher) for own in patcher.patches.values())


def _checkpoint(choice: ModelChoice) -> tuple[Any, Any, Any]:
    if choice.checkpoint == MICRO:
        return load_micro(embedding_folders())
    path = _path(choice.checkpoint, "checkpoints")
    if path is None:
        raise ValueError(f"checkpoint {quoted(choice.checkpoint)} is gone")
    with torch.inference_mode():
        model, clip, vae = comfy.sd.load_checkpoint_guess_config(
            path, output_vae=True, output_clip=True, embedding_directory=embedding_folders()
        )[:3]
    if choice.vae:
        [vae] = nodes.VAELoader().load_vae(choice.vae)
    return model, clip, vae
