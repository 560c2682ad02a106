"""A concept's vectors in CLIP's tokenizer: prompts that know the placeholder."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ....attndb.artifacts.concept import TrainedConcept
from ....attndb.artifacts.lineage import Lineage, check_not_another, lineage
from ....attndb.config.family import SDXL
from ....attndb.config.words import word_key
from ....attndb.data.placeholder import by_length, placeholder_pattern
from ....attndb.models.conditioning import Embeddings
from .mapped_text import with_mapped_word

SDXL_ENCODERS = SDXL.encoders
"""Of SDXL, in the order of its text states; the second one's pooled text is read, too."""

_EMBEDDING = "embedding:"
_FILE = rf"(?<!\w){_EMBEDDING}([^\s,<>\[\]():]+)"
"""A name in the host's prompt syntax; like the host's, it ends at spaces, commas and brackets."""


@dataclass(frozen=True)
class KnownPlaceholder:
    """What a placeholder stands for in the prompts of one CLIP."""

    embeddings: Embeddings
    """Vectors (V, D) by text encoder."""
    lineage: Lineage | None = None
    """Of the concept it belongs to; None while it is being trained."""

    @property
    def vectors(self) -> Tensor:
        """Those for the first text encoder: as many as for every other."""
        return next(iter(self.embeddings.values()))


def known_placeholders(clip: Any) -> dict[str, KnownPlaceholder]:
    """The placeholders that a CLIP's prompts know, by name."""
    return dict(getattr(getattr(clip, "tokenizer", None), "attndb_known", {}))


def check_clip(clip: Any) -> None:
    """ValueError if a wire has no CLIP, as that of a checkpoint without one."""
    if clip is None:
        raise ValueError(
            "CLIP is missing: the checkpoint holds none; connect a CLIP from its own loader"
        )


def apply_to_clip(clip: Any, concept: TrainedConcept, vectors: Embeddings | None = None) -> Any:
    """A clone of CLIP whose prompts know the concept's placeholder, as its own vectors or as these.
    ValueError as of `check_vectors_fit`."""
    check_vectors_fit(clip, concept)
    mine = lineage(concept)
    vectors = concept.embeddings if vectors is None else vectors
    if concept.modules:
        own = vectors[concept.text_key].clone()  # known by where they lie
        clip, vectors = with_mapped_word(clip, own, mine.key), {concept.text_key: own}
    return with_vectors(clip, concept.placeholder, vectors, mine)


def check_vectors_fit(clip: Any, concept: TrainedConcept) -> None:
    """ValueError if a concept's vectors are not for this CLIP, or if another concept has the
    placeholder there."""
    check_clip(clip)
    theirs = {name: value.shape[1] for name, value in concept.embeddings.items()}
    widths = embedding_widths(clip)
    if set(theirs) != set(widths):
        raise ValueError(
            f"the concept {concept.placeholder} was trained for {concept.base_family} "
            f"({_shown(theirs)}), and this CLIP is {_shown(widths) or 'of another kind'}: "
            f"use the CLIP of a {concept.base_family} checkpoint"
        )
    for key, width in theirs.items():
        if width != widths[key]:
            raise ValueError(
                f"the vectors of the concept {concept.placeholder} have width {width}, and this "
                f"CLIP ({key}) reads {widths[key]}: use the CLIP that the concept was trained "
                "with; if it is this one, the concept's file is damaged: restore it, or train it "
                "again"
            )
    mine = lineage(concept)
    for known in known_placeholders(clip).values():
        if known.lineage is not None:
            check_not_another(known.lineage, mine, "CLIP")


def _shown(widths: Mapping[str, int]) -> str:
    return " and ".join(f"{name}, width {width}" for name, width in widths.items())


def token_embeddings(clip: Any) -> dict[str, Tensor]:
    """CLIP's tables of token embeddings (tokens, D) by text encoder, as they lie in the model."""
    model = clip.cond_stage_model
    return {
        name: getattr(model, name).transformer.get_input_embeddings().weight
        for name in encoder_names(model)
    }


def embedding_widths(clip: Any) -> dict[str, int]:
    """Width of the token embeddings of every text encoder."""
    return {name: table.shape[1] for name, table in token_embeddings(clip).items()}


