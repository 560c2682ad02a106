"""What encoding a photo takes: the trace equals a real one, and counts where it is the peak."""

from __future__ import annotations

import pytest
import torch

from attndreambooth.devkit.kl_vae import kl_vae

CPU, CARD = torch.device("cpu"), torch.device("cuda")
SIDE = 96


@pytest.mark.parametrize("attention", ["normal_attention", "pytorch_attention"])
def test_the_trace_holds_what_a_real_encoding_holds(host, attention):
    from attndreambooth.attndb.memory.meta_trace import Ledger
    from attndreambooth.nodes.host.model.encoding_memory import encoding_bytes

    vae = kl_vae(channels=32, attention=attention, held_on="cpu")
    module = vae.first_stage_model
    with torch.inference_mode(False), torch.no_grad():
        for value in [*module.parameters(), *module.buffers()]:
            torch.nn.init.constant_(value, 0.01)
        with Ledger([*module.parameters(), *module.buffers()]) as ledger:
            module.encode(torch.zeros(1, 3, SIDE, SIDE))
    assert encoding_bytes(vae, CPU, SIDE) == pytest.approx(ledger.peak, rel=0.001)
    assert all(not value.is_meta for value in module.parameters())


def test_a_vae_that_works_elsewhere_or_is_none_of_these_counts_nothing(host):
    from attndreambooth.nodes.host.model.encoding_memory import encoder_bytes, encoding_bytes

    on_the_cpu, there = (kl_vae(channels=32, on=kind) for kind in ("cpu", "cuda"))
    weights = sum(value.nbytes for value in there.first_stage_model.parameters())
    assert [encoder_bytes(vae, CARD) for vae in (there, on_the_cpu, None)] == [weights, 0, 0]
    assert encoding_bytes(there, CARD, SIDE) > 0
    other = kl_vae(channels=32, on="cuda")
    other.first_stage_model = torch.nn.Linear(2, 2)
    assert [encoding_bytes(vae, CARD, SIDE) for vae in (on_the_cpu, None, other)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("side", "dtype", "said"),
    [
        (512, torch.bfloat16, 0.20),
        (512, torch.float32, 0.41),
        (1024, torch.bfloat16, 0.81),
        (1024, torch.float32, 1.62),
    ],
)
def test_full_size_photos_take_what_the_docs_say(host, side, dtype, said):
    from attndreambooth.nodes.host.model.encoding_memory import encoding_bytes

    found = encoding_bytes(kl_vae(dtype=dtype, on="cuda"), CARD, side)
    assert found / 1e9 == pytest.approx(said, abs=0.005)
    # at least three activations of the finest level at once: a block's input, its norm, its result
    assert found >= 3 * 128 * side**2 * dtype.itemsize


def test_a_step_that_needs_less_than_encoding_is_not_the_peak(host):
    """Neither gradients nor activations are there while the VAE encodes, all that lasts is."""
    from attndreambooth.attndb.config.presets import paper
    from attndreambooth.attndb.memory.estimate import MemoryEstimator
    from attndreambooth.devkit.tiny_model import CLIP_CONFIG, prompt_of, tiny_model

    with torch.inference_mode(False):
        model = tiny_model()
        shape = (1, CLIP_CONFIG["hidden_size"])
        given = {"model": model, "embeddings": {"clip_l": shape}, "prompts": (prompt_of(),)}
        for config in (paper()[0], paper()[2].with_(low_memory=True)):
            plain, large = (
                MemoryEstimator(**given, latent=(4, 16, 16), encoding=n)(config)
                for n in (1000, 10**10)
            )
            step = plain.gradients + plain.activations
            assert large.total == plain.total - step + 10**10


@pytest.mark.parametrize("pool", [0, 1])
def test_a_training_counts_it_where_it_encodes_between_steps(sd15, train, monkeypatch, pool):
    from attndreambooth.nodes.host.model import memory

    given = []

    class Estimator(memory.MemoryEstimator):
        def __init__(self, **values):
            super().__init__(**values)
            given.append((values["encoding"], values["autoencoder"]))

    monkeypatch.setattr(memory, "MemoryEstimator", Estimator)
    train(2, sd15, latent_pool=pool, steps=1)
    [(encoding, weights)] = given
    assert (encoding > 64 * 64 * 3 * 4 and weights > 0) if pool == 0 else encoding == weights == 0
