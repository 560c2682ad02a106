"""HostWorkbench: ComfyUI as the place where a stage is trained (attndb's Workbench)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.model_management
import torch
from PIL import Image

from ...attndb.artifacts.concept import TrainedConcept
from ...attndb.artifacts.owner_limit import limit_in_bytes
from ...attndb.config.choices import CategoryToken
from ...attndb.config.stage import StageConfig
from ...attndb.data.augmentation import Crop, render
from ...attndb.data.continuation import check_same_placeholder
from ...attndb.data.dataset import ConceptDataset
from ...attndb.data.latent_cache import DEFAULT_LIMIT, LIMIT_VARIABLE, LatentCache
from ...attndb.data.latent_pool import PoolSettings
from ...attndb.data.tokens import CategoryWord, TokenizedPrompt, TokenizedText
from ...attndb.models.conditioning import Embeddings
from ...attndb.models.precision import bf16_warning, has_bf16_autocast
from ...attndb.training.attention_monitor import AttentionMonitor, AttentionMonitorSettings
from ...attndb.training.callback import Callback
from ...attndb.training.doubtful_settings import doubts
from ...attndb.training.ranks import Ranks
from ...attndb.training.run import Run
from .compat import versions
from .kept_concepts import keep_checkpoint
from .model.clip_layer import chosen_layer
from .model.concept_patches import check_fits
from .model.continuation import check_start
from .model.digests import autoencoder_digest, text_digest, unet_digest
from .model.encoding import crops_at_once, encoder_device, encoder_identity, room_for_latents
from .model.families import check_trainable, family, misfit_of, sampling_identity
from .model.memory import fit_to_memory
from .model.photo_encoder import IN_TILES
from .model.placeholders import apply_to_clip, encoder_names
from .model.private_model import PrivateModel, private_model, training_mode
from .model.reference_image import photo_latent
from .model.text import (
    token_ids,
    tokenize_prior_prompt,
    tokenize_prompts,
    tokenize_training_prompts,
)
from .model.weights import UNET_PREFIX, delta_dtype, merged_weights
from .paths import latents_folder, run_folder
from .ui.early_end import EARLY_END
from .ui.images import thumbnail_url
from .ui.plan import NodePlan
from .ui.preview import PreviewPictures, PreviewSampler, PreviewSettings
from .ui.progress import EncodingProgress, TrainingProgress
from .ui.status import running_node, show_text
from .ui.watcher import Watcher

log = logging.getLogger(__name__)

_UNTRAINED = (
    "no concept connected: the word starts untrained here; connect the concept of the stage "
    "before, unless that is meant"
)


class HostWorkbench:
    """MODEL, CLIP and VAE on the wires of a node: they stay as they are."""

    def __init__(
        self,
        model: Any,
        clip: Any,
        vae: Any,
        plan: NodePlan,
        preview: PreviewSettings | None = None,
        watcher: Watcher | None = None,
        ranks: Ranks | None = None,
        preset: str = "",
    ) -> None:
        """`plan`: of the node that trains; its present stage is the one that is trained. `ranks`:
        the processes that train together; None: this one alone. `preset`: that the settings came
        from, if any."""
        self.ranks, self._preset = ranks or Ranks(), preset
        self._model, self._clip, self._vae = model, clip, vae
        self._plan, self._preview, self._watcher = plan, preview, watcher
        self._goes_on = True

    @property
    def weights_dtype(self) -> torch.dtype:
        """fp32 for a MODEL in fp32, else fp16."""
        return delta_dtype(self._model)

    def check(
        self, dataset: ConceptDataset, concept: TrainedConcept | None, vectors: int | None
    ) -> None:
        """ValueError, naming family or wire, unless these can be trained together."""
        check_trainable(self._model, self._clip, self._vae)
        check_start(self._model, self._clip, dataset, concept, vectors)
        if concept is not None:
            check_fits(self._model, concept)
            apply_to_clip(self._clip, concept)
            check_same_placeholder(dataset.placeholder, concept.placeholder)

    def identity(self, dataset: ConceptDataset) -> dict[str, Any]:
        """What decides a training besides the request: weights, schedule, precision, versions."""
        device = comfy.model_management.get_torch_device()
        encodes_on = encoder_device(self._vae, device).type
        return {
            "base_family": family(self._model),
            "base_sha256": unet_digest(self._model, dataset.placeholder),
            "clip_sha256": text_digest(self._clip),
            "clip_layer": self._clip.layer_idx,
            "vae_sha256": autoencoder_digest(self._vae),
            "vae_dtype": str(getattr(self._vae, "vae_dtype", None)).removeprefix("torch."),
            **({} if encodes_on == device.type else {"vae_device": encodes_on}),
            **sampling_identity(self._model),
            "device": str(device.type),
            "versions": versions(),
        }

    def text_key(self) -> str:
        """E.g. `clip_l`."""
        return encoder_names(self._clip.tokenizer)[0]

    def clip_layer(self) -> int:
        """As CLIP Set Last Layer chose it."""
        return chosen_layer(self._clip)

    def tokenize(
        self, dataset: ConceptDataset, vectors: int, category_token: CategoryToken
    ) -> tuple[tuple[TokenizedPrompt, ...], CategoryWord]:
        """The training prompts as the stock text encode node would see them, and their category."""
        return tokenize_training_prompts(self._clip, dataset, vectors, category_token)

    def tokenize_prompts(
        self, dataset: ConceptDataset, vectors: int, prompts: Sequence[str]
    ) -> tuple[TokenizedText, ...]:
        """Training prompts as the stock text encode node would see them."""
        return tokenize_prompts(self._clip, dataset, vectors, prompts)

    def token_ids(self, word: str) -> tuple[int, ...]:
        """Of a plain word, without start and end tokens."""
        return token_ids(self._clip, word)

    def tokenize_prior(self, prompt: str) -> TokenizedText:
        """The prompt of prior images as the stock text encode node would see it."""
        return tokenize_prior_prompt(self._clip, prompt)

    def run_folder(self, name: str) -> Path:
        """Under the host's output directory."""
        return run_folder(name)

    @contextmanager
    def private_model(
        self, dataset: ConceptDataset, concept: TrainedConcept | None
    ) -> Iterator[PrivateModel]:
        """A private copy of the MODEL with the concept's weights, in the host's training mode."""
        weights = merged_weights(self._model, UNET_PREFIX, without_concept=dataset.placeholder)
        self._goes_on = concept is not None
        with training_mode():
            delta = {} if concept is None else concept.delta
            wires = (self._model, self._clip, self._vae)
            model = private_model(*wires, weights, delta, lambda: self._say_once(IN_TILES))
            del weights  # what goes on a card would stay in main memory as well
            yield model

    def fit_to_memory(
        self,
        model: PrivateModel,
        choices: Sequence[StageConfig],
        prompts: Sequence[TokenizedText],
        embeddings: Embeddings,
        prior: bool,
        encodes: bool,
    ) -> StageConfig:
        """What fits into the device's free memory, said in the log and under the node. On a CPU the
        first: there low_memory takes much longer, and a system with little memory still pages. Nor
        does low_memory turn itself on where there is no bf16 (DirectML, old MPS)."""
        if model.device.type == "cpu" or not has_bf16_autocast(model.device):
            choices = choices[:1]
        first = choices[0]
        if first.traits.ties_maps and "embedding" not in first.trains and not self._goes_on:
            self._note(_UNTRAINED)  # this and the next the log has already
        for doubt in doubts(first):
            self._note(doubt)
        self._say_once(bf16_warning(choices[0], model.device))
        self._say_once(misfit_of(self._model, self._preset, choices[0]))
        fitted = fit_to_memory(
            self._plan.title,
            model,
            self._vae if encodes else None,
            choices,
            prompts,
            embeddings,
            prior,
            self._preset,
        )
        if fitted.low_memory and not choices[0].low_memory:
            self._plan.notes.append("low_memory was turned on, so that it fits")
            slow = bf16_warning(fitted, model.device, turned_on=True, preset=self._preset)
            self._say_once(slow)
        return fitted

    def pool(self, resolution: int) -> PoolSettings:
        """As large as this machine's memory allows; latents are kept under the host's output
        directory, bounded by the owner's ATTNDB_LATENTS_GB."""
        device = comfy.model_management.get_torch_device()
        encoder = {
            "latents": family(self._model),
            **encoder_identity(self._vae, device),
            "versions": versions(),
        }
        limit = limit_in_bytes(LIMIT_VARIABLE, DEFAULT_LIMIT)
        return PoolSettings(
            at_once=crops_at_once(self._vae, resolution, device),
            room=room_for_latents(),
            cache=LatentCache(latents_folder(), encoder, limit),
        )

    def callbacks(
        self,
        model: PrivateModel,
        config: StageConfig,
        dataset: ConceptDataset,
        prompt: TokenizedPrompt,
        embeddings: Embeddings,
        run: Run,
    ) -> Sequence[Callback]:
        """The bar, the curve and the text under the node; pictures and maps if asked for."""
        preview, pictures = self._preview, None
        callbacks: list[Callback] = []
        if preview is not None:
            names = (dataset.placeholder, dataset.category)
            names = names if config.words.with_category else names[:1]
            wires = (self._model, self._clip, self._vae)
            photo = self.reference(config, dataset)
            sampler = PreviewSampler(preview, *wires, model.unet, names, photo)
            pictures = PreviewPictures(sampler, run.folder / "previews", config.steps)
            if preview.attention_maps and config.text_by_layer:
                self._say_once("attention_maps: not looked at, each layer reads a text of its own")
            elif preview.attention_maps:
                monitor = _attention_monitor(model, config, dataset, prompt, preview.every, run)
                monitor.begin(model, embeddings)
                callbacks.append(monitor)
        EARLY_END.begin(running_node() or "")
        title, plan = self._plan.title, self._plan
        progress = TrainingProgress(
            title, config.steps, pictures, lambda: run.trouble, plan, self._watcher
        )
        return [*callbacks, progress]

    def reference(self, config: StageConfig, dataset: ConceptDataset) -> dict[str, Any] | None:
        """The first photo as a LATENT, for a method that looks at one while it draws."""
        if not config.needs_photo:
            return None
        return photo_latent(self._vae, dataset.photos[0].image, config.data.resolution)

    def encoding(self) -> EncodingProgress:
        """Moves the host's bar; Cancel stops it."""
        return EncodingProgress(self._plan.title, self._plan, self._watcher)

    def thumbnail(self, dataset: ConceptDataset) -> str:
        """Of the first photo."""
        return thumbnail_url(dataset.photos[0].image)

    def _say_once(self, warning: str) -> None:
        """In the log and under the node, from before the first step to the end; of all stages that
        the node trains once."""
        if warning and warning not in self._plan.notes:
            log.warning("%s: %s", self._plan.title, warning)
            self._note(warning)

    def _note(self, text: str) -> None:
        """Under the node, from before the first step to the end."""
        if text not in self._plan.notes:
            self._plan.notes.append(text)
            show_text(text)

    def ends_early(self) -> bool:
        """Whether the user has pressed *End this stage* in the page."""
        return EARLY_END.asked

    def ended(self, folder: Path, done: int) -> None:
        """Under the node, to the end; that it ended early also in the log, with how to have the
        rest."""
        plan = self._plan
        plan.folder = f"output/attndb/{folder.name}"
        if done < plan.steps:
            where = f"step {done} of {plan.steps}"
            rest = f"to train the rest delete {plan.folder}"
            self._say_once(f"{plan.title} was ended at {where}; {rest}")

    def keep_concept(self, concept: TrainedConcept, run: str, done: int, most: int) -> None:
        """Among the host's embeddings and LoRAs, in a folder of the run's."""
        name = keep_checkpoint(concept, run, done, most)
        log.info("%s: concept after step %d: %s (Load Concept)", self._plan.title, done, name)

    def kept(self, message: str) -> None:
        """Under the running node, to the end; the newest stage's."""
        self._plan.kept = message

    def not_kept(self, message: str) -> None:
        """Under the running node, to the end."""
        self._plan.not_kept = message
        show_text(message)


def _attention_monitor(
    model: PrivateModel,
    config: StageConfig,
    dataset: ConceptDataset,
    prompt: TokenizedPrompt,
    every: int,
    run: Run,
) -> AttentionMonitor:
    """Looks at the first training photo, cut from its centre."""
    pixels, _ = render(dataset.photos[0].image, Crop(), config.data.resolution)
    return AttentionMonitor(
        AttentionMonitorSettings(every=every, seed=config.seed),
        prompt,
        (dataset.placeholder, dataset.category),
        model.encode_image(torch.from_numpy(pixels)[None]).float().cpu(),
        Image.fromarray((pixels * 255.0).round().astype("uint8")),
        config.steps,
        run.folder / "attention",
    )
