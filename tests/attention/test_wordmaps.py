"""The mean maps are those of the chosen layers, heads and time."""

from __future__ import annotations

import pytest
import torch

from attndreambooth.attndb.attention.prompt_words import Word
from attndreambooth.attndb.attention.recorder import AttentionRecord, LatentWindow, MapKey, MapSum
from attndreambooth.attndb.attention.word_maps import MapSelection, WordMaps, word_maps_of

WORDS = (Word(label="cat", columns=(1,)), Word(label="a#1", columns=(2,)))
FINE = "input_blocks.1.1.transformer_blocks.0.attn2"
COARSE = "input_blocks.4.1.transformer_blocks.0.attn2"
MIDDLE = "middle_block.1.transformer_blocks.0.attn2"
LATENT = (8, 12)


def sums(height, width, *, slices=4, batch=2, heads=1, filled=(0, 1, 2, 3), seed=0):
    generator = torch.Generator().manual_seed(seed)
    total = torch.rand(slices, batch, len(WORDS), heads, height * width, generator=generator)
    count = torch.zeros(slices)
    for index in filled:
        count[index] = index + 1
    return MapSum(total * count[:, None, None, None, None], count), total


def record_of(parts, *, slices=4, keep_heads=False):
    return AttentionRecord(WORDS, slices, keep_heads, LATENT, dict(parts))


def test_steps_weigh_the_same_whatever_their_slice():
    found, mean = sums(8, 12)
    maps = word_maps_of(record_of([(MapKey(FINE, 8, 12), found)]), MapSelection()).maps
    weights = torch.tensor([1.0, 2, 3, 4])
    wanted = (mean[..., 0, :] * weights[:, None, None, None]).sum(0) / weights.sum()
    torch.testing.assert_close(maps.flatten(-2), wanted)


def test_a_window_takes_its_slices_alone():
    found, mean = sums(8, 12)
    record = record_of([(MapKey(FINE, 8, 12), found)])
    maps = word_maps_of(record, MapSelection(start=0.25, end=0.5)).maps
    torch.testing.assert_close(maps.flatten(-2), mean[1][..., 0, :])


def test_a_window_without_a_step_says_where_steps_are():
    found, _ = sums(8, 12, filled=(2, 3))
    record = record_of([(MapKey(FINE, 8, 12), found)])
    with pytest.raises(ValueError, match=r"no sampling step; steps lie in: 0.5-0.75, 0.75-1"):
        word_maps_of(record, MapSelection(start=0.0, end=0.5))


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        (MapSelection(), {FINE, COARSE}),
        (MapSelection(layers="all"), {FINE, COARSE, MIDDLE}),
        (MapSelection(layers="down"), {FINE, COARSE}),
        (MapSelection(layers="middle"), {MIDDLE}),
        (MapSelection(layers="finest"), {FINE}),
        (MapSelection(layers="coarsest"), {MIDDLE}),
        (MapSelection(layers="listed", layer_list=("4x6",)), {COARSE}),
        (MapSelection(layers="listed", layer_list=("8", "middle")), {FINE, MIDDLE}),
    ],
)
def test_layers_are_chosen_by_region_size_or_name(selection, names):
    from attndreambooth.attndb.attention.word_maps import choose_keys

    record = record_of(
        (MapKey(name, *size), sums(*size)[0])
        for name, size in ((FINE, (8, 12)), (COARSE, (4, 6)), (MIDDLE, (2, 3)))
    )
    assert {key.layer for key in choose_keys(record, selection)} == names


def test_a_layer_that_is_not_there_is_named_with_those_that_are():
    record = record_of([(MapKey(FINE, 8, 12), sums(8, 12)[0])])
    with pytest.raises(ValueError, match="'16x16' fits no recorded layer; resolutions: 8x12"):
        word_maps_of(record, MapSelection(layers="listed", layer_list=("16x16",)))
    with pytest.raises(ValueError, match="no such layer"):
        word_maps_of(record, MapSelection(layers="up"))


