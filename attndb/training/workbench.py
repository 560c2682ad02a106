"""Workbench: what a session asks of the place where it trains. ComfyUI's side implements it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from ..artifacts.concept import TrainedConcept
from ..config.choices import CategoryToken
from ..config.stage import StageConfig
from ..data.dataset import ConceptDataset
from ..data.latent_pool import PoolSettings
from ..data.tokens import CategoryWord, TokenizedPrompt, TokenizedText
from ..models.conditioning import Embeddings
from ..models.protocol import Model
from .callback import Callback
from .ranks import Ranks
from .run import Run


class TrainableModel(Model, Protocol):
    """A private model with its autoencoder beside it."""

    @property
    def encoded_in_tiles(self) -> int:
        """Of the photos so far, those that were encoded in tiles for want of memory."""
        ...

    def offload_autoencoder(self) -> None:
        """No image will be encoded any more: its memory may be used for something else."""
        ...


Trainable = TypeVar("Trainable", bound=TrainableModel)


class Workbench(Protocol[Trainable]):
    """A base model with what belongs to it, and the ways to show what becomes of a training."""

    ranks: Ranks
    """The processes that train together, each at a workbench of its own."""

    @property
    def weights_dtype(self) -> torch.dtype:
        """Of the weight changes that a concept keeps."""
        ...

    def check(
        self, dataset: ConceptDataset, concept: TrainedConcept | None, vectors: int | None
    ) -> None:
        """ValueError, with the remedy, unless the base can be trained and the concept goes on from
        it for this dataset, with as many vectors as are asked for; None: as it has."""
        ...

    def identity(self, dataset: ConceptDataset) -> dict[str, Any]:
        """All of the base and the machine that decides what a training gives, as plain data:
        `base_family`, `base_sha256`, `prediction_type`, `schedule_sha256`, `versions` and more."""
        ...

    def text_key(self) -> str:
        """Name that embedding files have for the base's text encoder; of several the first."""
        ...

    def clip_layer(self) -> int:
        """The layer of the text encoder that is read (attndb/artifacts/clip_layer.py)."""
        ...

    def tokenize(
        self, dataset: ConceptDataset, vectors: int, category_token: CategoryToken
    ) -> tuple[tuple[TokenizedPrompt, ...], CategoryWord]:
        """The dataset's training prompts, in its order, and their category."""
        ...

    def tokenize_prompts(
        self, dataset: ConceptDataset, vectors: int, prompts: Sequence[str]
    ) -> tuple[TokenizedText, ...]:
        """Training prompts, each with the placeholder in it."""
        ...

    def token_ids(self, word: str) -> tuple[int, ...]:
        """Of a plain word."""
        ...

    def tokenize_prior(self, prompt: str) -> TokenizedText:
        """The prompt of prior images."""
        ...

    def run_folder(self, name: str) -> Path:
        """Where a training of this name keeps its work."""
        ...

    def private_model(
        self, dataset: ConceptDataset, concept: TrainedConcept | None
    ) -> AbstractContextManager[Trainable]:
        """A private copy of the base with a concept's weights, for as long as the context lasts."""
        ...

    def fit_to_memory(
        self,
        model: Trainable,
        choices: Sequence[StageConfig],
        prompts: Sequence[TokenizedText],
        embeddings: Embeddings,
        prior: bool,
        encodes: bool,
    ) -> StageConfig:
        """The first of the settings that fits into the free memory, said to the user; or the one
        that needs least. `prompts`: those that are trained on. `encodes`: pictures are encoded
        between the steps."""
        ...

    def pool(self, resolution: int) -> PoolSettings:
        """How pictures of this side become latents here, and where these are kept."""
        ...

    def callbacks(
        self,
        model: Trainable,
        config: StageConfig,
        dataset: ConceptDataset,
        prompt: TokenizedPrompt,
        embeddings: Embeddings,
        run: Run,
    ) -> Sequence[Callback]:
        """Who looks at the training; `prompt`: of the first photo."""
        ...

    def encoding(self) -> Callable[[int, int], None]:
        """Who is told of every picture that is encoded ahead of a training, how many of how many
        are done; may raise to stop it."""
        ...

    def ends_early(self) -> bool:
        """Asked between two steps: whether the training is to end with what it has learned."""
        ...

    def ended(self, folder: Path, done: int) -> None:
        """Tells whoever waits for the training that it ended, now or before, after `done` steps,
        and in which run folder its work lies."""
        ...

    def thumbnail(self, dataset: ConceptDataset) -> str:
        """A small picture of the subject as a data URL, for the record."""
        ...

    def keep_concept(self, concept: TrainedConcept, run: str, done: int, most: int) -> None:
        """Keeps a concept of a training that goes on, after `done` steps of the run of that name,
        where it can be loaded at once; of one run no more than `most`. OSError if it cannot be."""
        ...

    def kept(self, message: str) -> None:
        """Tells whoever waits for the training where its result lies, and how much that takes."""
        ...

    def not_kept(self, message: str) -> None:
        """Tells whoever waits for the training that its result is not on disk, and why."""
        ...
