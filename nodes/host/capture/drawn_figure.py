"""A prompt drawn by the host's sampler, with the maps of some of its words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ....attndb.attention.capture import Capture, check_numbers
from ....attndb.attention.prompt_words import PromptWords, Word, plain_text
from ....attndb.attention.word_maps import MapSelection, no_maps
from ....attndb.viz.map_figure import MapFigure
from ..model.compiled import not_compiled
from ..model.placeholders import known_placeholders
from ..model.sampling import SamplerSettings, sampled
from .capture import capture_model
from .prompt import prompt_words


@dataclass(frozen=True)
class SubjectPrompt:
    """A prompt about a concept's subject."""

    template: str
    """With {} where the subject stands."""
    subject: str
    """What stands there."""
    placeholder: str
    """The concept's; before training it does not stand there."""
    unwanted: str = ""
    """What the picture should not show, with {} as there."""

    @property
    def text(self) -> str:
        """The prompt as it is drawn."""
        return self.template.replace("{}", self.subject)

    @property
    def negative(self) -> str:
        """The negative prompt."""
        return self.unwanted.replace("{}", self.subject)

    @property
    def ahead(self) -> str:
        """What stands before the subject."""
        return self.template.partition("{}")[0]


def drawn_figure(
    wires: tuple[Any, Any, Any],
    encoded: Callable[[str], list[Any]],
    prompt: SubjectPrompt,
    words: Sequence[str],
    settings: SamplerSettings,
    done: Callable[[int], None] = lambda _: None,
    read: Callable[[Collection[str]], bool] = lambda _: True,
) -> MapFigure:
    """The picture of a prompt, and where each of these words looks, averaged over the sampling.

    `wires`: MODEL, CLIP and VAE, which stay as they are. `encoded`: gives the CONDITIONING of a
    text by that CLIP, made now or before. Of a word that stands in the prompt more than once it is
    the first, or, asked for after the placeholder, the first behind that, as in training, and
    before training the first from the subject on; words that do not stand there are left out, and
    if none does, every word of the prompt is looked at. `done` is told how many sampler steps are
    done. `read`: whether anything reads the maps, if they are of these words; else none is captured
    and the figure has none, and the picture is the same.
    """
    model, clip, vae = wires
    positive, negative = encoded(prompt.text), encoded(prompt.negative)
    names = [prompt.placeholder, *known_placeholders(clip)]
    chosen = _chosen(
        prompt_words(clip, prompt.text), words, names, prompt_words(clip, prompt.ahead)
    )
    if read([word.label for word in chosen]):
        capture = Capture(prompt=prompt.text, words=chosen, slices=1)
        watched = capture_model(model, capture, positive)
        samples = sampled(watched, positive, negative, settings, done)
        maps, _ = capture.maps(samples, MapSelection())
    else:
        with not_compiled():  # as while it is captured: pictures side by side are drawn one way
            samples = sampled(model, positive, negative, settings, done)
        check_numbers(samples)
        maps = no_maps(samples)
    return MapFigure(prompt.text, maps, vae.decode(samples))


def _chosen(
    prompt: PromptWords, words: Sequence[str], placeholders: Iterable[str], ahead: PromptWords
) -> tuple[Word, ...]:
    found: dict[str, Word] = {}
    names, behind, stands = set(map(plain_text, placeholders)), -1, True
    for word in words:
        places = prompt.places(word)
        if plain_text(word) in names:
            stands = bool(places)
        if not places:
            continue
        after = [place for place in places if place.columns[0] > behind]
        if not stands:
            after = places[len(ahead.places(word)) :]
        found[word] = Word(label=word, columns=(after or places)[0].columns)
        if plain_text(word) in names:
            behind = found[word].columns[-1]
    return tuple(found.values()) or prompt.choose([])
