"""A thin change is the nearest of its rank, and what is said of its error is true."""

from __future__ import annotations

import pytest
import torch

from attndreambooth.attndb.artifacts.concept import TrainedConcept
from attndreambooth.attndb.artifacts.lora_extraction import (
    ExtractionConfig,
    extract_concept,
    extract_lora,
    extraction_table,
    truncated_svd,
)
from attndreambooth.attndb.artifacts.weight_delta import LowRank, WeightDelta, delta_tensors, dense

SHAPES = {
    "wide.weight": (24, 60),
    "high.weight": (60, 24),
    "conv.weight": (20, 16, 3, 3),
    "point.weight": (20, 16, 1, 1),
    "one.weight": (4, 320, 3, 3),
    "norm.weight": (16,),
    "conv.bias": (20,),
}


def rank_of(change: WeightDelta) -> int:
    assert isinstance(change, LowRank)
    return change.up.shape[1]


def change(dtype: torch.dtype = torch.float32, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn(shape, generator=generator) * 1e-3).to(dtype)
        for name, shape in SHAPES.items()
    }


def decaying(rows: int, columns: int, seed: int = 1) -> torch.Tensor:
    """A matrix whose singular values fall off slowly, as those of trained changes do."""
    generator = torch.Generator().manual_seed(seed)
    u, _ = torch.linalg.qr(torch.randn(rows, rows, generator=generator, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(columns, rows, generator=generator, dtype=torch.float64))
    return ((u / torch.arange(1, rows + 1).sqrt()) @ v.T).float()


def test_full_rank_gives_the_change_back():
    whole = change()
    thin = extract_lora(whole, ExtractionConfig(keep_vectors=True, rank=1280))
    assert set(thin.delta) == set(whole)
    for name, value in whole.items():
        torch.testing.assert_close(dense(thin.delta[name]), value, rtol=1e-4, atol=1e-8)
    assert thin.error < 1e-5


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_the_error_of_a_rank_is_that_of_the_truncated_decomposition(rank):
    whole = change()
    thin = extract_lora(whole, ExtractionConfig(keep_vectors=True, rank=rank))
    told = {layer.name: layer for layer in thin.layers}
    missing = total = 0.0
    for name, value in whole.items():
        total += float(value.double().square().sum())
        if value.ndim == 1:
            assert torch.equal(thin.delta[name], value) and told[name].rank is None
            continue
        values = torch.linalg.svdvals(value.double().flatten(1))
        best = float(values[rank:].square().sum())
        missing += best
        assert told[name].rank == min(rank, len(values)) == rank_of(thin.delta[name])
        rounding = 8 * torch.finfo(torch.float32).eps * told[name].norm
        assert told[name].error == pytest.approx(best**0.5, rel=1e-3, abs=rounding)
        assert dense(thin.delta[name]).shape == value.shape
    assert thin.error == pytest.approx((missing / total) ** 0.5, rel=1e-3)


def test_the_randomised_decomposition_is_as_near_as_the_exact_one():
    for matrix in (decaying(200, 900), decaying(200, 900).T):
        _, values, _ = torch.linalg.svd(matrix.double(), full_matrices=False)
        for rank in (4, 32):
            u, s, v = truncated_svd(matrix, rank, torch.Generator().manual_seed(0))
            assert u.shape == (matrix.shape[0], rank) and v.shape == (rank, matrix.shape[1])
            error = torch.linalg.matrix_norm(matrix.double() - ((u * s) @ v).double())
            best = values[rank:].square().sum().sqrt()
            assert best * 0.9999 <= error <= best * 1.01
            torch.testing.assert_close(s.double(), values[:rank], rtol=2e-2, atol=0)


def test_an_energy_gives_every_weight_the_smallest_rank_that_keeps_it():
    whole = {"a.weight": decaying(160, 400), "b.weight": change()["conv.weight"]}
    thin = extract_lora(whole, ExtractionConfig(keep_vectors=True, rank=1280, energy=0.8))
    for layer in thin.layers:
        energies = torch.linalg.svdvals(whole[layer.name].double().flatten(1)).square()
        wanted = int((energies.cumsum(0) < 0.8 * energies.sum()).sum()) + 1
        assert abs(layer.rank - wanted) <= 1
        assert 1 - layer.relative**2 >= 0.8 - 1e-3
    limited = extract_lora(whole, ExtractionConfig(keep_vectors=True, rank=5, energy=0.8))
    assert all(layer.rank <= 5 for layer in limited.layers)


def test_the_same_change_gives_the_same_bytes():
    whole = {"a.weight": decaying(300, 500), **change()}
    first, second = (extract_lora(whole, ExtractionConfig(rank=8)) for _ in range(2))
    second_delta = delta_tensors(second.delta)
    for name, value in delta_tensors(first.delta).items():
        assert torch.equal(value, second_delta[name])


def test_half_precision_stays_half_and_its_rounding_is_counted():
    whole = change(torch.float16)
    thin = extract_lora(whole, ExtractionConfig(keep_vectors=True, rank=1280))
    assert all(t.dtype == torch.float16 for t in delta_tensors(thin.delta).values())
    assert 0 < thin.error < 4 * torch.finfo(torch.float16).eps


def test_a_lora_is_thinned_too_and_nothing_is_left_of_no_change():
    generator = torch.Generator().manual_seed(2)
    lora = LowRank(
        torch.randn(30, 6, generator=generator), torch.randn(6, 40, generator=generator), (30, 40)
    )
    thin = extract_lora({"a.weight": lora, "z.weight": torch.zeros(5, 7)}, ExtractionConfig(rank=6))
    torch.testing.assert_close(dense(thin.delta["a.weight"]), dense(lora), rtol=1e-4, atol=1e-4)
    assert set(thin.delta) == {"a.weight"} and thin.layers[1].rank == 0 and thin.error < 1e-5


def test_biases_and_norms_are_left_out_unless_asked_for_and_the_table_says_all():
    whole = change()
    thin = extract_lora(whole, ExtractionConfig(rank=4))
    assert set(thin.delta) == {name for name, shape in SHAPES.items() if len(shape) > 1}
    table = extraction_table(thin)
    assert f"relative error {thin.error:.4f}" in table and "2 biases and norms left out" in table
    for layer in thin.layers:
        if layer.rank is not None:
            assert f"{layer.relative:.4f}" in next(
                line for line in table.splitlines() if line.startswith(layer.name)
            )


def concept(delta) -> TrainedConcept:
    return TrainedConcept(
        placeholder="<a>", category="dog", text_key="clip_l", vectors=torch.ones(1, 8), delta=delta
    )


def test_a_concept_says_in_its_record_what_was_extracted():
    thin, extraction = extract_concept(concept(change()), ExtractionConfig(rank=4))
    assert thin.record["extraction"] == {
        "rank": 4,
        "energy": 0.0,
        "keep_vectors": False,
        "relative_error": extraction.error,
    }


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: ExtractionConfig(rank=0), "rank = 0"),
        (lambda: ExtractionConfig(energy=1.5), "energy = 1.5"),
        (lambda: ExtractionConfig(energy=float("nan")), "energy = nan"),
        (lambda: extract_concept(concept({}), ExtractionConfig()), "changes no weights"),
        (
            lambda: extract_lora(
                {"a.weight": torch.full((3, 3), float("nan"))}, ExtractionConfig()
            ),
            r"a\.weight holds NaN",
        ),
    ],
)
def test_what_cannot_be_extracted_is_refused_by_name(make, told):
    with pytest.raises(ValueError, match=told):
        make()


def test_a_change_that_is_thinner_keeps_its_own_factors():
    generator = torch.Generator().manual_seed(0)
    up, down = torch.randn(40, 3, generator=generator), torch.randn(3, 40, generator=generator)
    given = {"a.weight": LowRank(up, down, (40, 40))}
    assert extract_lora(given, ExtractionConfig(rank=8)).delta["a.weight"] is given["a.weight"]
    for energy in (0.5, 1.0):
        thin = extract_lora(given, ExtractionConfig(rank=8, energy=energy)).delta["a.weight"]
        assert rank_of(thin) <= 3
    assert rank_of(extract_lora(given, ExtractionConfig(rank=2)).delta["a.weight"]) == 2
