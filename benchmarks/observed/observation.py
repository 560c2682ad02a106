"""ObservationCallback: what the paper says of [V], measured while a training runs.

Shapes: B timesteps, V the placeholder's vectors, W words' columns of a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ...attndb.attention.column_statistics import column_statistics
from ...attndb.data.tokens import TokenizedPrompt, TokenizedText
from ...attndb.models.conditioning import Embeddings
from ...attndb.models.protocol import Model
from ...attndb.training.attention_look import AttentionLook, Predict, Seen
from ...attndb.training.step_loss import StepLoss
from ...attndb.training.training import Training
from ...micro.text import END

TIMESTEPS = (250, 500, 750)
"""Where on the noise schedule it looks."""


def word_places(prompt: TokenizedText) -> list[int]:
    """Where the words of a prompt stand: all tokens between start and end."""
    return list(range(1, prompt.tokens.index(END)))


def share_of_words(seen: Sequence[Seen], prompt: TokenizedText) -> float:
    """The placeholder's share, 0..1, of the attention that all words of a prompt get: means of the
    columns over heads and pixels, without start and end tokens; mean over layers and timesteps.
    ValueError without a placeholder."""
    words = word_places(prompt)
    own = [number for number, i in enumerate(words) if prompt.tokens[i] is None]
    if not own:
        raise ValueError(f"prompt {prompt.text!r} does not contain the placeholder")
    shares = []
    for layer, q_BPE, k_BTE in seen:
        columns_BW = torch.tensor([words], device=q_BPE.device).expand(len(q_BPE), -1)
        mean_BW = column_statistics(q_BPE, k_BTE, columns_BW, layer.heads).mean
        shares.append((mean_BW[:, own].sum(dim=1) / mean_BW.sum(dim=1)).mean())
    return float(torch.stack(shares).mean())


def gaps(seen: Sequence[Seen], prompt: TokenizedPrompt) -> dict[str, float]:
    """What the regulariser squares (docs/formulas.md, The regulariser): |mu_V - mu_c| and
    |var_V - var_c|, means over layers, timesteps and the placeholder's vectors."""
    means, variances = [], []
    for layer, q_BPE, k_BTE in seen:
        columns_BC = torch.tensor([prompt.columns], device=q_BPE.device).expand(len(q_BPE), -1)
        found = column_statistics(q_BPE, k_BTE, columns_BC, layer.heads)
        means.append((found.mean[:, :-1] - found.mean[:, -1:]).abs().mean())
        variances.append((found.variance[:, :-1] - found.variance[:, -1:]).abs().mean())
    return {
        "mean_gap": float(torch.stack(means).mean()),
        "variance_gap": float(torch.stack(variances).mean()),
    }


def cosine(now: Embeddings, start: Embeddings) -> float:
    """Of the vectors with their start; the least of several, as in a concept's record."""
    pairs = [(now[name].detach().float().cpu(), then.float().cpu()) for name, then in start.items()]
    return min(float(torch.cosine_similarity(a, b).min()) for a, b in pairs)


class ObservationCallback:
    """A callback that looks every n steps and after the last one, unless that was done before."""

    def __init__(
        self,
        sight: AttentionLook,
        context: TokenizedText,
        tied: TokenizedPrompt | None,
        moved: Callable[[Embeddings], float],
        keep: Callable[[int, dict[str, float]], None],
        has: Callable[[int], bool],
        every: int,
        total: int,
    ) -> None:
        """`context`: the prompt whose words share the attention; `tied`: the one whose two columns
        are compared, None for a method that is trained without the category. `moved`: the
        embedding's cosine with its start. `keep` and `has` are told after how many steps."""
        self._sight, self._context, self._tied = sight, context, tied
        self._moved, self._keep, self._has = moved, keep, has
        self._every, self._total = every, total

    def begin(self, model: Model, embeddings: Embeddings) -> None:
        """Looks at the model before the first step."""
        if not self._has(0):
            self._keep(0, self._values(model, model.denoise, embeddings))

    def due(self, done: int) -> bool:
        """Every so many steps, and at the end."""
        return done == self._total or done % self._every == 0

    def __call__(self, loss: StepLoss, training: Training) -> None:
        """Told after every step."""
        done = loss.step + 1
        if self.due(done) and not self._has(done):
            predict = training.learner.denoising.predict
            values = self._values(training.model, predict, training.embeddings)
            self._keep(done, {**values, "loss": loss.shares["denoising"]})

    def _values(self, model: Model, predict: Predict, embeddings: Embeddings) -> dict[str, float]:
        seen = self._sight(model, predict, self._context, embeddings)
        values = {"share": share_of_words(seen, self._context), "cosine": self._moved(embeddings)}
        if self._tied is not None:
            seen = self._sight(model, predict, self._tied, embeddings)
            values |= gaps(seen, self._tied)
        return values
