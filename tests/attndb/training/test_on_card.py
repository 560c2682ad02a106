"""What only a card can show of the core: `python dev.py test --device cuda --piece core`."""

from __future__ import annotations

import gc

import pytest
import torch
from support.resumed import same, whole_and_resumed

from attndreambooth.attndb.artifacts.weight_delta import delta_tensors
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.regularization import Regularization
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.devkit.tiny_model import (
    CLIP_CONFIG,
    RandomBatches,
    prompt_of,
    tiny_model,
)
from attndreambooth.devkit.training import train_stage

pytestmark = pytest.mark.cuda
CARD, CPU = torch.device("cuda", 0), torch.device("cpu")
VECTORS = 0.3 * torch.randn(
    1, CLIP_CONFIG["hidden_size"], generator=torch.Generator().manual_seed(5)
)
STEPS = 6
ADAMW = OptimizerConfig(learning_rate=1e-3)
EIGHT_BIT = OptimizerConfig(name="AdamW 8-bit", learning_rate=1e-3)


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """fp32 as on the CPU: a convolution's products are in TF32 otherwise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def model_on(device):
    """The tiny model as a stage node makes it for a device: its weights wait in main memory."""
    from attndreambooth.nodes.host.model.private_model import PrivateModel
    from attndreambooth.nodes.host.model.text_encoder import TextEncoder

    made = tiny_model()
    text = {name: TextEncoder(encoder) for name, encoder in made.text_encoders.items()}
    for encoder in text.values():
        encoder.model.set_clip_options({"execution_device": device})
    return PrivateModel(made.unet, text, made.diffusion, device)


def stage(number, **changes):
    return StageConfig(
        stage=number,
        regularization=Regularization(mean_weight=20.0, variance_weight=200.0),
        **{"steps": STEPS, "batch_size": 4, "precision": "fp32", "optimizer": ADAMW, **changes},
    )


def trained(config, device, run=None, callback=None):
    batches = RandomBatches(prompts=[prompt_of(), prompt_of(before=(320, 539))], masked=True)
    return train_stage(model_on(device), batches, config, VECTORS, callback, run)


def goes_on_to_the_same_bytes(config, folder):
    """A training that is stopped after three steps and goes on from its folder."""
    assert same(
        *whole_and_resumed(folder, lambda callback, run: trained(config, CARD, run, callback))
    )


def holds_what_is_said(config, side, train, record_property):
    """The peak of a training with latents of that side is below its estimate."""
    from attndreambooth.attndb.memory.estimate import MemoryEstimator

    said = MemoryEstimator(
        model=model_on(CARD),
        embeddings={"clip_l": tuple(VECTORS.shape)},
        prompts=(prompt_of(),),
        latent=(4, side, side),
    )(config)
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(CARD)
    torch.cuda.reset_peak_memory_stats(CARD)
    train()
    peak = torch.cuda.max_memory_allocated(CARD) - before
    record_property("said_mb", round(said.total / 1e6, 1))
    record_property("peak_mb", round(peak / 1e6, 1))
    assert peak <= said.total + said.reserve


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("changes", [{}, {"lora_rank": 2}], ids=["weights", "LoRA"])
def test_a_card_learns_what_the_cpu_learns(host, number, changes):
    there, here = (trained(stage(number, **changes), device) for device in (CARD, CPU))
    for one, other in zip(there.losses, here.losses, strict=True):
        assert dict(one.shares) == pytest.approx(dict(other.shares), rel=1e-2)
    learned = zip(there.embeddings.values(), here.embeddings.values(), strict=True)
    assert all(torch.allclose(one, other, atol=1e-3) for one, other in learned)
    changed = delta_tensors(there.delta)
    assert changed.keys() == delta_tensors(here.delta).keys()
    assert {value.device.type for value in changed.values()} <= {"cpu"}


@pytest.mark.parametrize("changes", [{}, {"precision": "bf16"}, {"low_memory": True}], ids=str)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_stopped_training_goes_on_to_the_same_bytes(host, number, changes, tmp_path):
    goes_on_to_the_same_bytes(stage(number, **{"precision": "auto", **changes}), tmp_path)


@pytest.mark.parametrize("changes", [{}, {"precision": "bf16"}, {"low_memory": True}], ids=str)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_peak_is_below_what_is_said(host, number, changes, record_property):
    config = stage(number, **{"precision": "auto", **changes})
    holds_what_is_said(config, 8, lambda: trained(config, CARD), record_property)


def test_eight_bit_states_go_on_to_the_same_bytes(host, tmp_path):
    pytest.importorskip("bitsandbytes")
    goes_on_to_the_same_bytes(stage(3, optimizer=EIGHT_BIT), tmp_path)


def full_width(precision, **changes):
    """Attention over the 4,096 pixels of a picture of 512 px, where kernels differ; stage 3."""
    config = stage(3, **{"precision": precision, "steps": 3, "batch_size": 2, **changes})
    batches = RandomBatches(2, side=64, prompts=[prompt_of()])
    return config, lambda: train_stage(model_on(CARD), batches, config, VECTORS)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_card_repeats_itself_to_the_byte_at_full_width(host, precision):
    _, train = full_width(precision)
    first, second = train(), train()
    assert first.losses == second.losses and torch.equal(first.vectors, second.vectors)
    others = delta_tensors(second.delta)
    differ = [n for n, v in delta_tensors(first.delta).items() if not torch.equal(v, others[n])]
    assert differ == []


@pytest.mark.parametrize(
    ("precision", "changes"), [("fp32", {}), ("bf16", {}), ("bf16", {"low_memory": True})], ids=str
)
def test_no_attention_matrix_is_written_out_at_full_width(
    host, precision, changes, record_property
):
    """In fp32 and bf16 a fused kernel takes over, also on GPUs without bf16 products."""
    config, train = full_width(precision, **changes)
    holds_what_is_said(config, 64, train, record_property)
