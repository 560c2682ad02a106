"""Captures cross-attention of a MODEL while any stock sampler draws, without leaving a trace.

Where it hooks in, and why there. The host offers `set_model_attn2_replace` (one function for each
block; whoever comes last wins, and some packs expect to find their own class there), forward
hooks on the shared module (seen by every clone, left behind by an error), and *wrappers*. This
uses wrappers on a clone of the MODEL:

- around `outer_sample`: a run begins, ends, or is thrown away on error and cancel;
- around `predict_noise` and `calc_cond_batch`: which evaluation of a prompt is the one that draws;
- around the diffusion model's forward, innermost of all: there `transformer_options` are final.
  For that one call a copy of them gets a function for each attn2 block, which notes queries and
  keys and then calls what was registered for the block - whenever that was registered, before
  this node or after it - or else the host's own attention with the host's own arguments. So the
  output is computed by the same operations as without capture.

A compiled U-Net (TorchCompileModel and the like) runs uncompiled while it is captured: the host
compiles with the guards on `transformer_options` left out, so a compiled block would go on calling
the function that it met first.

Blocks of joint attention (SD 3, Flux) have no attn2: there the last wrapper is around
`apply_model`, which every model has, and joint.py says how they are observed.

Nothing is written to the MODEL that came in, to its options, nor to the module; there is nothing
to restore. ControlNets have a forward of their own and are not seen. Weights may be offloaded,
reloaded or streamed: only q and k of the moment are read. Two captures on one MODEL are
wrappers under two keys with a record each.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....attndb.attention.affinity import Affinity
from ....attndb.attention.capture import Capture
from ..model.attn2 import Attend, BlockKey, attend, attn2_layers, patches_replaced, registered
from ..model.compiled import not_compiled
from ..model.unet_call import Options, unet_call
from .conditioning import find_prompt
from .joint import JointAttention, joint_attention
from .run import Rows, Run

log = logging.getLogger(__name__)

Observe = Callable[[Tensor, Tensor, dict[str, Any]], None]
"""Takes queries, keys and what the host tells a replacement."""

_UNKNOWN_PROMPT = (
    "The prompt of Capture Attention is none of the conditionings that were sampled (connect the "
    "same text and CLIP to both, or use its CONDITIONING output); its words were looked up in the "
    "positive one."
)


def capture_model(
    model: Any, capture: Capture, conditioning: list[Any], affinity: Affinity | None = None
) -> Any:
    """A clone of MODEL that records into `capture` whenever it is sampled.

    `conditioning` is the capture's prompt encoded; the runs find by it which of their
    conditionings is meant. `affinity` is shown the self-attention of the same rows, if the model
    has any of its own (attn1). ValueError, with the model's family, without attention to text.
    """
    joint = joint_attention(model)
    layers = {} if joint is not None else attn2_layers(model)
    session = _Session(capture, layers, [entry[0] for entry in conditioning], joint, affinity)
    clone = model.clone()
    key = f"attndb_capture_{uuid.uuid4().hex}"
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, key, session.outer_sample)
    clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, key, session.predict_noise)
    clone.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, key, session.calc_cond_batch)
    if joint is None:
        clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, key, session.diffusion_model)
    else:
        clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, key, session.apply_model)
    return clone


class _Session:
    """The wrappers of one Capture Attention node."""

    def __init__(
        self,
        capture: Capture,
        layers: dict[BlockKey, str],
        references: list[Tensor],
        joint: JointAttention | None = None,
        affinity: Affinity | None = None,
    ) -> None:
        self._capture = capture
        self._affinity = affinity
        self._layers = layers
        self._joint = joint
        self._references = references
        self._columns = 1 + max(max(word.columns) for word in capture.words)
        self._run: Run | None = None

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
            for remark in run.remarks():
                log.warning("Capture Attention: %s", remark)
            note = " ".join([run.note, *run.remarks()]).strip()
            self._capture.finish(
                run.recorder, output, continues=latent_image if silent else None, note=note
            )
        return output

    def predict_noise(self, executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Around one prediction that the sampler asks for."""
        if self._run is not None:
            self._run.predicts()
        return executor(*args, **kwargs)

    def calc_cond_batch(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """Around one evaluation of conditionings; a prediction may take several."""
        if self._run is not None:
            self._run.evaluates()
        return executor(*args, **kwargs)

    @unet_call
    def diffusion_model(
        self, x: Tensor, timesteps: Tensor | None, context: Tensor | None, options: Options
    ) -> Options:
        """The options of one call of the U-Net."""
        run = self._run
        if run is not None and timesteps is not None and context is not None:
            rows = run.rows(x, context, options)
            if rows:
                # Of the sigma, as in the stock nodes: a timestep need not lie in 0..999 (EDM).
                sampling = run.guider.inner_model.model_sampling
                index = run.slice_of(sampling, options["sigmas"], self._capture.slices)
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
            rows = run.rows(x, c_crossattn, options)
            if rows:
                sampling = executor.class_obj.model_sampling
                index = run.slice_of(sampling, t, self._capture.slices)
                size = (x.shape[2], x.shape[3])
                see, longer = partial(run.see, rows, index), partial(run.leave_out, "text")
                options = self._joint.observed(options, c_crossattn.shape[1], size, see, longer)
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

    def _begin(self, guider: Any, noise: Tensor) -> Run | None:
        if noise.ndim != 4:
            log.warning("Capture Attention: latents of shape %s are not captured", noise.shape)
            return None
        wanted, recognised = find_prompt(guider, self._references, self._columns)
        note = "" if recognised else _UNKNOWN_PROMPT
        if note:
            log.warning("Capture Attention: %s", note)
        size = (noise.shape[2], noise.shape[3])
        return Run(self._capture.recorder(size), guider, noise.shape[0], size, wanted, note)

    def _with_observers(
        self, run: Run, rows: list[Rows], index: Tensor, options: dict[str, Any]
    ) -> dict[str, Any]:
        """A copy of the options whose attn2 blocks are observed, and attn1 for an affinity."""

        def observed(see: Callable[[str], Observe]) -> Callable[..., dict[Any, Attend]]:
            return lambda inner: {
                **inner,
                **{
                    block: _observing(see(name), registered(inner, block))
                    for block, name in self._layers.items()
                },
            }

        words = observed(lambda name: partial(_observe, run, rows, index, name))
        options = patches_replaced(options, "attn2", words)
        if self._affinity is not None:
            places = partial(_observe_places, self._affinity, rows)
            options = patches_replaced(options, "attn1", observed(lambda name: places))
        return options


def _observing(observe: Observe, inner: Attend | None) -> Attend:
    def observe_and_attend(
        q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]
    ) -> Tensor:
        observe(q, k, extra_options)
        return attend(inner, q, k, v, extra_options)

    return observe_and_attend


def _observe(
    run: Run,
    rows: list[Rows],
    index: Tensor,
    name: str,
    q: Tensor,
    k: Tensor,
    extra_options: dict[str, Any],
) -> None:
    """Notes one layer of one call; a layer that another node reshaped is left out and named."""
    batch, _, height, width = extra_options["activations_shape"]
    if q.shape[0] != batch or k.shape[0] != batch or q.shape[1] != height * width:
        run.leave_out("queries", name)
        return
    run.see(rows, index, name, q, k, extra_options["n_heads"], (height, width))


def _observe_places(
    affinity: Affinity, rows: list[Rows], q: Tensor, k: Tensor, extra_options: dict[str, Any]
) -> None:
    """Notes one self-attention of one call; where another node merges places it is left out."""
    _, _, height, width = extra_options["activations_shape"]
    if q.shape[1] == k.shape[1] == height * width:
        for part in rows:
            affinity.see(q[part.rows], k[part.rows], extra_options["n_heads"], (height, width))
