"""The embedding correction is its formula, and its slider begins at nothing."""

from __future__ import annotations

import math

import pytest
import torch

from attndreambooth.attndb.models.embedding_correction import corrected, towards


def slow(v: list[float], c: list[float], r: float, a: float) -> list[float]:
    """The formula, number by number (docs/formulas.md, Beyond the paper)."""
    length = lambda x: math.sqrt(sum(i * i for i in x))  # noqa: E731
    n = (1 - a) * length(v) + a * length(c)
    p, q = [n * i / length(v) for i in v], [n * i / length(c) for i in c]
    theta = math.acos(sum(i * j for i, j in zip(p, q, strict=True)) / n**2)
    w, u = math.sin((1 - r) * theta) / math.sin(theta), math.sin(r * theta) / math.sin(theta)
    return [w * i + u * j for i, j in zip(p, q, strict=True)]


@pytest.fixture
def words() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 16, generator=generator) * 0.4, torch.randn(16, generator=generator)


@pytest.mark.parametrize(("turn", "norm"), [(0.2, 0.5), (0.5, 0.0), (0.9, 1.0), (0.0, 0.3)])
def test_it_is_the_formula(words, turn, norm):
    vectors, category = words
    expected = [slow(v, category.tolist(), turn, norm) for v in vectors.tolist()]
    found = towards(vectors, category, turn, norm)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)
    assert found.dtype == vectors.dtype


def test_the_slider_begins_at_nothing_passes_the_published_default_and_ends_at_the_category(words):
    vectors, category = words
    assert corrected(vectors, category, 0.0) is vectors
    torch.testing.assert_close(corrected(vectors, category, 1e-7), vectors, rtol=1e-5, atol=1e-5)
    assert torch.equal(corrected(vectors, category, 0.2), towards(vectors, category, 0.2, 0.5))
    torch.testing.assert_close(
        corrected(vectors, category, 1.0), category.expand(3, -1), rtol=1e-5, atol=1e-5
    )


def test_the_path_is_a_turn_at_constant_speed(words):
    vectors, category = words
    angle = lambda x: torch.arccos(torch.cosine_similarity(x.double(), category.double()))  # noqa: E731
    whole = angle(vectors)
    for turn in (0.25, 0.5, 0.75):
        left = angle(towards(vectors, category, turn, 0.5))
        torch.testing.assert_close(left, (1 - turn) * whole, rtol=1e-5, atol=1e-5)


def test_a_vector_that_points_at_its_category_already_keeps_its_direction(words):
    _, category = words
    found = towards(0.5 * category[None], category, 0.3, 0.5)
    torch.testing.assert_close(found, 0.75 * category[None], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_that_is_none_is_refused(words, strength):
    first, second = words
    with pytest.raises(ValueError, match=r"correction = "):
        corrected(first, second, strength)
