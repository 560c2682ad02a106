"""A prompt drawn by the host's sampler, with the maps of some of its words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ....attndb.attention.capture import Capture
from ....attndb.attention.prompt_words import PromptWords, Word, plain_text
from ....attndb.attention.word_maps import MapSelection
from ....attndb.viz.map_figure import MapFigure
from ..model.placeholders import known_placeholders
from ..model.sampling import SamplerSettings, sampled
from .capture import capture_model
from .prompt import encode, prompt_words


def drawn_figure(
    wires: tuple[Any, Any, Any],
    prompt: str,
    words: Sequence[str],
    settings: SamplerSettings,
    done: Callable[[int], None] = lambda _: None,
) -> MapFigure:
    """The picture of a prompt, and where each of these words looks, averaged over the sampling.

    `wires`: MODEL, CLIP and VAE, which stay as they are. Of a word that stands in the prompt more
    than once it is the first, or, asked for after a placeholder, the first behind that, as in
    training; words that do not stand there are left out, and if none does, every word of the
    prompt is looked at. `done` is told how many sampler steps are done.
    """
    model, clip, vae = wires
    positive, negative = encode(clip, prompt), encode(clip, "")
    chosen = _chosen(prompt_words(clip, prompt), words, known_placeholders(clip))
    capture = Capture(prompt=prompt, words=chosen, slices=1)
    samples = sampled(capture_model(model, capture, positive), positive, negative, settings, done)
    maps, _ = capture.maps(samples, MapSelection())
    return MapFigure(prompt, maps, vae.decode(samples))


def _chosen(
    prompt: PromptWords, words: Sequence[str], placeholders: Iterable[str]
) -> tuple[Word, ...]:
    found: dict[str, Word] = {}
    names, behind = set(map(plain_text, placeholders)), -1
    for word in words:
        try:
            places = prompt.find(word)
        except ValueError:
            continue
        after = [place for place in places if place.columns[0] > behind]
        found[word] = Word(label=word, columns=(after or places)[0].columns)
        if plain_text(word) in names:
            behind = found[word].columns[-1]
    return tuple(found.values()) or prompt.choose([])
