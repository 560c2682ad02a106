"""A prompt as the host's tokeniser and text encoder see it: its words, and its conditioning."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from comfy.text_encoders.flux import FluxTokenizer

from ....attndb.attention.prompt_words import PromptToken, PromptWords
from ....attndb.attention.token_line import token_line
from ....attndb.config.choices import CategoryToken
from ....attndb.data.dataset import ConceptDataset
from ..model.families import check_text_encoder
from ..model.placeholders import check_clip, known_placeholders
from ..model.text import tokenize_training_prompts, with_blank_vectors

_END_OF_WORD = "</w>"  # byte-level vocabularies (CLIP)
_BEGIN_OF_WORD = "\u2581"  # SentencePiece (T5)
_ENDINGS = ("s", "t", "re", "ve", "m", "ll", "d")  # behind an apostrophe, as CLIP reads them


def prompt_words(clip: Any, text: str) -> PromptWords:
    """The words of `text` and their token columns, as the stock text encode node tokenises it."""
    return PromptWords(text, prompt_tokens(clip, text), known_placeholders(clip))


def training_token_lines(
    clip: Any, dataset: ConceptDataset, category_token: CategoryToken
) -> dict[str, str]:
    """Each training prompt of a dataset as a line of its tokens. ValueError names what could not
    be trained with."""
    check_text_encoder(clip)
    prompts, _ = tokenize_training_prompts(clip, dataset, 1, category_token)
    marked = with_blank_vectors(clip, dataset.placeholder, 1)
    return {p.text: token_line(p, prompt_tokens(marked, p.text)) for p in prompts}


def prompt_tokens(clip: Any, text: str) -> list[PromptToken]:
    """The tokens of `text` without start, end and padding."""
    check_clip(clip)
    tokens = clip.tokenize(text, return_word_ids=True)
    key = _attended(clip, tokens)
    inner = getattr(clip.tokenizer, f"clip_{key}", None) or getattr(clip.tokenizer, key)
    vocabulary: dict[int, str] = inner.inv_vocab
    ends = any(piece.endswith(_END_OF_WORD) for piece in vocabulary.values())
    begins = not ends and any(piece.startswith(_BEGIN_OF_WORD) for piece in vocabulary.values())
    letters = None if begins else _Letters()
    pieces: list[PromptToken] = []
    column = 0
    for chunk in tokens[key]:
        for token, _, group in chunk:
            if group != 0:  # 0: start, end and padding
                piece, begun = _piece(token, column, group, vocabulary, ends or begins)
                if begins and pieces and (begun or piece.vector or _is_parted(pieces, piece)):
                    pieces[-1] = replace(pieces[-1], ends_word=True)
                if letters is not None and not piece.vector:
                    piece = replace(piece, text=letters.read(piece.text, piece.ends_word))
                pieces.append(piece)
            column += 1
    return pieces


def _attended(clip: Any, tokens: Mapping[str, Any]) -> str:
    """Which tokeniser's tokens a picture attends to, of several text encoders. Flux gets one pooled
    state of its CLIP, SD 3 the states of its CLIPs in front of T5's, if it has any."""
    encoder = getattr(clip, "cond_stage_model", None)
    clips = (getattr(encoder, name, None) for name in ("clip_l", "clip_g"))
    t5_alone = getattr(encoder, "t5xxl", None) is not None and not any(clips)
    if "t5xxl" in tokens and (t5_alone or isinstance(clip.tokenizer, FluxTokenizer)):
        return "t5xxl"
    return "l" if "l" in tokens else next(iter(tokens))


def _piece(
    token: Any, column: int, group: int, vocabulary: dict[int, str], marked: bool
) -> tuple[PromptToken, bool]:
    """A token, and whether its text begins a word where the vocabulary marks beginnings."""
    if torch.is_tensor(token) or isinstance(token, dict):
        return PromptToken(column=column, vector=True, group=group), True
    raw = vocabulary.get(int(token), f"token {int(token)}")
    text = raw.removesuffix(_END_OF_WORD).removeprefix(_BEGIN_OF_WORD)
    piece = PromptToken(
        column=column,
        text=text,
        ends_word=not marked or raw.endswith(_END_OF_WORD),
        group=group,
    )
    return piece, raw.startswith(_BEGIN_OF_WORD) or not text[:1].isalnum()


def _is_parted(before: list[PromptToken], piece: PromptToken) -> bool:
    """Whether a punctuation mark parts a token from those before it, as it does for CLIP."""
    mark = before[-1].text[-1:]
    return bool(mark) and not mark.isalnum() and not (mark == "'" and piece.text in _ENDINGS)


class _Letters:
    """Reads the pieces of a byte-level vocabulary, which writes other than ASCII bytes as letters.
    A letter of several bytes may be parted: it comes with the piece that completes it."""

    def __init__(self) -> None:
        self._table = _byte_of_letter()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read(self, piece: str, ends_word: bool) -> str:
        """What a piece completes."""
        if any(letter not in self._table for letter in piece):
            self._decoder.reset()
            return piece
        return self._decoder.decode(bytes(self._table[letter] for letter in piece), ends_word)


def _byte_of_letter() -> dict[str, int]:
    """Byte of each letter in a byte-level vocabulary: printable bytes stand for themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    table.update({chr(256 + index): byte for index, byte in enumerate(others)})
    return table


def encode(clip: Any, text: str) -> list[Any]:
    """CONDITIONING of `text`, exactly as the stock text encode node makes it."""
    check_clip(clip)
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))
