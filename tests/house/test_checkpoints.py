"""The stock loader recognises the small checkpoints, and what they make is finite and differs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attndreambooth.devkit.checkpoints import make_checkpoint

pytestmark = pytest.mark.host


def load(path):
    import comfy.sd

    with torch.inference_mode():
        return comfy.sd.load_checkpoint_guess_config(str(path))[:3]


@pytest.mark.parametrize(
    ("kind", "width", "model_type", "layers"),
    [("sd15", 768, "EPS", 7), ("sd21", 1024, "EPS", 7), ("sd21v", 1024, "V_PREDICTION", 6)],
)
def test_the_stock_loader_tells_family_and_prediction(host, kind, width, model_type, layers):
    model, clip, vae = load(make_checkpoint(kind))
    assert model.model.model_type.name == model_type
    assert model.model.model_config.unet_config["context_dim"] == width
    attn2 = [n for n, _ in model.model.diffusion_model.named_modules() if n.endswith("attn2")]
    assert len(attn2) == layers
    with torch.inference_mode():
        states: Any = [clip.encode_from_tokens(clip.tokenize(f"a {w}")) for w in ("cat", "dog")]
        cat, dog = states
        assert cat.shape == (1, 77, width)
        assert cat.isfinite().all()
        assert (cat[:, 2] - dog[:, 2]).norm() > 0.5 * cat[:, 2].norm()
        picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
        smooth = torch.nn.functional.avg_pool2d(picture.movedim(-1, 1), 16)
        smooth = torch.nn.functional.interpolate(smooth, scale_factor=16).movedim(1, -1)
        latent = vae.encode(smooth)
        assert latent.shape == (1, 4, 8, 8)
        assert (vae.decode(latent) - smooth).abs().mean() < 0.1


def test_fp16_and_fp32_files_hold_the_same_numbers(host):
    from safetensors import safe_open

    half, full = (
        safe_open(make_checkpoint("sd15", dtype=d), framework="pt")
        for d in (torch.float16, torch.float32)
    )
    assert set(half.keys()) == set(full.keys())
    for key in half.keys():
        assert half.get_tensor(key).dtype == torch.float16
        assert torch.equal(half.get_tensor(key).float(), full.get_tensor(key)), key


def test_the_same_weights_are_made_every_time(host, tmp_path):
    again = make_checkpoint("sd15", folder=tmp_path).read_bytes()
    assert again == make_checkpoint("sd15").read_bytes()


def test_parts_can_be_left_out(host, tmp_path):
    model, clip, _ = load(make_checkpoint("sd15", without=("clip",), folder=tmp_path))
    assert model is not None
    assert clip is None
    _, clip, vae = load(make_checkpoint("sd15", without=("vae",), folder=tmp_path))
    assert clip is not None
    with pytest.raises(RuntimeError, match="VAE is invalid"):
        vae.throw_exception_if_invalid()


def test_another_family_is_another_family(host):
    model, clip, _ = load(make_checkpoint("sdxl"))
    assert type(model.model).__name__ == "SDXL"
    assert clip is None