def test_layers_count_the_same_whatever_their_size():
    fine, _ = sums(8, 12)
    flat = MapSum(torch.full((4, 2, 2, 1, 6), 0.5), torch.ones(4))
    record = record_of([(MapKey(FINE, 8, 12), fine), (MapKey(MIDDLE, 2, 3), flat)])
    alone = word_maps_of(record, MapSelection(layers="finest")).maps
    both = word_maps_of(record, MapSelection(layers="all")).maps
    torch.testing.assert_close(both, (alone + 0.5) / 2)


def test_layers_count_by_their_heads():
    few, _ = sums(8, 12)
    flat = MapSum(torch.full((4, 2, 2, 1, 6), 0.5), torch.ones(4), heads=3)
    record = record_of([(MapKey(FINE, 8, 12), few), (MapKey(MIDDLE, 2, 3), flat)])
    alone = word_maps_of(record, MapSelection(layers="finest")).maps
    both = word_maps_of(record, MapSelection(layers="all")).maps
    torch.testing.assert_close(both, (alone + 3 * 0.5) / 4)


def test_one_head_can_be_chosen_where_heads_were_kept():
    found, mean = sums(8, 12, heads=3)
    record = record_of([(MapKey(FINE, 8, 12), found)], keep_heads=True)
    maps = word_maps_of(record, MapSelection(head=2, start=0, end=0.25)).maps
    torch.testing.assert_close(maps.flatten(-2), mean[0][:, :, 2])
    with pytest.raises(ValueError, match="none of the chosen layers has this head"):
        word_maps_of(record, MapSelection(head=3))


def test_one_head_of_a_mean_is_refused_with_the_remedy():
    record = record_of([(MapKey(FINE, 8, 12), sums(8, 12)[0])])
    with pytest.raises(ValueError, match="turn on keep_heads"):
        word_maps_of(record, MapSelection(head=0))


def test_a_regional_prompt_lies_on_its_part_of_the_picture():
    crop = LatentWindow(top=2, left=6, height=4, width=6)
    part = MapSum(torch.ones(4, 1, 2, 1, 24), torch.ones(4))
    maps = word_maps_of(record_of([(MapKey(FINE, 4, 6, crop), part)]), MapSelection()).maps
    wanted = torch.zeros(LATENT)
    wanted[2:6, 6:12] = 1
    torch.testing.assert_close(maps[0, 0], wanted)


def test_overlapping_regions_are_averaged_where_both_are():
    left = MapSum(torch.full((4, 1, 2, 1, 64), 0.2), torch.ones(4))
    right = MapSum(torch.full((4, 1, 2, 1, 64), 0.4), torch.ones(4))
    parts = [
        (MapKey(FINE, 8, 8, LatentWindow(0, 0, 8, 8)), left),
        (MapKey(FINE, 8, 8, LatentWindow(0, 4, 8, 8)), right),
    ]
    row = word_maps_of(record_of(parts), MapSelection()).maps[0, 0, 0]
    torch.testing.assert_close(row, torch.tensor([0.2] * 4 + [0.3] * 4 + [0.4] * 4))


def test_nothing_recorded_is_an_error():
    with pytest.raises(ValueError, match="nothing was recorded"):
        word_maps_of(record_of([]), MapSelection())


def test_bad_selections_name_the_field_and_the_value():
    for options, text in (
        ({"layers": "top"}, "layers = 'top'"),
        ({"layers": "listed"}, "layer_list is empty"),
        ({"head": -2}, "head = -2"),
        ({"start": 0.6, "end": 0.5}, "start = 0.6, end = 0.5"),
    ):
        with pytest.raises(ValueError, match=text):
            MapSelection(**options)


def test_words_are_chosen_by_text_and_number():
    words = tuple(Word(label=label, columns=(i,)) for i, label in enumerate(("a#1", "<x>", "a#2")))
    maps = WordMaps(words, torch.arange(3.0)[None, :, None, None].expand(1, 3, 2, 2))
    assert [word.label for word in maps.choose(["a"]).words] == ["a#1", "a#2"]
    assert maps.of("x").mean() == 1
    assert maps.of("a#2").mean() == 2
    with pytest.raises(ValueError, match=r"no map of 'b'; there are maps of: a#1, <x>, a#2"):
        maps.of("b")
