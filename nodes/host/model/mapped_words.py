"""Prompts with a word that is another one at every timestep and layer (NeTI): the MODEL's side.

Around every call of the U-Net a wrapper encodes the prompts that have such a word in them, at the
call's timestep and for all text attention layers at once, and for that one call an `attn2` patch
gives each layer its own text: the host's way for it, which leaves what others put on the MODEL in
place (replacements see the keys and values that come of it). Nothing is written to the MODEL that
came in. The text encoder is a private copy for the time of a sampling run. ControlNets read the
plain text.

Shapes: B the call's batch, L layers, T tokens, D text width, W words in a prompt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from ....attndb.artifacts.lineage import Lineage
from ....attndb.models.space_time_mapper import BYPASS_SHARE, SpaceTimeMapper, bypassed
from .attn2 import BlockKey, attn2_layers
from .compiled import not_compiled
from .mapped_text import MAPPED, MappedText
from .text_distance import is_cast_of
from .text_encoder import TextEncoder
from .unet_call import Options, unet_call
from .weights import merged_weights, private_copy

log = logging.getLogger(__name__)

_KEY = "attndb_mapped_words"


@dataclass(frozen=True, eq=False)
class MappedWord:
    """A concept's word on a MODEL."""

    lineage: Lineage
    mapper: SpaceTimeMapper
    plain: Tensor
    """(D,), its vector without the mapper."""
    strength: float
    """0: the plain vector, 1: the mapper's."""

    def at(self, t: float, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Vectors (L, D), and bypasses (L, D) if there are any, at a timestep."""
        mapper = self.mapper.to(device)
        layers = torch.arange(mapper.layers, device=device)
        vector_LD, bypass_LD = mapper(torch.full_like(layers, t, dtype=torch.float), layers)
        if self.strength != 1.0:
            vector_LD = torch.lerp(self.plain.to(vector_LD), vector_LD, self.strength)
        return vector_LD, bypass_LD


def mapped_words(model: Any) -> dict[str, MappedWord]:
    """The mapped words on a MODEL, by the key of their lineage."""
    wrappers = getattr(model, "wrappers", {}).get(WrappersMP.DIFFUSION_MODEL, {})
    for wrapper in wrappers.get(_KEY, []):
        return dict(wrapper.__self__.words)
    return {}


def with_mapped_words(model: Any, words: Mapping[str, MappedWord]) -> Any:
    """A clone of MODEL with these words and no others."""
    clone = model.clone()
    for kind in (WrappersMP.OUTER_SAMPLE, WrappersMP.DIFFUSION_MODEL):
        clone.remove_wrappers_with_key(kind, _KEY)
    if words:
        session = _Session(dict(words), attn2_layers(model))
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, _KEY, session.outer_sample)
        clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, _KEY, session.diffusion_model)
    return clone


@dataclass(frozen=True)
class _Prompt:
    """A mapped prompt in a conditioning."""

    text: MappedText
    first: int
    """Token of the conditioning that it begins at."""
    length: int
    """Tokens of the conditioning."""


@dataclass
class _Run:
    """What is known while one sampling run is under way."""

    prompts: dict[Any, list[_Prompt]]
    """By the conditioning's uuid."""
    batch: int
    encoders: dict[Any, TextEncoder] = field(default_factory=dict)
    encoded: dict[int, tuple[float, Tensor, Tensor]] = field(default_factory=dict)
    """Of each prompt the last timestep, and the sources (L, T, D) of keys and values at it."""


@dataclass(frozen=True)
class _Source:
    """Texts by layer for a part of a call's batch and of its tokens."""

    rows: slice
    tokens: slice
    keys: Tensor
    """(L, T, D)."""
    values: Tensor


class _Session:
    """The two wrappers on a MODEL."""

    def __init__(self, words: dict[str, MappedWord], layers: dict[BlockKey, str]) -> None:
        self.words = words
        self._order = {block: index for index, block in enumerate(layers)}
        self._run: _Run | None = None

    def outer_sample(
        self, executor: Any, noise: Tensor, latent_image: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Around one sampling run of any guider."""
        before, self._run = self._run, _Run(_prompts(executor.class_obj), noise.shape[0])
        try:
            with not_compiled():
                return executor(noise, latent_image, *args, **kwargs)
        finally:
            self._run = before

    @unet_call
    def diffusion_model(
        self, x: Tensor, timesteps: Tensor | None, context: Tensor | None, options: Options
    ) -> Options:
        """The options of one call of the U-Net."""
        run = self._run
        if run is not None and timesteps is not None and context is not None:
            sources = self._sources(run, x, float(timesteps.flatten()[0]), context, options)
            if sources:
                patches = dict(options.get("patches", {}))
                patches["attn2_patch"] = [self._patch(sources), *patches.get("attn2_patch", [])]
                options = {**options, "patches": patches}
        return options

    def _sources(
        self, run: _Run, x: Tensor, t: float, context: Tensor, options: dict[str, Any]
    ) -> list[_Source]:
        """The parts of this call's batch that were made with a mapped prompt."""
        idents = options.get("uuids") or []
        found = []
        for rows, ident in _rows_of(idents, run.batch, len(x)):
            for prompt in run.prompts.get(ident, []):
                place = slice(prompt.first, prompt.first + prompt.text.states.shape[1])
                # for a regional prompt the host makes a negative twin with the same uuid, which may
                # come alone (Self-Attention Guidance) and then has the positive's number, too
                there = context[rows.start : rows.start + 1, place]
                if not is_cast_of(there, prompt.text.states):
                    continue
                keys, values = self._encoded(run, prompt.text, t, context)
                # the host repeats texts, as wholes, to the length of the longest of a call
                for start in range(0, context.shape[1], prompt.length):
                    tokens = slice(start + place.start, start + place.stop)
                    found.append(_Source(rows, tokens, keys, values))
        return found

    def _encoded(
        self, run: _Run, text: MappedText, t: float, context: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sources of keys and values, (L, T, D) each, at a timestep."""
        known = run.encoded.get(id(text))
        if known is None or known[0] != t:
            name = (id(text.patcher), text.layer)
            if name not in run.encoders:
                run.encoders[name] = private_encoder(text, context.device)
            both = encoded_by_layer(run.encoders[name], text, self.words, t, len(self._order))
            keys, values = (states.to(context) for states in both)
            known = run.encoded[id(text)] = (t, keys, values)
        return known[1], known[2]

    def _patch(self, sources: list[_Source]) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
        """As `set_model_attn2_patch` takes it."""

        def own_text(
            n: Tensor, context: Tensor, value: Tensor, extra_options: dict[str, Any]
        ) -> tuple[Tensor, Tensor, Tensor]:
            block = (*extra_options["block"][:2], extra_options.get("block_index", 0))
            index = self._order.get(block)
            if index is None:
                return n, context, value
            keys, values = context.clone(), value.clone()
            for source in sources:
                keys[source.rows, source.tokens] = source.keys[index]
                values[source.rows, source.tokens] = source.values[index]
            return n, keys, values

        return own_text


def private_encoder(text: MappedText, device: torch.device) -> TextEncoder:
    """A copy of the text encoder that encoded a prompt, patches merged, on a device."""
    holder, (layer, layer_idx) = text.patcher.model, text.layer
    name = str(holder.clip)
    weights = merged_weights(text.patcher, f"{name}.")
    model = private_copy(getattr(holder, name), weights, device)
    model.set_clip_options({"execution_device": device})
    model.layer, model.layer_idx = layer, layer_idx
    return TextEncoder(model)


def encoded_by_layer(
    encoder: TextEncoder, text: MappedText, words: Mapping[str, MappedWord], t: float, layers: int
) -> tuple[Tensor, Tensor]:
    """A prompt at a timestep for every layer, (L, T, D): sources of keys and of values. The host
    encodes both, with the prompt's weights; a word that is not on the MODEL stays plain."""
    device = next(encoder.final_norm.parameters()).device
    given = {key: word.at(t, device) for key, word in words.items()}
    places = {place: key for place, key in text.words.items() if key in given}
    count = len(text.chunks)
    chunks: list[list[Any]] = []
    for layer in range(layers):
        for c, chunk in enumerate(text.chunks):
            own = list(chunk)
            for (place_chunk, place), key in places.items():
                if place_chunk == c:
                    own[place] = (given[key][0][layer], *own[place][1:])
            chunks.append(own)

    def bypass(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        state = inputs[0].clone()
        for (c, place), key in places.items():
            bypass_LD, share = given[key][1], BYPASS_SHARE * words[key].strength
            if bypass_LD is not None:  # behind those for keys: every layer's chunk of this number
                rows = slice(layers * count + c, 2 * layers * count, count)
                state[rows, place] = bypassed(state[rows, place], bypass_LD, share).to(state.dtype)
        return (state, *inputs[1:])

    handle = encoder.final_norm.register_forward_pre_hook(bypass)
    try:
        states = encoder.model.encode_token_weights([*chunks, *chunks])[0]
    finally:
        handle.remove()
    keys, values = states.reshape(2, layers, -1, states.shape[-1])
    return keys, values


def _rows_of(idents: Sequence[Any], batch: int, count: int) -> list[tuple[slice, Any]]:
    """Rows of a call's batch and what may stand in them: as the host stacks its conditionings, or,
    where another node has parted the picture (tiles, each with its texts), row by row any."""
    if count == batch * len(idents):
        return [
            (slice(chunk * batch, (chunk + 1) * batch), ident) for chunk, ident in enumerate(idents)
        ]
    return [(slice(row, row + 1), ident) for row in range(count) for ident in dict.fromkeys(idents)]


def _prompts(guider: Any) -> dict[Any, list[_Prompt]]:
    """The mapped prompts among what a guider samples, by uuid; a text that was changed since is
    left as it is, which the log says."""
    found: dict[Any, list[_Prompt]] = {}
    for conds in getattr(guider, "conds", {}).values():
        for cond in conds:
            mapped, text = cond.get(MAPPED), cond.get("cross_attn")
            if mapped is None or text is None:
                continue
            length = mapped.states.shape[1]
            starts = [
                first
                for first in range(0, text.shape[1] - length + 1, length)
                if is_cast_of(text[:1, first : first + length], mapped.states)
            ]
            if not starts:
                log.warning(
                    "a prompt with a word that NeTI learned was changed behind CLIP Text Encode "
                    "(e.g. averaged with another): its layers read the word's plain vector"
                )
            found[cond["uuid"]] = [_Prompt(mapped, first, text.shape[1]) for first in starts]
    return found
