"""LoRAs in front of a training that a file asks for: the same model as behind the stock node."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from support.kohya import kohya_lora

from attndreambooth.attndb.jobs.job import LoRAChoice, ModelChoice
from attndreambooth.devkit.checkpoints import make_checkpoint

TEXT = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"


@pytest.fixture(scope="module")
def model(home):
    """A checkpoint's path, and LoRAs in models/loras: one of U-Net and text encoder, one of the
    U-Net alone, and one of another family."""
    path = make_checkpoint("sd15")
    with torch.inference_mode():
        patcher, clip, _ = loaded(str(path))
        unet = kohya_lora(patcher, "lora_unet_down")
        name = "clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight"
        width = dict(clip.cond_stage_model.named_parameters())[name].shape[1]
    text = {f"{TEXT}.lora_up.weight": torch.ones(width, 1), f"{TEXT}.alpha": torch.tensor(1.0)}
    text[f"{TEXT}.lora_down.weight"] = 0.1 * torch.ones(1, width)
    save_file({**unet, **text}, home / "loras" / "both.safetensors")
    save_file(kohya_lora(patcher, "lora_unet_up"), home / "loras" / "up.safetensors")
    save_file(
        {"lora_unet_other.lora_up.weight": torch.ones(2, 2)}, home / "loras" / "no.safetensors"
    )
    return str(path)


@pytest.fixture(scope="module")
def plain(model):
    """Its wires without a LoRA: only read, and cloned by what adds one."""
    with torch.inference_mode():
        return loaded(model)


@pytest.fixture(scope="module")
def plain_digests(plain):
    with torch.inference_mode():
        return digests(plain)


def loaded(path, *loras):
    from attndreambooth.headless.wires import Models

    return Models().wires(ModelChoice(checkpoint=path, loras=loras))


def digests(wires):
    from attndreambooth.nodes.host.model.digests import text_digest, unet_digest

    return unet_digest(wires[0]), text_digest(wires[1])


def lora(name, **strengths):
    return LoRAChoice(name=f"{name}.safetensors", **strengths)


def test_the_wires_are_those_behind_the_stock_nodes(model, plain, plain_digests):
    import nodes

    unet, clip = plain[:2]
    for name, of_unet, of_clip in (("both", 0.75, 0.75), ("up", -0.5, 0.0)):
        unet, clip = nodes.LoraLoader().load_lora(
            unet, clip, f"{name}.safetensors", of_unet, of_clip
        )
    asked = lora("both", strength=0.75), lora("up", strength=-0.5, clip_strength=0.0)
    found = digests(loaded(model, *asked))
    assert found == digests((unet, clip))
    assert not set(found) & set(plain_digests)
    assert digests(loaded(model, *reversed(asked)))[1] == found[1]


def test_a_clip_strength_of_its_own_and_none_at_all(model, plain_digests):
    assert digests(loaded(model, lora("both", clip_strength=0.0)))[1] == plain_digests[1]
    assert digests(loaded(model, lora("both", strength=0.0))) == plain_digests


def test_another_list_is_loaded_anew_and_the_same_one_is_kept(model):
    from attndreambooth.headless.wires import Models

    models, choice = Models(), ModelChoice(checkpoint=model, loras=(lora("up", line=3),))
    first = models.wires(choice)
    assert models.wires(ModelChoice(checkpoint=model, loras=(lora("up", line=9),))) is first
    assert models.wires(ModelChoice(checkpoint=model)) is not first


def test_one_for_another_model_is_refused_by_name(model):
    with pytest.raises(ValueError, match=r"LoRA 'no\.safetensors' changes nothing of this model"):
        loaded(model, lora("no"))


def test_those_that_are_not_there_are_named_at_once_with_their_lines(model, home):
    from attndreambooth.headless.wires import missing_models

    asked = LoRAChoice(name="bth.safetensors", line=4), lora("up", line=5), lora("x/y", line=6)
    found = missing_models(
        ModelChoice(checkpoint=model, vae="none.safetensors", loras=asked, line=2)
    )
    assert [problem.line for problem in found] == [2, 4, 6]
    assert "LoRA 'bth.safetensors' is not in models/loras: did you mean" in found[1].text
    by_path = LoRAChoice(name=str(home / "loras" / "up.safetensors"), line=7)
    [problem] = missing_models(ModelChoice(checkpoint=model, loras=(by_path,), line=2))
    assert problem.line == 7 and "is not in models/loras" in problem.text  # nor does Load LoRA
