"""The attention map regulariser in front of ComfyUI's own trainer, as a patch of a MODEL.

The stock Train LoRA trains with a loss of its own, which a node in front of it cannot add to. What
it can do is attend: keys go through unchanged, and in the backward pass the gradient of the
regulariser joins theirs and the queries' (attndb/losses/attention_gradient.py). The step that the
trainer makes is then one of the loss

    L = (what the trainer averages over batch and accumulation) + L_reg
    L_reg = (1 / layers) sum over samples, layers [ lambda_mu (mu_V - mu_c)^2
                                                    + lambda_sigma (var_V - var_c)^2 ]

with L_reg as in our own stages (docs/formulas.md, The regulariser): averaged over the attn2 layers,
summed over the samples of one optimiser step, also over those of accumulated batches, each computed
by itself.
The trainer gives every sample of a batch all conditionings of the batch, and averages what the
U-Net predicts; a sample's regulariser is the mean over these conditionings, where those without
both words count 0. A loss that is scaled for fp16 is met with the same scale.

Where it hooks in is as in capture.py: a wrapper around `outer_sample` begins and ends a training,
one around the U-Net's forward gives that call a copy of the options. Under gradient checkpointing
the host computes blocks again with options that tell the last block's name, whatever block it is;
so every name has the function, none depends on it, and all layers are tied.
"""

from __future__ import annotations

import logging
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....attndb.losses.attention_gradient import TiedRows, tied_rows_loss, with_gradient_of
from ..model.attn2 import Attend, BlockKey, attend, attn2_layers, patches_replaced, registered
from ..model.unet_call import Options, unet_call
from .conditioning import place_in

log = logging.getLogger(__name__)

_SHOWN = 20


@dataclass(frozen=True)
class TiedCaption:
    """A caption with both words."""

    text: str
    columns: tuple[int, ...]
    """The token's columns and, as the last, the category's."""
    conditioning: list[Any]
    """The caption encoded, as the host's text encode node gives it."""


def regularize_stock_training(
    model: Any,
    captions: Sequence[TiedCaption],
    mean_weight: float,
    variance_weight: float,
    node: str,
) -> Any:
    """A clone of MODEL whose attention is regularised while a stock trainer trains it.

    Drawn with, it does what MODEL does. `node` is who speaks in the log and in errors. ValueError,
    with the model's family, without text cross-attention.
    """
    session = _Session(attn2_layers(model), captions, mean_weight, variance_weight, node)
    clone = model.clone()
    key = f"attndb_regularize_{uuid.uuid4().hex}"
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, key, session.outer_sample)
    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, key, session.diffusion_model)
    return clone


@dataclass(frozen=True)
class _Place:
    """Where both words stand in one conditioning."""

    columns: tuple[int, ...]
    tokens: int


@dataclass
class _Run:
    """What is known while one training is under way."""

    guider: Any
    places: dict[Any, _Place]
    """By the conditioning's uuid."""
    loss_scale: Callable[[], float]
    first: list[list[Tensor]] = field(default_factory=list)
    """L_reg of the first forward passes, layer by layer."""
    last: deque[list[Tensor]] = field(default_factory=lambda: deque(maxlen=_SHOWN))
    missed: bool = False
    """Whether another node reshaped the queries or keys of a layer, which was left out."""

    def pass_(self) -> list[Tensor]:
        """Where one forward pass notes what its layers add."""
        noted: list[Tensor] = []
        if len(self.first) < _SHOWN:
            self.first.append(noted)
        self.last.append(noted)
        return noted


