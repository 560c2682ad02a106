"""Texts: the words that a stage trains on, as the text encoder sees them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..config.stage import StageConfig
from ..data.tokens import CategoryWord, TokenizedPrompt, TokenizedText
from ..models.conditioning import Embeddings
from ..models.protocol import Model
from .stage_request import StageRequest
from .workbench import Workbench


@dataclass(frozen=True)
class Texts:
    """The words that a stage trains on."""

    prompts: tuple[TokenizedPrompt, ...]
    """The dataset's, with the category, in its order: the first photo's first."""
    category: CategoryWord
    bare: tuple[TokenizedText, ...]
    """The same without the category, where the method's words are; none: as they are."""
    own: tuple[TokenizedText, ...]
    """Those of the method, which are trained with instead; none: the dataset's."""
    initial: tuple[int, ...]
    """Tokens that the placeholder begins as, a vector for each; none: the category."""
    prior: TokenizedText | None
    """Prompt of the prior images, if there are any."""

    @property
    def trained(self) -> tuple[TokenizedText, ...]:
        """Those that samples of the subject come with."""
        return self.own or self.of_photos

    @property
    def of_photos(self) -> tuple[TokenizedText, ...]:
        """The dataset's as the method writes them, in its order."""
        return self.bare or self.prompts

    def start(self, model: Model, config: StageConfig) -> Embeddings:
        """The placeholder's vectors before any training."""
        if not self.initial:
            return model.initial_embeddings(self.category.initial_ids, config.vectors)
        each = [model.initial_embeddings((token,), 1) for token in self.initial]
        return {name: torch.cat([vectors[name] for vectors in each]) for name in each[0]}


def texts_of(bench: Workbench, request: StageRequest, prior: TokenizedText | None) -> Texts:
    """The words of a training; `prior`: the prompt of its prior images."""
    dataset, config, concept = request.dataset, request.config, request.concept
    words = config.words
    initial: tuple[int, ...] = ()
    if concept is not None:
        vectors = len(concept.vectors)
    else:
        initial = bench.token_ids(words.initial) if words.initial else ()
        vectors = len(initial) or config.vectors
    prompts, category = bench.tokenize(dataset, vectors, request.category_token)
    subject = words.subject(dataset.placeholder, dataset.category)
    bare: tuple[TokenizedText, ...] = ()
    own: tuple[TokenizedText, ...] = ()
    if words.templates:
        written = [template.replace("{}", subject) for template in words.templates]
        own = bench.tokenize_prompts(dataset, vectors, written)
    elif not words.with_category:
        bare = bench.tokenize_prompts(dataset, vectors, dataset.prompts_of_a(subject))
    return Texts(prompts, category, bare, own, initial, prior)
