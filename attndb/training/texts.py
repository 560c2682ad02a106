"""Texts: the words that a stage trains on, as the text encoder sees them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..config.choices import CategoryToken
from ..config.stage import StageConfig
from ..data.dataset import ConceptDataset
from ..data.tokens import CategoryWord, TokenizedPrompt, TokenizedText
from ..models.conditioning import Embeddings
from ..models.protocol import Model
from .workbench import Workbench


@dataclass(frozen=True)
class Texts:
    """The words that a stage trains on."""

    prompts: tuple[TokenizedPrompt, ...]
    """The dataset's, with the category, in its order: the first photo's first."""
    category: CategoryWord
    own: tuple[TokenizedText, ...]
    """Those of the method, which are trained with instead; none: the dataset's."""
    initial: tuple[int, ...]
    """Tokens that the placeholder begins as, a vector for each; none: the category."""
    prior: TokenizedText | None
    """Prompt of the prior images, if there are any."""

    def start(self, model: Model, config: StageConfig) -> Embeddings:
        """The placeholder's vectors before any training."""
        if not self.initial:
            return model.initial_embeddings(self.category.initial_ids, config.vectors)
        each = [model.initial_embeddings((token,), 1) for token in self.initial]
        return {name: torch.cat([vectors[name] for vectors in each]) for name in each[0]}


def texts_of(
    bench: Workbench,
    dataset: ConceptDataset,
    config: StageConfig,
    category_token: CategoryToken,
    vectors: int | None,
    prior: TokenizedText | None,
) -> Texts:
    """The words of a training. `vectors`: those that the concept so far has; None: it begins."""
    words = config.words
    initial: tuple[int, ...] = ()
    if vectors is None:
        initial = bench.token_ids(words.initial) if words.initial else ()
        vectors = len(initial) or config.vectors
    prompts, category = bench.tokenize(dataset, vectors, category_token)
    own: tuple[TokenizedText, ...] = ()
    if words.templates or not words.with_category:
        subject = words.subject(dataset.placeholder, dataset.category)
        written = [t.replace("{}", subject) for t in words.templates or dataset.templates]
        own = bench.tokenize_prompts(dataset, vectors, written)
    return Texts(prompts, category, own, initial, prior)
