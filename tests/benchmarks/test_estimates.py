"""The memory table: a model without weights is estimated as the same model with weights."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

CPU = torch.device("cpu")


@pytest.mark.parametrize("stage", [1, 3])
def test_a_model_without_weights_is_estimated_as_one_with_weights(host, stage):
    from attndreambooth.benchmarks.estimates import estimator, model_without_weights
    from attndreambooth.benchmarks.ours import our_backend, stage_config
    from attndreambooth.benchmarks.sizes import tiny, weights_of

    size = tiny()
    config = stage_config(stage, size, "fp32")
    real = estimator(size, our_backend(size, weights_of(size), CPU))(config)
    bare = estimator(size, model_without_weights(size, CPU))(config)
    assert bare.activations == pytest.approx(real.activations, rel=0.01)
    assert {**asdict(bare), "activations": 0} == {**asdict(real), "activations": 0}


def test_a_measured_row_has_the_estimate_next_to_it(host):
    from attndreambooth.benchmarks.estimates import cases, measured
    from attndreambooth.benchmarks.sizes import tiny

    assert len(cases()) == len(set(cases())) and {case[0] for case in cases()} == {1, 2, 3}
    row = measured(tiny(), 2, "bf16", "LoRA 16", baseline=0)
    assert row["measured_mb"] > row["estimated_mb"] > row["lasting_mb"] > 0
