"""Figures are drawn by every Pillow that ComfyUI takes."""

from __future__ import annotations

import torch
from PIL import ImageFont

from attndreambooth.attndb.viz.grid import broken
from attndreambooth.attndb.viz.letters import letters
from attndreambooth.attndb.viz.loss_curve import loss_curve
from attndreambooth.attndb.viz.text_panel import text_panel


def test_an_older_pillow_draws_with_the_one_size_it_has(monkeypatch):
    small = ImageFont.load_default_imagefont
    monkeypatch.setattr(ImageFont, "load_default", lambda: small())  # before 10.1: no size
    title = "losses of <\u72ac> dog"  # a letter that it does not have
    assert loss_curve({"denoising": [0.3, 0.2], "attention map": [0.1, 0.1]}, title).size == (
        768,
        384,
    )
    assert broken(title, letters(14), 60) == ["losses of", "<\u72ac> dog"]
    drawn = text_panel([title], 200, 14)
    assert drawn.std() > 0.01 and torch.isfinite(drawn).all()


def test_letters_have_the_size_that_is_asked_for():
    assert letters(28).getlength("dog") > 1.8 * letters(14).getlength("dog")
