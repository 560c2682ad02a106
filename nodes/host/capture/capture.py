"""Captures cross-attention of a MODEL while any stock sampler draws, without leaving a trace.

Where it hooks in, and why there. The host offers `set_model_attn2_replace` (one function for each
block; whoever comes last wins, and some packs expect to find their own class there), forward
hooks on the shared module (seen by every clone, left behind by an error), and *wrappers*. This
uses two wrappers on a clone of the MODEL:

- around `outer_sample`: a run begins, ends, or is thrown away on error and cancel;
- around the diffusion model's forward, innermost of all: there `transformer_options` are final.
  For that one call a copy of them gets a function for each attn2 block, which notes queries and
  keys and then calls what was registered for the block - whenever that was registered, before
  this node or after it - or else the host's own attention with the host's own arguments. So the
  output is computed by the same operations as without capture.

A compiled U-Net (TorchCompileModel and the like) runs uncompiled while it is captured: the host
compiles with the guards on `transformer_options` left out, so a compiled block would go on calling
the function that it met first.

Blocks of joint attention (SD 3, Flux) have no attn2: there the second wrapper is around
`apply_model`, which every model has, and joint.py says how they are observed.

Nothing is written to the MODEL that came in, to its options, nor to the module; there is nothing
to restore. ControlNets have a forward of their own and are not seen. Weights may be offloaded,
reloaded or streamed: only q and k of the moment are read. Two captures on one MODEL are two
wrappers under two keys with a record each.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....attndb.attention.capture import Capture
from ....attndb.attention.recorder import LatentWindow, MapKey, MapRecorder
from ..model.attn2 import Attend, BlockKey, attend, attn2_layers, patches_replaced, registered
from ..model.compiled import not_compiled
from ..model.unet_call import Options, unet_call
from .conditioning import PromptPlace, area_of, distance, find_prompt
from .joint import JointAttention, joint_attention

log = logging.getLogger(__name__)

_SAME_TEXT_CAST = 2e-2
_UNKNOWN_PROMPT = (
    "The prompt of Capture Attention is none of the conditionings that were sampled (connect the "
    "same text and CLIP to both, or use its CONDITIONING output); its words were looked up in the "
    "positive one."
)


def capture_model(model: Any, capture: Capture, conditioning: list[Any]) -> Any:
    """A clone of MODEL that records into `capture` whenever it is sampled.

    `conditioning` is the capture's prompt encoded; the runs find by it which of their
    conditionings is meant. ValueError, with the model's family, without attention to text.
    """
    joint = joint_attention(model)
    layers = {} if joint is not None else attn2_layers(model)
    session = _Session(capture, layers, [entry[0] for entry in conditioning], joint)
    clone = model.clone()
    key = f"attndb_capture_{uuid.uuid4().hex}"
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, key, session.outer_sample)
    if joint is None:
        clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, key, session.diffusion_model)
    else:
        clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, key, session.apply_model)
    return clone


@dataclass
class _Run:
    """What is known while one sampling run is under way."""

    recorder: MapRecorder
    guider: Any
    batch: int
    wanted: dict[Any, PromptPlace]
    note: str
    accepted: dict[tuple[Any, int], bool] = field(default_factory=dict)
    missed: set[str] = field(default_factory=set)
    ends: list[float] | None = None
    """Sigmas at which the slices of sampling end; None: not asked for yet."""


@dataclass(frozen=True)
class _Rows:
    """A part of the model's batch that was made with the capture's prompt."""

    rows: slice
    first_column: int
    length: int
    text_tokens: int
    """Length of the text on the key axis: of this prompt, repeated to that of the longest."""
    crop: LatentWindow | None


class _Session:
    """The two wrappers of one Capture Attention node."""

    def __init__(
        self,
        capture: Capture,
        layers: dict[BlockKey, str],
        references: list[Tensor],
        joint: JointAttention | None = None,
    ) -> None:
        self._capture = capture
        self._layers = layers
        self._joint = joint
        self._references = references
        self._columns = 1 + max(max(word.columns) for word in capture.words)
        self._run: _Run | None = None

    def outer_sample(
        self,
        executor: Any,
        noise: Tensor,
        latent_image: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Around one sampling run of any guider."""
        before, self._run = self._run, self._begin(executor.class_obj, noise)
        try:
            with not_compiled():
                output = executor(noise, latent_image, *args, **kwargs)
            run = self._run
        finally:
            self._run = before
        if run is not None:
            silent = torch.count_nonzero(noise) == 0
            for reason in sorted(run.missed):
                log.warning("Capture Attention: %s", reason)
            note = " ".join([run.note, *sorted(run.missed)]).strip()
            self._capture.finish(
                run.recorder, output, continues=latent_image if silent else None, note=note
            )
        return output

    @unet_call
    def diffusion_model(
        self, x: Tensor, timesteps: Tensor | None, context: Tensor | None, options: Options
    ) -> Options:
        """The options of one call of the U-Net."""
        run = self._run
        if run is not None and timesteps is not None and context is not None:
            rows = self._rows(run, x, context, options)
            if rows:
                # Of the sigma, as in the stock nodes: a timestep need not lie in 0..999 (EDM).
                sampling = run.guider.inner_model.model_sampling
                index = self._slice(run, sampling, options["sigmas"])
                options = self._with_observers(run, rows, index, options)
        return options

    def apply_model(
        self,
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Around one call of a model with joint attention; `t` are sigmas."""
        options = transformer_options if transformer_options is not None else {}
        run = self._run
        if run is not None and self._joint is not None and c_crossattn is not None:
            rows = self._rows(run, x, c_crossattn, options)
            if rows:
                index = self._slice(run, executor.class_obj.model_sampling, t)
                size = (x.shape[2], x.shape[3])
                see = partial(_note, run, rows, index)
                options = self._joint.observed(options, c_crossattn.shape[1], size, see)
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

    def _slice(self, run: _Run, sampling: Any, sigma: Tensor) -> Tensor:
        if run.ends is None:
            run.ends = _slice_ends(sampling, self._capture.slices)
        return _slice_of_sigma(run.ends, sigma)

    def _begin(self, guider: Any, noise: Tensor) -> _Run | None:
        if noise.ndim != 4:
            log.warning("Capture Attention: latents of shape %s are not captured", noise.shape)
            return None
        wanted, recognised = find_prompt(guider, self._references, self._columns)
        note = "" if recognised else _UNKNOWN_PROMPT
        if note:
            log.warning("Capture Attention: %s", note)
        recorder = self._capture.recorder((noise.shape[2], noise.shape[3]))
        return _Run(recorder, guider, noise.shape[0], wanted, note)

    def _rows(self, run: _Run, x: Tensor, context: Tensor, options: dict[str, Any]) -> list[_Rows]:
        """Parts of this call's batch to look at; conditional and unconditional in any order."""
        indexes = options.get("cond_or_uncond") or []
        uuids = options.get("uuids") or []
        if len(uuids) != len(indexes) or not indexes or x.shape[0] != run.batch * len(indexes):
            return []
        found = []
        for chunk, (ident, index) in enumerate(zip(uuids, indexes, strict=True)):
            if ident not in run.wanted:
                continue
            place = run.wanted[ident]
            rows = slice(chunk * run.batch, (chunk + 1) * run.batch)
            area = area_of(run.guider, ident)
            if (ident, index) not in run.accepted:
                # For a regional prompt the host makes a negative twin with the same uuid.
                run.accepted[ident, index] = area is None or bool(
                    distance(context[rows.start : rows.start + 1, : place.length], place.text[:1])
                    < _SAME_TEXT_CAST
                )
            if run.accepted[ident, index]:
                crop = (
                    None if area is None else LatentWindow(area[2], area[3], x.shape[2], x.shape[3])
                )
                found.append(_Rows(rows, place.first_column, place.length, context.shape[1], crop))
        return found

    def _with_observers(
        self, run: _Run, rows: list[_Rows], index: Tensor, options: dict[str, Any]
    ) -> dict[str, Any]:
        """A copy of the options whose attn2 blocks are observed."""

        def observed(inner: dict[Any, Attend]) -> dict[Any, Attend]:
            return {
                **inner,
                **{
                    block: self._observer(run, rows, index, name, registered(inner, block))
                    for block, name in self._layers.items()
                },
            }

        return patches_replaced(options, "attn2", observed)

    def _observer(
        self,
        run: _Run,
        rows: list[_Rows],
        index: Tensor,
        name: str,
        inner: Attend | None,
    ) -> Attend:
        def observe_and_attend(
            q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]
        ) -> Tensor:
            _observe(run, rows, index, name, q, k, extra_options)
            return attend(inner, q, k, v, extra_options)

        return observe_and_attend


