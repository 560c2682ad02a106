"""Saved files as others see them: the host's asset scanner, its preview route, its LoRA loader."""

from __future__ import annotations

import importlib
import io
import json

import pytest
import safetensors.torch
import torch
from PIL import Image
from safetensors import safe_open
from support.stages import refuses

from attndreambooth.attndb.artifacts.concept import TrainedConcept
from attndreambooth.attndb.artifacts.weight_delta import LowRank


@pytest.fixture
def paths(home):
    """Embedding and weight file of a name."""
    return lambda name: [home / kind / f"{name}.safetensors" for kind in ("embeddings", "loras")]


def metadata(path):
    with safe_open(str(path), "pt") as handle:
        return handle.metadata()


def test_the_hosts_asset_scanner_reads_base_words_and_picture(run, trained, paths):
    try:
        scanner = importlib.import_module("app.assets.services.metadata_extract")
    except ImportError:
        pytest.skip("this host has no asset scanner")
    run("AttnDBSaveConcept", concept=trained, name="managed", metadata="for managers")
    run("AttnDBSaveConcept", concept=trained, name="unmanaged")
    for path in paths("managed"):
        found = scanner.extract_file_metadata(str(path))
        assert found.base_model == "sd_v1"
        assert found.trained_words == ["<astro> person"]
        assert found.has_preview_images
    for path in paths("unmanaged"):
        assert scanner.extract_file_metadata(str(path)).trained_words is None


def test_managers_find_a_picture_beside_each_file_and_in_it(run, trained, paths):
    run("AttnDBSaveConcept", concept=trained, name="pictured", metadata="for managers")
    manager = importlib.import_module("app.model_manager").ModelFileManager()
    for path in paths("pictured"):
        beside = path.with_name("pictured.preview.png")
        assert Image.open(beside).format == "PNG"
        previews = manager.get_model_previews(str(path))
        assert str(beside) in map(str, previews)
        [inside] = [preview for preview in previews if isinstance(preview, io.BytesIO)]
        assert Image.open(inside).size == Image.open(beside).size
        assert metadata(path)["modelspec.prediction_type"] == "epsilon"


@pytest.mark.parametrize("alone", [True, False])
def test_the_page_says_the_words_that_load_concept_gives(run, trained, alone):
    """A word that was trained without its category is drawn without it."""
    from attndreambooth.nodes.host.page.pictures import describe_concepts

    stage = {"method": "textual_inversion", "words": {"with_category": not alone}}
    name = f"words-{alone}"
    run("AttnDBSaveConcept", concept=trained.with_record({"stages": [stage]}), name=name)
    [told] = [found["trigger"] for found in describe_concepts() if found["name"] == name]
    assert told == run("AttnDBLoadConcept", name=name)[1]
    assert (trained.category in told) != alone


def test_a_picture_that_somebody_put_there_stays(run, trained, home):
    mine = home / "loras" / "mine.preview.png"
    mine.write_bytes(b"mine")
    run("AttnDBSaveConcept", concept=trained, name="mine", metadata="for managers")
    assert mine.read_bytes() == b"mine"


def test_a_name_that_differs_only_in_case_is_taken(run, trained, paths, home):
    there = home / "loras" / "Sloth.safetensors"
    there.write_bytes(b"somebody's own")
    run("AttnDBSaveConcept", concept=trained, name="sloth")
    assert [path.is_file() for path in paths("sloth")] == [False, False]
    assert all(path.is_file() for path in paths("sloth-2"))
    assert there.read_bytes() == b"somebody's own"
    there.unlink()


def test_no_photo_of_the_subject_goes_into_the_files_if_that_is_asked(run, trained, paths):
    run("AttnDBSaveConcept", concept=trained, name="private", metadata="no photos")
    for path in paths("private"):
        text = json.dumps(metadata(path))
        assert "thumbnail" not in text and "image/jpeg" not in text
        assert not any(photo["name"] in text for photo in trained.record["photos"])
        assert not path.with_name("private.preview.png").exists()
    assert run("AttnDBLoadConcept", name="private")[0].digest() == trained.digest()


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)],
)
def test_the_precision_of_a_weight_file_is_chosen(run, trained, paths, precision, dtype):
    name = f"in-{precision}"
    run("AttnDBSaveConcept", concept=trained, name=name, precision=precision)
    embedding, weights = map(safetensors.torch.load_file, paths(name))
    assert {value.dtype for value in weights.values()} == {dtype}
    assert embedding["clip_l"].dtype == torch.float32
    loaded = run("AttnDBLoadConcept", name=name)[0]
    for key, value in trained.delta.items():
        assert torch.equal(loaded.delta[key], value.to(dtype))


def test_another_precision_is_another_file_and_the_first_one_stays(run, trained, paths):
    assert run("AttnDBSaveConcept", concept=trained, name="sizes")[0] == "sizes"
    before = [path.read_bytes() for path in paths("sizes")]
    other = "bf16"
    saved = run("AttnDBSaveConcept", concept=trained, name="sizes", precision=other)[0]
    assert saved == "sizes-2"
    assert [path.read_bytes() for path in paths("sizes")] == before
    again = run("AttnDBSaveConcept", concept=trained, name="sizes", precision=other)[0]
    assert again == "sizes-2"


def test_what_stage_2_trains_of_sd21_is_101_mb_in_half_precision(host):
    """The weight file of a real SD 2.1, counted on the meta device."""
    import comfy.supported_models
    import torch

    from attndreambooth.attndb.methods.trained_weights import trained_parameters

    config = {
        **{"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320},
        **{"num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4], "num_head_channels": 64},
        **{"use_spatial_transformer": True, "use_linear_in_transformer": True},
        **{"transformer_depth": [1] * 6 + [0] * 2, "transformer_depth_middle": 1},
        **{"transformer_depth_output": [1] * 9 + [0] * 3, "context_dim": 1024},
    }
    family = comfy.supported_models.SD20(config)
    family.set_inference_dtype(torch.float16, None)
    unet = family.get_model({}, "", device=torch.device("meta")).diffusion_model
    assert sum(p.numel() for p in unet.parameters()) == 865_910_724  # as published
    trained = trained_parameters(unet, frozenset({"cross-attention"}))
    assert trained and all(".attn2." in name for name in trained)
    assert 100e6 < 2 * sum(weight.numel() for weight in trained.values()) < 101e6


def test_a_precision_that_cannot_hold_the_values_is_refused(run, home):
    """The file could be written, and never be loaded again."""
    made = TrainedConcept(
        placeholder="<x>",
        category="dog",
        text_key="clip_l",
        vectors=torch.ones(1, 8),
        delta={"out.2.weight": LowRank(torch.full((3, 1), 1e5), torch.full((1, 4), 1e-7), (3, 4))},
        base_family="SD 1.5",
    )
    with refuses(r"Save Concept: precision = fp16: out\.2\.weight:up .* choose fp32 or bf16"):
        run("AttnDBSaveConcept", concept=made, name="wide", precision="fp16")
    assert not (home / "embeddings" / "wide.safetensors").exists()
    run("AttnDBSaveConcept", concept=made, name="wide", precision="bf16")
    run("AttnDBLoadConcept", name="wide")
