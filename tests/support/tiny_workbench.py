"""TinyWorkbench: where a session trains the tiny model, without nodes and server."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from attndreambooth.attndb.config.data import DataConfig
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.data.dataset import ConceptDataset
from attndreambooth.attndb.data.latent_pool import PoolSettings
from attndreambooth.attndb.data.photo_file import photos_from_arrays
from attndreambooth.attndb.data.tokens import CategoryWord, TokenizedText
from attndreambooth.attndb.training.ranks import Ranks
from attndreambooth.attndb.training.stage_request import StageRequest
from attndreambooth.attndb.training.workbench import Workbench
from attndreambooth.devkit.tiny_model import DOLL, END, PHOTO_OF, START, prompt_of, tiny_model


class TinyWorkbench:
    """The tiny model, latents that are pixels, and a memory that holds what the test says."""

    weights_dtype = torch.float32
    ranks = Ranks()
    layer = 0

    def __init__(self, folder, *, fits=lambda config: True):
        self.folder, self.fits = folder, fits
        self.models = 0
        self.said = []

    def check(self, dataset, concept, vectors):
        pass

    def identity(self, dataset):
        return {
            "base_family": "tiny",
            "base_sha256": "00",
            "prediction_type": "epsilon",
            "schedule_sha256": "11",
            "versions": {},
        }

    def text_key(self):
        return "clip_l"

    def clip_layer(self):
        return self.layer

    def tokenize(self, dataset, vectors, category_token):
        prompts = [prompt_of(vectors=vectors, text=text) for text in dataset.prompts]
        return tuple(prompts), CategoryWord("doll", ((DOLL,),), category_token)

    def tokenize_prompts(self, dataset, vectors, prompts):
        return tuple(prompt_of(vectors=vectors, text=text) for text in prompts)

    def token_ids(self, word):
        return (DOLL,)

    def tokenize_prior(self, prompt):
        return TokenizedText(prompt, (START, *PHOTO_OF, DOLL, *[END] * 71))

    def run_folder(self, name):
        return self.folder / name

    @contextmanager
    def private_model(self, dataset, concept):
        self.models += 1
        model = tiny_model()
        model.encode_image = lambda pixels: torch.nn.functional.avg_pool2d(
            torch.cat([pixels, pixels[..., :1]], dim=-1).movedim(-1, 1), 8
        )
        yield model

    def pool(self, resolution):
        return PoolSettings()

    def fit_to_memory(self, model, choices, prompts, embeddings, prior, encodes):
        return next((config for config in choices if self.fits(config)), choices[-1])

    def callbacks(self, model, config, dataset, prompt, embeddings, run):
        return []

    def encoding(self):
        return lambda done, total: None

    def ends_early(self):
        return False

    def ended(self, folder, done):
        self.said.append(f"ended at step {done} in {folder.name}")

    def thumbnail(self, dataset):
        return "data:,"

    def keep_concept(self, concept, run, done, most):
        self.said.append(f"concept of step {done} in {run}")

    def kept(self, message):
        self.said.append(message)

    def not_kept(self, message):
        self.said.append(message)


if TYPE_CHECKING:  # it has all that a session asks for
    _: Workbench[Any] = TinyWorkbench(Path())


def request_of() -> StageRequest:
    """Three steps of stage 2 on three pictures of noise."""
    pictures = np.random.default_rng(0).random((3, 64, 64, 3), dtype=np.float32)
    dataset = ConceptDataset(photos_from_arrays(list(pictures)), "doll", "<my-doll>")
    config = StageConfig(
        stage=2,
        steps=3,
        batch_size=2,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        data=DataConfig(resolution=64),
        precision="fp32",
    )
    return StageRequest(dataset=dataset, config=config, title="a test")