def encoder_names(holder: Any) -> tuple[str, ...]:
    """The attributes of a host tokenizer or text model that hold its CLIPs, in the order of the
    text states: `clip_l` or `clip_h`, and of SDXL both of SDXL_ENCODERS."""
    only = getattr(holder, "clip", None)
    if only is not None:
        return (str(only),)
    return tuple(name for name in SDXL_ENCODERS if hasattr(holder, name))


def with_vectors(
    clip: Any, placeholder: str, vectors: Embeddings | Tensor, owner: Lineage | None = None
) -> Any:
    """A clone of CLIP in whose prompts `placeholder` stands for these vectors, by text encoder; a
    tensor: those of the only one.

    The host's own way for embeddings is used (`embedding:name` in a prompt), with the vectors in
    memory instead of in a file. CLIP and its tokenizer stay as they are; placeholders that were
    added before stay known, save the same one however it is written.
    """
    clone, outer = clip.clone(), copy.copy(clip.tokenizer)
    names = encoder_names(outer)
    if isinstance(vectors, Tensor):
        [only] = names
        vectors = {only: vectors}
    known = {
        name: what
        for name, what in known_placeholders(clip).items()
        if word_key(name) != word_key(placeholder)
    }
    known[placeholder] = KnownPlaceholder(vectors, owner)
    lookups = []
    for name in names:
        inner = copy.copy(getattr(outer, name))
        if inner.embedding_directory is None:
            inner.embedding_directory = []
        lookups.append(_host_lookup(inner))
        bare = _host_lookup(_without_folders(inner))
        inner._try_get_embedding = _lookup(name, known, lookups[-1], bare)
        setattr(outer, name, inner)
    outer.attndb_known = known
    plain = type(outer).tokenize_with_weights.__get__(outer)
    is_file = _file_test(lookups[0])
    outer.tokenize_with_weights = lambda text, *args, **kwargs: plain(
        spell_out(text, known, is_file), *args, **kwargs
    )
    clone.tokenizer = outer
    return clone


def _memory_name(placeholder: str) -> str:
    """The embedding name that stands for a placeholder inside a prompt; no prompt syntax in it."""
    return "attndb-" + placeholder.encode().hex()


def _host_lookup(tokenizer: Any) -> Callable[[str], tuple[Any, ...]]:
    """The host's own lookup of a name in the tokenizer's embedding folders."""
    return type(tokenizer)._try_get_embedding.__get__(tokenizer)


def _without_folders(tokenizer: Any) -> Any:
    bare = copy.copy(tokenizer)
    bare.embedding_directory = []
    return bare


def _file_test(from_file: Callable[[str], tuple[Any, ...]]) -> Callable[[str], bool]:
    return lambda name: from_file(name)[0] is not None


def _lookup(
    encoder: str,
    known: Mapping[str, KnownPlaceholder],
    from_file: Callable[[str], tuple[Any, ...]],
    from_no_file: Callable[[str], tuple[Any, ...]],
) -> Callable[[str], tuple[Any, ...]]:
    in_memory = {_memory_name(word): what.embeddings[encoder] for word, what in known.items()}

    def try_get_embedding(name: str) -> tuple[Any, ...]:
        vectors = in_memory.get(next(iter(name.split()), ""))
        if vectors is None:
            return from_file(name)
        # Vectors come first in the answer; what follows differs between hosts, so theirs is given.
        return (vectors, *from_no_file(name)[1:])

    return try_get_embedding


def spell_out(
    text: str, known: Mapping[str, Any], is_file: Callable[[str], bool] = lambda name: False
) -> str:
    """The prompt with every known placeholder written as the host's embedding syntax.

    `embedding:` in front of a placeholder is taken for a part of it, unless `is_file` knows an
    embedding of that name.
    """
    if not known:
        return text
    names = by_length(known)
    words = placeholder_pattern(known)

    def spelt(match: re.Match[str]) -> str:
        file, *found = match.groups()
        if file is None:
            name = next(n for n, group in zip(names, found, strict=True) if group is not None)
            return f" {_EMBEDDING}{_memory_name(name)} "
        if is_file(file) or not re.match(words, file):
            return match[0]
        return spell_out(file, known)

    return re.sub(rf"{_FILE}|(?:(?<!\w){_EMBEDDING}\s*)?(?:{words})", spelt, text)
