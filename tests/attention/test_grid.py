"""The drawn grid shows the maps' values in the right place and colour."""

from __future__ import annotations

import pytest
import torch

from attndreambooth.attndb.attention.prompt_words import Word
from attndreambooth.attndb.attention.word_maps import WordMaps
from attndreambooth.attndb.viz.colormap import colour_table
from attndreambooth.attndb.viz.grid import format_value, grid
from attndreambooth.attndb.viz.heatmaps import Cell, HeatmapStyle, overlay, resize_map
from attndreambooth.attndb.viz.map_figure import MapFigure, comparison

BARE = HeatmapStyle(cell=64, opacity=1.0)


def hot_left(height=8, width=8) -> torch.Tensor:
    heat = torch.zeros(height, width)
    heat[:, : width // 2] = 0.5
    return heat


def colour_at(drawn: torch.Tensor, y: int, x: int) -> list[int]:
    return (drawn[y, x] * 255).round().int().tolist()


def table(index: int) -> list[int]:
    return colour_table()[index].tolist()


def test_colours_rise_in_lightness_from_end_to_end():
    light = colour_table().astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (light[1:] >= light[:-1] - 1e-9).all()
    assert light[-1] - light[0] > 200


def test_a_map_alone_shows_its_extremes_in_the_end_colours():
    drawn = grid([Cell("cat", heat=hot_left())], BARE)
    assert colour_at(drawn, 40, 14) == table(255)
    assert colour_at(drawn, 40, 70) == table(0)


def test_a_shared_scale_shows_a_weaker_map_weaker():
    weak = hot_left() / 2
    style = HeatmapStyle(cell=64, opacity=1.0, normalization="shared")
    drawn = grid([Cell("strong", heat=hot_left()), Cell("weak", heat=weak)], style)
    assert colour_at(drawn, 40, 14) == table(255)
    assert colour_at(drawn, 40, 14 + 74) == table(128)
    own = grid([Cell("strong", heat=hot_left()), Cell("weak", heat=weak)], BARE)
    assert colour_at(own, 40, 14 + 74) == table(255)


def test_opacity_zero_is_the_picture_and_a_cold_place_keeps_its_drawing():
    picture = torch.rand(8, 8, 3)
    torch.testing.assert_close(overlay(picture, hot_left(), 0.0), picture)
    laid = overlay(picture, torch.zeros(8, 8), 0.6)
    grey = picture @ torch.tensor([0.299, 0.587, 0.114])
    correlation = torch.corrcoef(torch.stack([laid.mean(-1).flatten(), grey.flatten()]))[0, 1]
    assert correlation > 0.9


def test_pictures_keep_their_shape():
    drawn = grid([Cell("wide", torch.rand(20, 60, 3))], HeatmapStyle(cell=120))
    assert drawn.shape[1] == 120 + 20
    assert drawn.shape[0] < 120


def test_rows_break_at_the_asked_column():
    cells = [Cell(str(i), heat=hot_left()) for i in range(5)]
    wide, tall = (
        grid(cells, HeatmapStyle(cell=64, columns=5)),
        grid(cells, HeatmapStyle(cell=64, columns=2)),
    )
    assert wide.shape[1] == 5 * 74 + 10
    assert tall.shape[1] == 2 * 74 + 10
    assert tall.shape[0] == 3 * (wide.shape[0] - 10) + 10


def test_values_are_written_with_two_figures():
    assert [format_value(v) for v in (0.5, 0.123, 0.0312, 0.00123, 0.0)] == [
        "50%",
        "12%",
        "3.1%",
        "0.12%",
        "0%",
    ]


def test_growing_a_map_never_goes_below_zero():
    assert resize_map(hot_left(), 50, 30).min() >= 0


def figure(labels=("cat", "a"), batch=2, pictures=True) -> MapFigure:
    words = tuple(Word(label=label, columns=(i,)) for i, label in enumerate(labels))
    maps = hot_left().expand(batch, len(words), 8, 8)
    return MapFigure(
        "a cat", WordMaps(words, maps), torch.rand(batch, 64, 64, 3) if pictures else None
    )


def test_a_figure_draws_one_grid_for_each_picture():
    assert figure().grids(BARE).shape[0] == 2
    assert figure().grids(BARE).shape[2] == 3 * 74 + 10
    assert figure(pictures=False).grids(BARE).shape[2] == 2 * 74 + 10


def test_a_mask_of_a_word_has_the_pictures_size():
    soft, hard = figure().mask("cat", binary=False), figure().mask("cat", binary=True)
    assert soft.shape == hard.shape == (2, 64, 64)
    assert soft.min() == 0 and soft.max() == 1
    assert hard[0, :, :28].min() == 1 and hard[0, :, 36:].max() == 0


def test_a_mask_of_another_size_is_resized_for_the_overlap():
    wanted = torch.zeros(1, 16, 16)
    wanted[:, :, :8] = 1
    found = figure().measure("cat", mask=wanted)
    assert found.iou == pytest.approx(1.0, abs=0.06)
    with pytest.raises(ValueError, match="mask holds 3 masks for 2 picture"):
        figure().measure("cat", mask=torch.zeros(3, 8, 8))


def test_pictures_and_samples_must_be_as_many():
    with pytest.raises(ValueError, match=r"image holds 1 picture\(s\) and samples 2"):
        MapFigure("x", figure().maps, torch.rand(1, 64, 64, 3))


def test_a_comparison_has_a_column_for_each_figure_and_a_row_for_each_word():
    drawn = comparison([figure(), figure(), figure()], ["before"], ["cat", "a"], BARE)
    assert drawn.shape[0] == 2
    assert drawn.shape[2] == 3 * 74 + 10
    assert drawn.shape[1] > 3 * 64


def test_columns_of_maps_alone_have_their_names_too():
    bare, wide = MapFigure("x", figure().maps), HeatmapStyle(cell=256)
    sheets = [comparison([bare, bare], [name], ["cat"], wide) for name in ("old", "new")]
    assert sheets[0].shape == sheets[1].shape and not torch.equal(*sheets)


def test_a_word_that_one_prompt_lacks_is_left_out_there_alone():
    old, new = figure(("sloth",)), figure(("<x>", "sloth"))
    assert comparison([old, new], ["before", "after"], ["<x>"], BARE).shape[0] == 2
    with pytest.raises(ValueError, match="no map of 'dog'"):
        comparison([old, new], [], ["dog"], BARE)
