"""What is recorded equals attention written out in full."""

from __future__ import annotations

import math

import pytest
import torch
from support.closeness import assert_near

from attndreambooth.attndb.attention.prompt_words import Word
from attndreambooth.attndb.attention.recorder import MapKey, MapRecorder, word_maps

KEY = MapKey("input_blocks.1.1.transformer_blocks.0.attn2", 5, 7)
HEADS = 4


def written_out(q, k, columns, heads):
    """softmax(q k / sqrt d) of one head after the other, in fp64; (B, heads, P)."""
    batch, pixels, width = q.shape
    dim = width // heads
    out = torch.zeros(batch, heads, pixels, dtype=torch.float64)
    for b in range(batch):
        for h in range(heads):
            part = slice(h * dim, (h + 1) * dim)
            logits = q[b, :, part].double() @ k[b, :, part].double().T / math.sqrt(dim)
            weights = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
            out[b, h] = weights[:, list(columns)].sum(dim=1)
    return out


def queries_and_keys(tokens=77, batch=2, pixels=35, width=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(batch, pixels, width, generator=generator)
    return q, torch.randn(batch, tokens, width, generator=generator)


def record(words, calls, **options):
    recorder = MapRecorder(words, latent_size=(5, 7), **options)
    for q, k, progress, more in calls:
        slices = options.get("slices", 10)
        index = torch.tensor([min(int(progress * slices), slices - 1)])
        recorder.add(KEY, q, k, HEADS, slice_index=index, **more)
    return recorder.finish()


WORDS = (Word(label="cat", columns=(3,)), Word(label="guitarist", columns=(4, 5, 76)))


def test_columns_of_a_word_are_added_and_heads_averaged():
    q, k = queries_and_keys()
    found = record(WORDS, [(q, k, 0.0, {})], slices=1).sums[KEY]
    for w, word in enumerate(WORDS):
        wanted = written_out(q, k, word.columns, HEADS).mean(dim=1)
        assert_near(found.total[0, :, w, 0].double(), wanted, 1e-5)


def test_heads_are_kept_apart_when_asked_for():
    q, k = queries_and_keys()
    found = record(WORDS, [(q, k, 0.0, {})], slices=1, keep_heads=True).sums[KEY]
    wanted = written_out(q, k, WORDS[0].columns, HEADS)
    assert_near(found.total[0, :, 0].double(), wanted, 1e-5)


def test_keys_that_a_host_repeats_count_as_one_column():
    q, k = queries_and_keys()
    repeated = record(WORDS, [(q, k.repeat(1, 3, 1), 0.0, {"period": 77})], slices=1)
    plain = record(WORDS, [(q, k, 0.0, {})], slices=1)
    torch.testing.assert_close(repeated.sums[KEY].total, plain.sums[KEY].total)


def test_keys_that_another_node_appends_are_not_taken_for_words():
    q, k = queries_and_keys(tokens=77 + 90)
    found = record(WORDS, [(q, k, 0.0, {"period": 77, "text_tokens": 77})], slices=1)
    wanted = written_out(q, k, WORDS[0].columns, HEADS).mean(dim=1)
    torch.testing.assert_close(
        found.sums[KEY].total[0, :, 0, 0].double(), wanted, rtol=1e-5, atol=0
    )


def test_a_prompt_may_begin_later_on_the_key_axis():
    q, k = queries_and_keys(tokens=154)
    found = record(WORDS, [(q, k, 0.0, {"first_column": 77})], slices=1).sums[KEY]
    wanted = written_out(q, k, (80,), HEADS).mean(dim=1)
    assert_near(found.total[0, :, 0, 0].double(), wanted, 1e-5)


def test_a_word_beyond_the_conditioning_is_an_error_that_says_so():
    q, k = queries_and_keys(tokens=40)
    with pytest.raises(ValueError, match=r"'guitarist' stands at token 76, .* has only 40"):
        record(WORDS, [(q, k, 0.0, {})])


def test_small_chunks_change_nothing(monkeypatch):
    from attndreambooth.attndb.attention import recorder

    q, k = queries_and_keys()
    gather = torch.eye(77)[:, :5]
    whole = word_maps(q, k, HEADS, gather)
    monkeypatch.setitem(recorder._CHUNK_VALUES, "cpu", 2000)
    torch.testing.assert_close(word_maps(q, k, HEADS, gather), whole)


@pytest.mark.parametrize("shape", [(1, 1, 35, 77), (2, HEADS, 35, 77), (2, 1, 1, 77)])
@pytest.mark.parametrize("kind", [torch.float16, torch.bool])
def test_a_mask_weighs_the_keys_before_the_softmax(monkeypatch, shape, kind):
    from attndreambooth.attndb.attention import recorder

    q, k = queries_and_keys()
    generator = torch.Generator().manual_seed(1)
    factors = torch.rand(shape, generator=generator)
    mask = factors > 0.5 if kind == torch.bool else factors.log().to(kind)
    factors = mask.double() if kind == torch.bool else mask.double().exp()
    every = torch.stack([written_out(q, k, (c,), HEADS) for c in range(77)], dim=-1)
    wanted = every * factors
    wanted = (wanted / wanted.sum(dim=-1, keepdim=True))[..., :5]
    monkeypatch.setitem(recorder._CHUNK_VALUES, "cpu", 4000)
    gather = torch.eye(77)[:, :5]
    found = word_maps(q, k, HEADS, gather, keep_heads=True, bias_BHPT=mask)
    torch.testing.assert_close(found.double(), wanted.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-6)


def test_large_logits_do_not_overflow_and_half_precision_is_computed_in_full():
    q, k = queries_and_keys()
    maps = word_maps(200 * q, k, HEADS, torch.eye(77))
    assert torch.isfinite(maps).all()
    torch.testing.assert_close(maps.sum(dim=1), torch.ones(2, 1, 35))
    half_q, half_k = q.bfloat16(), k.bfloat16()
    torch.testing.assert_close(
        word_maps(half_q, half_k, HEADS, torch.eye(77)),
        word_maps(half_q.float(), half_k.float(), HEADS, torch.eye(77)),
    )


def test_steps_fall_into_their_slice_of_time():
    calls = [(*queries_and_keys(seed=s), p, {}) for s, p in enumerate((0.0, 0.24, 0.26, 1.0))]
    together = record(WORDS, calls, slices=4).sums[KEY]
    assert together.count.tolist() == [2, 1, 0, 1]
    first = record(WORDS, calls[:1], slices=1).sums[KEY].total[0]
    second = record(WORDS, calls[1:2], slices=1).sums[KEY].total[0]
    torch.testing.assert_close(together.total[0], first + second)


def test_memory_does_not_grow_with_the_number_of_steps():
    q, k = queries_and_keys()
    few = record(WORDS, [(q, k, 0.5, {})])
    many = record(WORDS, [(q, k, i / 50, {}) for i in range(50)])
    assert many.bytes == few.bytes


def test_a_finished_recorder_starts_anew():
    q, k = queries_and_keys()
    recorder = MapRecorder(WORDS, latent_size=(5, 7), slices=1)
    recorder.add(KEY, q, k, HEADS, slice_index=torch.tensor([0]))
    first = recorder.finish()
    assert recorder.finish().sums == {}
    assert first.sums[KEY].count.tolist() == [1]
