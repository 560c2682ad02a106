"""Keys that pass unchanged bring back the gradient of the regulariser, and that only."""

from __future__ import annotations

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from attndreambooth.attndb.losses.attention_gradient import (
    TiedRows,
    tied_rows_loss,
    with_gradient_of,
)

HEADS, WEIGHTS = 2, (2.0, 5.0)


def inputs(batch=3, pixels=12, tokens=10, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (batch, pixels, width), (batch, tokens, width), (batch, tokens, width)
    return [torch.randn(s, generator=generator).requires_grad_() for s in shapes]


def attended(q, k, v):
    q, k, v = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


def slow_loss(q, k, samples):
    """The paper's formula from whole attention matrices in fp64; `samples` gives each sample's
    columns, keys and share."""
    total = torch.zeros((), dtype=torch.float64)
    for i, (columns, tokens, share) in samples.items():
        values = {c: [] for c in columns}
        for head in torch.arange(q.shape[-1]).chunk(HEADS):
            logits = q[i][:, head].double() @ k[i][:tokens, head].double().T / len(head) ** 0.5
            for c in columns:
                values[c].append((logits.exp() / logits.exp().sum(dim=1, keepdim=True))[:, c])
        *new, tied = (torch.cat(values[c]) for c in columns)
        gaps = [
            WEIGHTS[0] * (v.mean() - tied.mean()) ** 2 + WEIGHTS[1] * (v.var() - tied.var()) ** 2
            for v in new
        ]
        total = total + share * torch.stack(gaps).mean()
    return total


def gradients(tied, run=lambda f, *a: f(*a), share=1.0):
    q, k, v = inputs()

    def forward(q, k, v):
        def loss(q, k):
            return share * tied_rows_loss(q, k, HEADS, tied, *WEIGHTS)

        return attended(q, with_gradient_of(loss, q, k), v)

    out = run(forward, q, k, v)
    out.square().mean().backward()
    return out, q.grad, k.grad, v.grad


TIED = [TiedRows(slice(0, 1), (3, 5), 10), TiedRows(slice(2, 3), (1, 2, 4), 10)]
SAMPLES = {0: ((3, 5), 10, 1.0), 2: ((1, 2, 4), 10, 1.0)}


def expected(samples):
    q, k, v = inputs()
    out = attended(q, k, v)
    (out.square().mean() + slow_loss(q, k, samples)).backward()
    return out, q.grad, k.grad, v.grad


def test_forward_is_untouched_and_the_gradient_is_that_of_the_sum_of_both_losses():
    ours, theirs = gradients(TIED), expected(SAMPLES)
    assert torch.equal(ours[0], theirs[0])
    for mine, slow in zip(ours[1:], theirs[1:], strict=True):
        torch.testing.assert_close(mine, slow, rtol=1e-4, atol=1e-7)
    plain = expected({})
    assert not torch.allclose(ours[1], plain[1], rtol=1e-2), "it adds something"
    torch.testing.assert_close(ours[1][1], plain[1][1])  # the sample without both words


def test_a_share_weights_the_regulariser_alone():
    ours = gradients(TIED, share=0.25)
    theirs = expected({i: (c, t, 0.25) for i, (c, t, _) in SAMPLES.items()})
    torch.testing.assert_close(ours[2], theirs[2], rtol=1e-4, atol=1e-7)


def test_under_checkpointing_it_is_added_once():
    def run(forward, *arguments):
        return checkpoint(forward, *arguments, use_reentrant=False)

    for plain, again in zip(gradients(TIED), gradients(TIED, run), strict=True):
        assert torch.equal(plain, again)


def test_a_prompt_repeated_to_a_longer_one_counts_as_if_alone():
    """The sum over a word's repeats in the repeated prompt is its attention in the prompt alone."""
    q, k, _ = (x.detach() for x in inputs(tokens=5))
    tied = [TiedRows(slice(0, 3), (1, 3), 5)]
    twice = torch.cat([k, k], dim=1)
    alone = tied_rows_loss(q, k, HEADS, tied, *WEIGHTS)
    assert torch.equal(tied_rows_loss(q, twice, HEADS, tied, *WEIGHTS), alone)
    logits = (q[:, :, :4] @ twice[:, :, :4].transpose(1, 2)) / 2
    once = (q[:, :, :4] @ k[:, :, :4].transpose(1, 2)) / 2
    folded = logits.softmax(dim=-1).unflatten(-1, (2, 5)).sum(dim=-2)
    torch.testing.assert_close(folded, once.softmax(dim=-1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_type(dtype):
    q, k, _ = (x.detach().to(dtype).requires_grad_() for x in inputs())
    out = with_gradient_of(lambda q, k: tied_rows_loss(q, k, HEADS, TIED, *WEIGHTS), q, k)
    out.sum().backward()
    assert out.dtype == q.grad.dtype == k.grad.dtype == dtype
