"""A prompt drawn by the host's sampler, with the maps of some of its words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ....attndb.attention.capture import Capture
from ....attndb.attention.prompt_words import PromptWords, Word
from ....attndb.attention.word_maps import MapSelection, word_maps_of
from ....attndb.viz.map_figure import MapFigure
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
    than once it is the first; words that do not stand there are left out, and if none does, every
    word of the prompt is looked at. `done` is told how many sampler steps are done.
    """
    model, clip, vae = wires
    positive, negative = encode(clip, prompt), encode(clip, "")
    chosen = _chosen(prompt_words(clip, prompt), words)
    capture = Capture(prompt=prompt, words=chosen, slices=1)
    samples = sampled(capture_model(model, capture, positive), positive, negative, settings, done)
    record, _ = capture.find(samples)
    return MapFigure(prompt, word_maps_of(record, MapSelection()), vae.decode(samples))


def _chosen(prompt: PromptWords, words: Sequence[str]) -> tuple[Word, ...]:
    found: dict[str, Word] = {}
    for word in words:
        try:
            found[word] = Word(label=word, columns=prompt.find(word)[0].columns)
        except ValueError:
            continue
    return tuple(found.values()) or prompt.choose([])