class _Session:
    """The two wrappers of one node."""

    def __init__(
        self,
        layers: dict[BlockKey, str],
        captions: Sequence[TiedCaption],
        mean_weight: float,
        variance_weight: float,
        node: str,
    ) -> None:
        self._layers = layers
        self._captions = captions
        self._weights = mean_weight, variance_weight
        self._node = node
        self._run: _Run | None = None

    def outer_sample(
        self, executor: Any, noise: Any, latent_image: Any, sampler: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Around one run of a guider: a training, or drawing, which is left alone."""
        before = self._run
        self._run = run = self._begin(executor.class_obj, sampler) if _trains(sampler) else None
        try:
            output = executor(noise, latent_image, sampler, *args, **kwargs)
        finally:
            self._run = before
        if run is not None:
            self._report(run)
        return output

    @unet_call
    def diffusion_model(
        self, x: Tensor, timesteps: Tensor | None, context: Tensor | None, options: Options
    ) -> Options:
        """The options of one call of the U-Net."""
        run = self._run
        if run is not None and torch.is_grad_enabled():
            tied, share = _tied_rows(run, x.shape[0], options)
            if tied:
                share /= len(self._layers)
                options = self._with_gradient(run, tied, share, x.shape[0], options)
        return options

    def _begin(self, guider: Any, sampler: Any) -> _Run:
        """ValueError unless some conditioning of the training is one of the captions."""
        conds = guider.conds.get("positive") or []
        places = {}
        for cond in conds:
            place = self._place(cond.get("cross_attn"))
            if place is not None:
                places[cond["uuid"]] = place
        if not places:
            known = ", ".join(repr(caption.text) for caption in self._captions[:3])
            raise ValueError(
                f"{self._node}: the trainer never sees both words: none of its {len(conds)} "
                f"conditioning(s) is {known} as this node's CLIP encodes it. Connect the same text "
                "and CLIP to both, or the CONDITIONING output of this node to the trainer"
            )
        if len(places) < len(conds):
            log.warning(
                "%s: %d of %d conditionings are none of its captions with both words; they are "
                "trained without the regulariser",
                self._node,
                len(conds) - len(places),
                len(conds),
            )
        scaler = getattr(sampler, "grad_scaler", None)
        return _Run(guider, places, (lambda: 1.0) if scaler is None else scaler.get_scale)

    def _place(self, text: Tensor | None) -> _Place | None:
        if text is None:
            return None
        for caption in self._captions:
            start = place_in(text, [entry[0] for entry in caption.conditioning])
            if start is not None:
                return _Place(tuple(start + c for c in caption.columns), text.shape[1])
        return None

    def _with_gradient(
        self, run: _Run, tied: list[TiedRows], share: float, batch: int, options: dict[str, Any]
    ) -> dict[str, Any]:
        """A copy of the options whose attn2 blocks add their share of the regulariser."""
        noted = run.pass_()
        tokens = max(part.tokens for part in tied)

        def tie(inner: dict[Any, Attend]) -> dict[Any, Attend]:
            def tying(block: Any) -> Attend:
                before = registered(inner, block)

                def attend_tied(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
                    def loss(q: Tensor, k: Tensor) -> Tensor:
                        value = share * tied_rows_loss(q, k, extra["n_heads"], tied, *self._weights)
                        noted.append(value.detach())
                        return run.loss_scale() * value

                    if q.shape[0] == k.shape[0] == batch and k.shape[1] >= tokens:
                        k = with_gradient_of(loss, q, k)
                    else:
                        run.missed = True
                    return attend(before, q, k, v, extra)

                return attend_tied

            return _EveryBlock({**inner, **{b: tying(b) for b in self._layers}}, tying)

        return patches_replaced(options, "attn2", tie)

    def _report(self, run: _Run) -> None:
        if run.missed:
            log.warning(
                "%s: another node changes the queries or keys of some layers, which were left out",
                self._node,
            )

        def mean(passes: Sequence[list[Tensor]]) -> float:
            sums = [float(torch.stack(noted).sum()) for noted in passes if noted]
            return sum(sums) / max(len(sums), 1)

        log.info(
            "%s: the regulariser was %.3g in the first passes and %.3g in the last",
            self._node,
            mean(run.first),
            mean(run.last),
        )


class _EveryBlock(dict[Any, Attend]):
    """Replacements that have one for whatever block is asked for."""

    def __init__(self, known: dict[Any, Attend], other: Callable[[Any], Attend]) -> None:
        super().__init__(known)
        self._other = other

    def __contains__(self, block: object) -> bool:
        return True

    def __missing__(self, block: Any) -> Attend:
        return self._other(block)


def _trains(sampler: Any) -> bool:
    """Whether a sampler is the stock trainer's, which steps an optimiser."""
    return hasattr(sampler, "loss_fn") and hasattr(sampler, "optimizer")


def _tied_rows(run: _Run, batch: int, options: dict[str, Any]) -> tuple[list[TiedRows], float]:
    """The parts of a batch whose conditioning has both words, and what each sample in them counts:
    one over the conditionings that it is given."""
    uuids = options.get("uuids") or []
    if not uuids or batch % len(uuids):
        return [], 0.0
    size = batch // len(uuids)
    tied = [
        TiedRows(slice(n * size, (n + 1) * size), place.columns, place.tokens)
        for n, ident in enumerate(uuids)
        if (place := run.places.get(ident)) is not None
    ]
    return tied, 1.0 / max(len(run.guider.conds["positive"]), 1)
