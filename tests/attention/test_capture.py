"""Runs are found by the pictures they made."""

from __future__ import annotations

import pytest
import torch

from attndreambooth.attndb.attention.capture import Capture
from attndreambooth.attndb.attention.prompt_words import Word
from attndreambooth.attndb.attention.recorder import MapKey

KEY = MapKey("middle_block.1.transformer_blocks.0.attn2", 2, 2)


def capture() -> Capture:
    return Capture(prompt="cat", words=[Word(label="cat", columns=(1,))], slices=1)


def run(handle: Capture, output: torch.Tensor, seed: int, **options) -> torch.Tensor:
    """One run with random attention; gives what it summed."""
    generator = torch.Generator().manual_seed(seed)
    recorder = handle.recorder((4, 4))
    q = torch.randn(len(output), 4, 8, generator=generator)
    k = torch.randn(len(output), 5, 8, generator=generator)
    recorder.add(KEY, q, k, 2, slice_index=torch.tensor([0]))
    handle.finish(recorder, output, **options)
    return handle.runs[-1].record.sums[KEY].total


def latent(seed: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 4, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_each_latent_gives_its_own_run():
    handle = capture()
    first, second = run(handle, latent(1), 1), run(handle, latent(2), 2)
    torch.testing.assert_close(handle.find(latent(1))[0].sums[KEY].total, first)
    torch.testing.assert_close(handle.find(latent(2))[0].sums[KEY].total, second)


def test_a_part_of_a_batch_and_a_joined_batch_are_found():
    handle = capture()
    first, second = run(handle, latent(1), 1), run(handle, latent(2), 2)
    joined = torch.cat([latent(2)[1:], latent(1)])
    found, _ = handle.find(joined)
    wanted = torch.cat([second[:, 1:], first], dim=1)
    torch.testing.assert_close(found.sums[KEY].total, wanted)


def test_a_latent_of_half_precision_is_still_known():
    handle = capture()
    run(handle, latent(1), 1)
    assert handle.find(latent(1).half())[0].sums


def test_an_edited_latent_is_refused_with_the_remedy():
    handle = capture()
    with pytest.raises(
        ValueError, match=r"no sampling run was captured.*change the sampler's seed"
    ):
        handle.find(latent(1))
    run(handle, latent(1), 1)
    with pytest.raises(
        ValueError, match="picture 2 of samples was not drawn by the captured MODEL"
    ):
        handle.find(torch.cat([latent(1)[:1], latent(1)[1:] + 0.1]))


def test_a_picture_that_the_model_failed_at_is_told_from_an_edited_one():
    handle, broken = capture(), latent(1)
    broken[1, 0, 0, 0] = float("nan")
    run(handle, broken, 1)
    with pytest.raises(ValueError, match=r"picture 2 of samples holds NaN.*--force-upcast"):
        handle.find(broken)


def test_a_run_that_goes_on_with_a_latent_adds_to_its_maps():
    handle = capture()
    first = run(handle, latent(1), 1)
    both = run(handle, latent(2), 2, continues=latent(1))
    alone = run(handle, latent(3), 2, continues=latent(9))
    torch.testing.assert_close(both, first + alone)
    assert handle.find(latent(2))[0].sums[KEY].count.tolist() == [2]


def test_a_run_that_goes_on_with_some_of_the_pictures_adds_to_theirs():
    handle = capture()
    run(handle, latent(1), 1, note="begun otherwise")
    twice = run(handle, latent(2), 2, continues=latent(1))
    chosen = latent(2)[1:].repeat(2, 1, 1, 1)
    three = run(handle, latent(3), 3, continues=chosen)
    alone = run(handle, latent(4), 3)
    torch.testing.assert_close(three, twice[:, 1:].repeat(1, 2, 1, 1, 1) + alone)
    found, note = handle.find(latent(3))
    assert found.sums[KEY].count.tolist() == [3] and note == "begun otherwise"
    joined = torch.cat([latent(3)[:1], latent(2)[:1]])  # of runs of three and of two calls
    assert run(handle, latent(5), 5, continues=joined).shape == alone.shape


def test_notes_of_a_run_come_with_its_record():
    handle = capture()
    run(handle, latent(1), 1, note="look out")
    assert handle.find(latent(1))[1] == "look out"


def test_only_the_newest_runs_are_kept():
    handle = capture()
    for seed in range(40):
        run(handle, latent(seed), seed)
    assert len(handle.runs) == 32
    with pytest.raises(ValueError, match="32 run"):
        handle.find(latent(0))