def _observe(
    run: _Run,
    rows: list[_Rows],
    index: Tensor,
    name: str,
    q: Tensor,
    k: Tensor,
    extra_options: dict[str, Any],
) -> None:
    """Notes one layer of one call; a layer that another node reshaped is left out and named."""
    batch, _, height, width = extra_options["activations_shape"]
    if q.shape[0] != batch or k.shape[0] != batch or q.shape[1] != height * width:
        run.missed.add(f"{name}: another node changes its queries; this layer was left out.")
        return
    _note(run, rows, index, name, q, k, extra_options["n_heads"], (height, width))


def _note(
    run: _Run,
    rows: list[_Rows],
    index: Tensor,
    name: str,
    q: Tensor,
    k: Tensor,
    heads: int,
    size: tuple[int, int],
) -> None:
    """Adds one layer's maps of one call: queries (B, P, E), keys (B, T or more, E)."""
    for part in rows:
        run.recorder.add(
            MapKey(name, *size, part.crop),
            q[part.rows],
            k[part.rows],
            heads,
            slice_index=index,
            first_column=part.first_column,
            period=part.length,
            text_tokens=part.text_tokens,
        )


def _slice_ends(sampling: Any, slices: int) -> list[float]:
    """Sigmas at which slices of sampling end, as percent of it is meant in the stock nodes."""
    return [float(sampling.percent_to_sigma(i / slices)) for i in range(1, slices)]


def _slice_of_sigma(ends: list[float], sigma: Tensor) -> Tensor:
    """Index of the slice of sampling in which a sigma lies, (1,)."""
    return (sigma.reshape(-1)[:1, None] <= sigma.new_tensor(ends)).sum(dim=1)
