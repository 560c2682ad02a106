"""The tensors of a weight file: their names and shapes, and the way back."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors import safe_open
from support.concepts import concept_with as concept

from attndreambooth.attndb.artifacts import concept_files as files
from attndreambooth.attndb.artifacts.concept import ConceptFileError
from attndreambooth.attndb.artifacts.tensor_file import write_whole
from attndreambooth.attndb.artifacts.weight_delta import LowRank, cast_deltas, delta_tensors
from attndreambooth.attndb.artifacts.weight_file import (
    delta_from_file_keys,
    host_keys,
    weight_file_keys,
)

KEY = "input_blocks.1.1.transformer_blocks.0.attn2.to_k"
NORM = "input_blocks.1.1.norm"
THIN = {
    f"{KEY}.weight": (8, 6),
    "input_blocks.1.0.in_layers.2.weight": (8, 5, 3, 3),
    "input_blocks.1.1.proj_in.weight": (8, 8, 1, 1),
    "output_blocks.2.1.conv.weight": (8, 8, 3, 3),
    "out.2.weight": (2, 8, 3, 3),
}
"""Of the published SD 1.5's layers; narrow."""
XL_KEY = KEY.replace("blocks.1.", "blocks.4.")
WHOLE = {f"{NORM}.weight": (8,), f"{NORM}.bias": (8,), "out.2.bias": (2,)}


def thin(rank=2, of=THIN):
    """Low-rank changes, none of a higher rank than its weight has."""
    grain, made = torch.Generator().manual_seed(1), {}
    for name, shape in of.items():
        r, inputs = min(rank, shape[0]), torch.Size(shape[1:]).numel()
        factors = torch.randn(shape[0], r, generator=grain), torch.randn(r, inputs, generator=grain)
        made[name] = LowRank(*factors, shape)
    return made


def whole(of=WHOLE):
    grain = torch.Generator().manual_seed(2)
    return {name: torch.randn(shape, generator=grain) for name, shape in of.items()}


def saved(folder, made):
    """Its two files, and the metadata of the weights'."""
    embedding, weights = folder / "e" / "x.safetensors", folder / "w" / "x.safetensors"
    write_whole(files.concept_files(made, "x", embedding, weights))
    with safe_open(weights, "pt") as handle:
        return embedding, weights, set(handle.keys()), handle.metadata()


def same(one, other):
    one, other = delta_tensors(one), delta_tensors(other)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_low_rank_file_has_kohyas_names_and_shapes():
    tensors = weight_file_keys({**thin(), **whole()}, "SD 1.5")
    assert {key: tuple(value.shape) for key, value in tensors.items()} == {
        **{
            f"lora_unet_{name}.{part}": shape
            for name, up, down in (
                (
                    "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k",
                    *((8, 2), (2, 6)),
                ),
                ("down_blocks_0_resnets_0_conv1", (8, 2, 1, 1), (2, 5, 3, 3)),
                ("down_blocks_0_attentions_0_proj_in", (8, 2, 1, 1), (2, 8, 1, 1)),
                ("up_blocks_0_upsamplers_0_conv", (8, 2, 1, 1), (2, 8, 3, 3)),
                ("conv_out", (2, 2, 1, 1), (2, 8, 3, 3)),
            )
            for part, shape in (("lora_up.weight", up), ("lora_down.weight", down), ("alpha", ()))
        },
        "lora_unet_down_blocks_0_attentions_0_norm.diff": (8,),
        "lora_unet_down_blocks_0_attentions_0_norm.diff_b": (8,),
        "lora_unet_conv_out.diff_b": (2,),
    }
    assert {float(v) for key, v in tensors.items() if key.endswith("alpha")} == {2.0}


def test_of_sdxl_a_layer_is_called_as_in_the_checkpoint():
    name = "output_blocks.2.1.transformer_blocks.9.attn1.to_out.0"
    tensors = weight_file_keys(thin(of={f"{name}.weight": (4, 4)}), "SDXL")
    stem = "lora_unet_output_blocks_2_1_transformer_blocks_9_attn1_to_out_0"
    assert set(tensors) == {
        f"{stem}.{end}" for end in ("lora_up.weight", "lora_down.weight", "alpha")
    }


@pytest.mark.parametrize("family", ["SD 1.5", "SD 2.1-base", "SD 2.1-768", "SDXL", "SSD-1B"])
def test_every_change_comes_back_bit_by_bit(family):
    delta = {**thin(), **whole()}
    if family in ("SDXL", "SSD-1B"):  # SDXL has its attention deeper
        moved = {name.replace("blocks.1.", "blocks.4."): change for name, change in delta.items()}
        delta = {name.replace("2.1.conv", "2.2.conv"): change for name, change in moved.items()}
    for change in (delta, cast_deltas(delta, torch.float16)):
        tensors = weight_file_keys(change, family)
        assert all(key.startswith("lora_unet_") for key in tensors)
        same(delta_from_file_keys(tensors, "file"), change)


