"""Prompts as the training needs them: the tokens of the host's tokenizers, None for a vector."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ....attndb.artifacts.concept import TrainedConcept
from ....attndb.config.choices import CategoryToken
from ....attndb.config.words import word_key
from ....attndb.data.dataset import ConceptDataset
from ....attndb.data.placeholder import placeholder_pattern
from ....attndb.data.tokens import (
    CategoryWord,
    TokenizedPrompt,
    TokenizedText,
    check_length,
    locate,
)
from ....attndb.methods.neti import MODULE as NETI
from ....attndb.models.embedding_correction import corrected
from .once_read import once_read
from .placeholders import (
    apply_to_clip,
    check_vectors_fit,
    embedding_widths,
    encoder_names,
    known_placeholders,
    token_embeddings,
    with_vectors,
)
from .weights import merged_weights


def words_of(clip: Any, text: str) -> tuple[tuple[int, ...], ...]:
    """Token ids of a text, one group per word, without start and end tokens."""
    inner = getattr(clip.tokenizer, encoder_names(clip.tokenizer)[0])
    end = -1 if getattr(inner, "tokenizer_adds_end_token", True) else None
    return tuple(
        tuple(inner.tokenizer(word)["input_ids"][inner.tokens_start : end]) for word in text.split()
    )


def tokenize_training_prompts(
    clip: Any, dataset: ConceptDataset, vectors: int, category_token: CategoryToken
) -> tuple[tuple[TokenizedPrompt, ...], CategoryWord]:
    """The dataset's prompts, in its order, as the stock text encode node would see them, and its
    category.

    ValueError for a placeholder that the text encoder already knows as a word, and for a template
    or caption that holds other vectors than the placeholder's, or is too long.
    """
    ids = words_of(clip, dataset.placeholder)
    if len(ids) == 1 and len(ids[0]) == 1:
        raise ValueError(
            f"placeholder {dataset.placeholder!r} is already a word that the model knows: choose a "
            f"new one in the dataset node, e.g. <my-{dataset.placeholder}>"
        )
    category = CategoryWord(dataset.category, words_of(clip, dataset.category), category_token)
    marked = with_blank_vectors(clip, dataset.placeholder, vectors)
    prompts = []
    for prompt in dataset.prompts:
        source = dataset.source_of(prompt)
        _check_plain_words(clip, dataset.placeholder, prompt, source)
        tokens = _tokens(marked, prompt, source)
        shorten = "the template" if len(dataset.prompts) == 1 else source
        prompts.append(locate(prompt, tokens, category, shorten))
    return tuple(prompts), category


def tokenize_prompts(
    clip: Any, dataset: ConceptDataset, vectors: int, prompts: Sequence[str]
) -> tuple[TokenizedText, ...]:
    """Training prompts, which hold the placeholder once, as the stock text encode node would see
    them."""
    marked = with_blank_vectors(clip, dataset.placeholder, vectors)
    tokenized = []
    for prompt in prompts:
        tokens = _tokens(marked, prompt, f"the training prompt {prompt!r}")
        check_length(prompt, tokens, "the template, or the placeholder's word")
        tokenized.append(TokenizedText(prompt, tuple(tokens)))
    return tuple(tokenized)


def token_ids(clip: Any, word: str) -> tuple[int, ...]:
    """Ids of a plain word. ValueError if it has none, or is more than a word."""
    words = words_of(clip, word)
    if len(words) != 1 or not words[0]:
        raise ValueError(
            f"{word!r} is not one word of plain text: type a rare word that the model reads as "
            "nothing in particular, e.g. sks"
        )
    return words[0]


def _check_plain_words(clip: Any, placeholder: str, prompt: str, source: str) -> None:
    """ValueError if the training prompt holds an embedding, or a placeholder besides its own."""
    own, *more = (placeholder, *known_placeholders(clip))
    found = [m[0] for m in re.finditer(placeholder_pattern([own, *more]), prompt)]
    ours = [word for word in found if word_key(word) == word_key(own)]
    others = [word for word in found if word not in ours] + ours[1:]
    spelt = re.search(r"(?<!\w)embedding:\S*", prompt)
    if spelt is not None or others:
        what = f"the embedding {spelt[0]!r}" if spelt else f"the placeholder {others[0]!r}"
        raise ValueError(
            f"the training prompt {prompt!r} ({source}) uses {what}: "
            "it holds plain words, and {} where the placeholder goes; take the other out in the "
            "dataset node"
        )


def tokenize_prior_prompt(clip: Any, prompt: str) -> TokenizedText:
    """The prompt of prior images as the stock text encode node would see it.

    ValueError if it holds an embedding, or does not fit in one CLIP chunk.
    """
    tokens = _tokens(clip, prompt, f"the prior images' prompt {prompt!r}")
    if None in tokens:
        raise ValueError(
            f"the prior images' prompt {prompt!r} uses an embedding or a learned placeholder: it "
            "names the category in plain words; change it in Add Prior Images"
        )
    check_length(prompt, tokens, "the prompt in Add Prior Images")
    return TokenizedText(prompt, tuple(tokens))


def _tokens(clip: Any, prompt: str, source: str) -> list[int | None]:
    """Token ids of all chunks, None for a vector, as the first text encoder is given them.
    ValueError names the `source` of weights."""
    chunks = clip.tokenize(prompt)[encoder_names(clip.tokenizer)[0].removeprefix("clip_")]
    if any(weight != 1.0 for chunk in chunks for _, weight in chunk):
        raise ValueError(
            f"{source} uses prompt weights (round brackets): training prompts have none"
        )
    return [None if isinstance(t, Tensor) else int(t) for chunk in chunks for t, _ in chunk]


def category_embeddings(clip: Any, concept: TrainedConcept) -> dict[str, Tensor]:
    """Where the concept's placeholder would start in this CLIP: the mean token embedding (D,) of
    its category by text encoder, patches on CLIP merged. ValueError if CLIP has no word for it."""
    category_token = "first token" if concept.record.get("tie") == "first token" else "last word"
    category = CategoryWord(concept.category, words_of(clip, concept.category), category_token)
    ids = category.initial_ids

    def means() -> dict[str, Tensor]:
        found = {}
        for name, weight in token_embeddings(clip).items():
            [key] = [n for n, p in clip.cond_stage_model.named_parameters() if p is weight]
            [merged] = merged_weights(clip.patcher, key).values()
            with torch.inference_mode(False):  # for whoever asks next, too
                found[name] = merged[list(ids)].mean(dim=0)
        return found

    return once_read(clip.patcher, ("mean token embedding", *ids), means)


def corrected_clip(clip: Any, concept: TrainedConcept, correction: float) -> Any:
    """`apply_to_clip` with the vectors turned towards the category's embedding; 0: as they are."""
    if correction == 0:
        return apply_to_clip(clip, concept)
    check_vectors_fit(clip, concept)
    if any(name.startswith(NETI) for name in concept.modules):
        raise ValueError(
            f"correction = {correction}: the word {concept.placeholder} has no one vector to turn, "
            "but one for every timestep and layer: use 0"
        )
    goals = category_embeddings(clip, concept)
    vectors = {n: corrected(v, goals[n], correction) for n, v in concept.embeddings.items()}
    return apply_to_clip(clip, concept, vectors)


def with_blank_vectors(clip: Any, placeholder: str, count: int) -> Any:
    """A clone of CLIP in whose prompts the placeholder takes the place of `count` vectors."""
    blank = {name: torch.zeros(count, width) for name, width in embedding_widths(clip).items()}
    return with_vectors(clip, placeholder, blank)
