"""Numbers of maps agree with their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.data import camera
from skimage.filters import threshold_otsu

from attndreambooth.attndb.attention import map_metrics


def test_mass_is_the_mean():
    assert map_metrics.mass(torch.tensor([[0.1, 0.3]])) == pytest.approx(0.2)


def test_entropy_is_one_for_a_flat_map_and_zero_for_a_point():
    assert map_metrics.entropy(torch.full((4, 6), 0.3)) == pytest.approx(1.0)
    point = torch.zeros(4, 6)
    point[1, 2] = 0.7
    assert map_metrics.entropy(point) == pytest.approx(0.0)
    half = torch.zeros(4, 4)
    half[:2] = 1
    assert map_metrics.entropy(half) == pytest.approx(np.log(8) / np.log(16))


def test_otsu_parts_a_photograph_as_scikit_image_does():
    photo = camera()[::4, ::4].astype(np.float32) / 255
    ours = map_metrics.otsu_threshold(torch.from_numpy(photo))
    assert abs(ours - threshold_otsu(photo)) <= 1 / 255


def test_a_flat_map_has_no_bright_part():
    assert not map_metrics.otsu_mask(torch.full((3, 3), 0.4)).any()


def test_iou_counts_the_bright_part_against_the_mask():
    heat = torch.zeros(10, 10)
    heat[:5] = 1
    mask = torch.zeros(10, 10)
    mask[:, :5] = 1
    assert map_metrics.iou_with_mask(heat, mask) == pytest.approx(25 / 75)
    assert map_metrics.iou_with_mask(heat, heat) == 1
    assert map_metrics.iou_with_mask(heat[::5, ::5].contiguous(), heat) == pytest.approx(1, abs=0.2)


def test_similarity_is_of_shape_not_of_strength():
    heat = torch.rand(5, 5)
    assert map_metrics.similarity(heat, 3 * heat) == pytest.approx(1)
    left, right = torch.zeros(2, 4), torch.zeros(2, 4)
    left[:, :2], right[:, 2:] = 1, 1
    assert map_metrics.similarity(left, right) == 0