@pytest.mark.parametrize(
    ("delta", "family"),
    [
        (whole({**THIN, **WHOLE}), "SD 1.5"),
        ({**thin(), "input_blocks.3.1.proj_in.weight": torch.ones(4, 4)}, "SD 1.5"),
        (thin(), "SDXL"),
        (thin(), "attndb-micro"),
    ],
    ids=["whole weights", "another layout", "another family's layers", "another family"],
)
def test_what_has_no_such_names_keeps_the_hosts(delta, family):
    tensors = weight_file_keys(delta, family)
    assert tensors.keys() == host_keys(delta).keys()
    assert all(key.startswith("diffusion_model.") for key in tensors)
    same(delta_from_file_keys(tensors, "file"), delta)


def test_the_hosts_names_are_those_of_the_files_of_before():
    tensors = host_keys({**thin(of={f"{KEY}.weight": (8, 6)}), **whole({"out.2.bias": (2,)})})
    assert set(tensors) == {
        f"diffusion_model.{KEY}.lora_up.weight",
        f"diffusion_model.{KEY}.lora_down.weight",
        f"diffusion_model.{KEY}.alpha",
        "diffusion_model.out.2.diff_b",
    }


def test_where_the_ranks_of_attention_differ_no_alpha_is_told():
    two = f"{KEY.replace('to_k', 'to_v')}.weight"
    mixed = {**thin(2), **thin(3, of={two: (8, 6)})}
    assert not any(key.endswith(".alpha") for key in weight_file_keys(mixed, "SD 1.5"))
    alpha = weight_file_keys({**thin(3), **thin(3, of={two: (8, 6)})}, "SD 1.5")
    assert float(alpha["lora_unet_conv_out.alpha"]) == 2.0  # has no more than two outputs
    same(delta_from_file_keys(weight_file_keys(mixed, "SD 1.5"), "file"), mixed)


@pytest.mark.parametrize(
    "key",
    [
        "out.2.diff",
        "diffusion_model.out.2.lora_up.weight",
        "lora_unet_conv_out.lora_up.weight",
        "lora_unet_down_blocks_0_attentions_2_proj_in.diff",
        "lora_unet_conv_out.oft_blocks",
        "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha",
        "x",
    ],
)
def test_unknown_keys_are_refused_by_file_and_name(key):
    own = {f"{KEY}.weight": (8, 6)}
    tensors = {**weight_file_keys(thin(of=own), "SD 1.5"), key: torch.zeros(1)}
    with pytest.raises(ConceptFileError, match=rf"my\.safetensors: 1 unknown keys, e\.g\. {key}"):
        delta_from_file_keys(tensors, "my.safetensors")


def test_a_saved_lora_is_read_back_and_so_is_one_of_before(tmp_path, monkeypatch):
    made = concept({**thin(), **whole()})
    for folder in (tmp_path / "now", tmp_path / "before"):
        if folder.name == "before":
            monkeypatch.setattr(files, "file_names", lambda *_: {})
            monkeypatch.setattr(files, "weight_file_keys", lambda delta, _: host_keys(delta))
        embedding, weights, keys, _ = saved(folder, made)
        assert all(key.startswith("lora_unet_") for key in keys) == (folder.name == "now")
        assert files.read_record(weights)["format"] == (3 if folder.name == "now" else 1)
        loaded = files.load_concept(embedding, weights)
        assert loaded.digest() == made.digest()
        same(loaded.delta, made.delta)


@pytest.mark.parametrize(
    ("delta", "family", "told"),
    [
        (thin(4), "SD 1.5", ("4", "sd_v1", "False")),
        (thin(4), "SD 2.1-768", ("4", "sd_v2_v", "True")),
        (thin(4, {f"{XL_KEY}.weight": (8, 6)}), "SSD-1B", ("4", "sdxl_base_v1-0", "False")),
        (
            {**thin(4), **thin(1, {f"{KEY}.weight": (8, 6)})},
            "SD 1.5",
            ("Dynamic", "sd_v1", "False"),
        ),
    ],
)
def test_the_metadata_are_those_of_a_lora_of_kohyas_scripts(tmp_path, delta, family, told):
    *_, metadata = saved(tmp_path, concept(delta, family))
    rank, base, second = told
    assert metadata["ss_network_module"] == "networks.lora"
    assert metadata["ss_network_dim"] == metadata["ss_network_alpha"] == rank
    assert (metadata["ss_base_model_version"], metadata["ss_v2"]) == (base, second)
    has_kernel = any(change.shape[2:] == (3, 3) for change in delta.values())
    args = json.loads(metadata.get("ss_network_args", "{}"))
    assert args == ({"conv_dim": rank, "conv_alpha": rank} if has_kernel else {})


def test_of_whole_weights_no_such_metadata_are_written(tmp_path):
    *_, keys, metadata = saved(tmp_path, concept(whole()))
    assert all(key.startswith("diffusion_model.") for key in keys)
    assert not any(key.startswith("ss_") for key in metadata)


def test_the_embedding_beside_it_is_the_same(tmp_path):
    made = concept(thin())
    embedding, *_ = saved(tmp_path, made)
    plain, _, *_ = saved(tmp_path / "plain", dataclasses.replace(made, delta=whole()))
    with safe_open(embedding, "pt") as one, safe_open(plain, "pt") as other:
        assert set(one.keys()) == set(other.keys()) == {"clip_l"}
        assert torch.equal(one.get_tensor("clip_l"), other.get_tensor("clip_l"))
        trigger = "modelspec.trigger_phrase"
        assert one.metadata()[trigger] == other.metadata()[trigger] == "<x> dog"
        assert not any(key.startswith("ss_") for key in one.metadata())
