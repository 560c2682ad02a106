"""The words of a tokenised prompt and the token columns where each of them stands.

A text encoder sees tokens; a person thinks in words. Here sub-tokens become one word again, the
vectors of a placeholder become one word, and a word that occurs twice can be told apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..data.placeholder import placeholder_pattern

_SPELT = r"<[^<>\s]*>|embedding:[^\s,:()]+"
_ANY_WORD = re.compile(r"[^\s,:()]+")
_WORD_NUMBER = re.compile(r"^(.*\S)\s*#(\d+)$", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class PromptToken:
    """One token of a prompt; start, end and padding tokens are no pieces."""

    column: int
    """Its place on the key axis of cross-attention, over all chunks of the prompt."""
    text: str = ""
    """What the token reads, without an end-of-word mark; empty for a vector, and for a part of a
    letter, which comes whole with its last part."""
    ends_word: bool = True
    """Whether a word ends with this token."""
    vector: bool = False
    """Whether this is an embedding vector, not an entry of the vocabulary."""
    group: int = 0
    """Number of the text segment or embedding it came from: parts two neighbouring embeddings."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """One word, or several that were asked for together, and its columns."""

    label: str
    """How it is shown: the text, with `#2` for the second occurrence of a repeated word."""
    columns: tuple[int, ...]
    """Columns on the key axis of cross-attention; more than one for sub-tokens."""

    def __post_init__(self) -> None:
        if not self.columns or min(self.columns) < 0:
            raise ValueError(f"columns = {self.columns!r}: a word needs columns, none below 0")


def split_queries(text: str) -> list[str]:
    """Words or phrases that were typed into one field, separated by commas or line ends."""
    return [part.strip() for part in re.split(r"[,\n]", text) if part.strip()]


def label_words(texts_and_columns: Sequence[tuple[str, tuple[int, ...]]]) -> tuple[Word, ...]:
    """Words with labels that are unique: repeated texts are numbered `#1`, `#2` in order."""
    totals = Counter(text for text, _ in texts_and_columns)
    seen: Counter[str] = Counter()
    words = []
    for text, columns in texts_and_columns:
        seen[text] += 1
        label = f"{text}#{seen[text]}" if totals[text] > 1 else text
        words.append(Word(label=label, columns=columns))
    return tuple(words)


class PromptWords:
    """The words of one prompt in order, punctuation included.

    `placeholders` are names of embeddings that are known to the tokeniser; others are read from
    the prompt (`embedding:name`, `<name>`).
    """

    def __init__(
        self, prompt: str, pieces: Iterable[PromptToken], placeholders: Iterable[str] = ()
    ) -> None:
        self.prompt = prompt
        self._spans = _name_vectors(prompt, _merge(pieces), _vector_pattern(placeholders))

    def all(self) -> tuple[Word, ...]:
        """Every word that holds a letter, a digit or an embedding."""
        kept = [
            (text, columns)
            for text, columns, vector in self._spans
            if vector or any(character.isalnum() for character in text)
        ]
        return label_words(kept)

    def find(self, query: str) -> tuple[Word, ...]:
        """The places where `query` stands: a word, a phrase, a placeholder, or `word#2`.

        Case does not matter, nor do `<` `>` and `embedding:` around a placeholder. A word that
        occurs more than once gives a `Word` for each place. ValueError if it is not there.
        """
        number = _WORD_NUMBER.match(query.strip())
        text = number.group(1) if number else query.strip()
        found = self._runs(plain_text(text))
        if not found:
            raise ValueError(self._missing(query))
        words = label_words([(text, columns) for columns in found])
        if number is None:
            return words
        index = int(number.group(2))
        if not 1 <= index <= len(words):
            raise ValueError(
                f"{query!r}: {text!r} occurs {len(words)} time(s) in the prompt, so use "
                f"#1 to #{len(words)}"
            )
        return (Word(label=f"{text}#{index}", columns=words[index - 1].columns),)

    def places(self, query: str) -> tuple[Word, ...]:
        """The same; none where it is not there."""
        try:
            return self.find(query)
        except ValueError:
            return ()

    def choose(self, queries: Iterable[str]) -> tuple[Word, ...]:
        """The words of several queries, each place once; every word of the prompt without any."""
        chosen: dict[str, Word] = {}
        for query in queries:
            for word in self.find(query):
                chosen.setdefault(word.label, word)
        words = tuple(chosen.values()) or self.all()
        if not words:
            raise ValueError("the prompt has no word to look at: write one, or name punctuation")
        return words

    def _runs(self, target: str) -> list[tuple[int, ...]]:
        """Columns of every run of words whose joined text is `target`."""
        found: list[tuple[int, ...]] = []
        start = 0
        while target and start < len(self._spans):
            joined, columns, stop = "", (), start
            while stop < len(self._spans) and len(joined) < len(target):
                joined += plain_text(self._spans[stop][0])
                columns += self._spans[stop][1]
                stop += 1
            if joined == target:
                found.append(columns)
                start = stop
            else:
                start += 1
        return found

    def _missing(self, query: str) -> str:
        known = ", ".join(word.label for word in self.all()) or "(none)"
        return f"the word {query!r} is not in the prompt; its words are: {known}"


def plain_text(text: str) -> str:
    """The text by which words are compared: no case, no spaces, no marks of a placeholder, accents
    as one letter."""
    whole = unicodedata.normalize("NFKC", text)
    folded = "".join(whole.casefold().split()).replace("embedding:", "")
    return folded.strip("<>") or folded


def _merge(pieces: Iterable[PromptToken]) -> list[tuple[str, tuple[int, ...], bool]]:
    """Sub-tokens up to the end of their word, and the vectors of one embedding, as one span."""
    spans: list[tuple[str, tuple[int, ...], bool]] = []
    previous: PromptToken | None = None
    for piece in pieces:
        joins = previous is not None and previous.vector == piece.vector
        if piece.vector:
            joins = joins and previous is not None and previous.group == piece.group
        else:
            joins = joins and previous is not None and not previous.ends_word
        if joins:
            text, columns, vector = spans[-1]
            spans[-1] = (text + piece.text, (*columns, piece.column), vector)
        else:
            spans.append((piece.text, (piece.column,), piece.vector))
        previous = piece
    return spans


def _vector_pattern(placeholders: Iterable[str]) -> re.Pattern[str]:
    """What stands in a prompt for vectors: a known name, the longest first, or a spelt one."""
    known = placeholder_pattern(name for name in placeholders if name)
    return re.compile(f"{known}|{_SPELT}" if known else _SPELT, re.IGNORECASE)


def _name_vectors(
    prompt: str, spans: list[tuple[str, tuple[int, ...], bool]], pattern: re.Pattern[str]
) -> list[tuple[str, tuple[int, ...], bool]]:
    """Gives each embedding the text that stands at its place in the prompt."""
    named = []
    position = 0
    for number, (text, columns, vector) in enumerate(spans, start=1):
        if not vector:
            place = re.compile(re.escape(text), re.IGNORECASE).search(prompt, position)
            position = place.end() if place else position
            named.append((text, columns, vector))
            continue
        # any word only where none is known: a weight may stand before it, as in (red:1.2) <my-dog>
        match = pattern.search(prompt, position) or _ANY_WORD.search(prompt, position)
        if match is None:
            named.append((f"embedding {number}", columns, vector))
            continue
        position = match.end()
        named.append((re.sub("^embedding:", "", match.group(), flags=re.I), columns, vector))
    return named
