"""A scatter: every name is readable beside its point, every interval lies within the scales."""

import re

import numpy as np
import pytest

from attndreambooth.attndb.viz.axes import PAPER
from attndreambooth.attndb.viz.scatter import Scatter, ScatterPoint, scatter, scatter_svg


def figure(*points: ScatterPoint) -> Scatter:
    return Scatter(points, "text", "truth")


def around(name: str, x: float, y: float, wide: float = 0.02) -> ScatterPoint:
    return ScatterPoint(name, (x, x - wide, x + wide), (y, y - wide, y + wide))


CLOSE = [around(name, 0.7 + i / 500, 0.6 - i / 500) for i, name in enumerate("ABCDE")]


def names(drawn: str) -> dict[str, tuple[float, float, float, float]]:
    """Boxes of the texts that are a point's name."""
    found = re.findall(
        r'<text x="([\d.]+)" y="([\d.]+)"[^>]*textLength="([\d.]+)"[^>]*>(\w)<', drawn
    )
    return {
        name: (float(x), float(y) - 14, float(x) + float(long), float(y))
        for x, y, long, name in found
        if name.isalpha()
    }


def test_names_of_points_that_lie_close_cover_each_other_nowhere():
    boxes = list(names(scatter_svg(figure(*CLOSE))).values())
    assert len(boxes) == 5
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_right_and_up_is_more():
    found = names(scatter_svg(figure(around("A", 0.2, 0.2), around("B", 0.8, 0.9))))
    assert found["B"][0] > found["A"][0] and found["B"][1] < found["A"][1]


def test_the_scales_hold_the_whole_intervals():
    drawn = scatter_svg(figure(around("A", 0.5, 0.5, wide=0.4), around("B", 0.5, 0.7)), (900, 620))
    lines = re.findall(r'<polyline points="([\d., ]+)"', drawn)
    places = [tuple(map(float, pair.split(","))) for line in lines for pair in line.split()]
    assert all(60 <= x <= 880 and 40 <= y <= 570 for x, y in places)


def test_one_point_without_an_interval_is_drawn():
    picture = scatter(figure(around("A", 0.5, 0.5, wide=0.0)))
    assert (np.asarray(picture) != PAPER).any()


def test_nothing_to_draw_is_said():
    with pytest.raises(ValueError, match="no point"):
        figure()
