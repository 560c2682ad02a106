"""Curves: even values on the scale, and lines that are told apart where they are the same."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from attndreambooth.attndb.viz.axes import PAPER, SERIES, Axes
from attndreambooth.attndb.viz.curves import Curve, CurvePanel, curves, curves_svg
from attndreambooth.attndb.viz.strokes import Stroke
from attndreambooth.attndb.viz.svg import SvgDrawing


def _scale(low, high, height=240):
    """The values that are written beside a scale, from the bottom."""
    drawing = SvgDrawing((400, height))
    axes = Axes.around(drawing, (60, 0, 400, height), low, high)
    axes.frame("", "")
    parts = drawing.markup().split('text-anchor="end">')[1:]
    return axes, [part.split("<")[0] for part in parts][:-1]  # the last is the end of the steps


@pytest.mark.parametrize(
    ("low", "high", "written"),
    [
        (0.0, 0.103, ["0", "0.02", "0.04", "0.06", "0.08", "0.1", "0.12"]),
        (0.621, 1.0, ["0.6", "0.7", "0.8", "0.9", "1"]),
        (0.0, 0.3, ["0", "0.05", "0.1", "0.15", "0.2", "0.25", "0.3"]),
        (-0.4, 12.0, ["-2", "0", "2", "4", "6", "8", "10", "12"]),
        (0.0, 3.2e-6, ["0", "5e-07", "1e-06", "1.5e-06", "2e-06", "2.5e-06", "3e-06", "3.5e-06"]),
    ],
)
def test_a_scale_has_even_values_around_all_of_it(low, high, written):
    axes, found = _scale(low, high)
    assert found == written
    assert axes.low <= low and axes.high >= high
    assert axes.low == pytest.approx(float(found[0])) and axes.high == pytest.approx(
        float(found[-1])
    )


def test_a_low_box_has_few_values():
    assert _scale(0.0, 0.103, height=80)[1] == ["0", "0.05", "0.1", "0.15"]


def test_lines_that_are_the_same_are_all_seen():
    image = Image.new("RGB", (300, 60), PAPER)
    for number in range(len(SERIES)):
        Stroke(number).draw(ImageDraw.Draw(image), [(10, 30), (290, 30)])
    seen = {tuple(color) for color in np.asarray(image).reshape(-1, 3).tolist()}
    assert seen >= set(SERIES)


def test_markers_that_would_touch_are_left_out_but_for_the_last():
    drawing = SvgDrawing((300, 60))
    Stroke(0).draw(drawing, [(10.0 + 2 * number, 30.0) for number in range(101)])
    drawn = drawing.markup()
    assert drawn.count("<ellipse") == 10 and 'cx="210"' in drawn


def test_a_mark_stands_under_its_own_curve():
    staged = Curve("staged", [0, 5, 10], [1.0, 0.5, 1.0], marks=[(5, "stage 2"), (7, "unseen")])
    other = Curve("other", [0, 10], [1.0, 1.0])
    assert "stage 2" not in curves_svg([CurvePanel("a", [other])])
    drawn = curves_svg([CurvePanel("a", [other, staged])])
    assert drawn.count("stage 2") == 1 and "unseen" not in drawn


def test_names_that_do_not_fit_beside_each_other_stand_below():
    long = [Curve(f"a name of a curve {number}", [0, 1], [0.0, 1.0]) for number in range(3)]
    drawn = curves_svg([CurvePanel("a", long)], (420, 320))
    places = [part.split('"')[0] for part in drawn.split('x="106" y="')[1:]]
    assert len(places) == len(set(places)) == 3
    assert curves([CurvePanel("a", [])], (420, 320)).size == (420, 320)
