"""Import Concept on SDXL: a word of both text encoders, and a LoRA, by other programs' names."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from support.kohya import kohya_lora
from support.stages import Wires, draw, encode, refuses, small

PROMPT = "a photo of a {} person"


@pytest.fixture(scope="module")
def sdxl(home) -> Wires:
    """A small SDXL."""
    return small("sdxl")


@pytest.fixture(scope="module")
def widths(sdxl) -> dict[str, int]:
    from attndreambooth.nodes.host.model.placeholders import embedding_widths

    return embedding_widths(sdxl.clip)


def word(widths: dict[str, int], count: int = 2) -> dict[str, torch.Tensor]:
    """Rows for each encoder, as kohya sd-scripts saves a word of SDXL."""
    grain = torch.Generator().manual_seed(1)
    return {
        name: 0.3 * torch.randn(count, width, generator=grain) for name, width in widths.items()
    }


@pytest.fixture
def files(sdxl, widths, home):
    """The word, and a kohya LoRA of every to_k in attn2, with a key of a text encoder."""
    import folder_paths

    save_file(word(widths), home / "embeddings" / "sdxl-word.safetensors")
    tensors = kohya_lora(sdxl.model, "lora_unet_input_blocks")
    tensors["lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha"] = torch.tensor(2.0)
    save_file(tensors, home / "loras" / "sdxl-kohya.safetensors")
    folder_paths.filename_list_cache.clear()


def test_it_draws_what_the_stock_loaders_draw_and_comes_back_from_its_file(
    sdxl, run, files, widths
):
    import nodes

    wires = {"model": sdxl.model, "clip": sdxl.clip}
    concept, _ = run(
        "AttnDBImportConcept",
        model=sdxl.model,
        embedding="sdxl-word.safetensors",
        lora="sdxl-kohya.safetensors",
        category="person",
        placeholder="<astro>",
    )
    assert {name: value.shape for name, value in concept.embeddings.items()} == {
        name: (2, width) for name, width in widths.items()
    }
    model, clip, _ = run("AttnDBApplyConcept", **wires, concept=concept)
    theirs = PROMPT.format("embedding:sdxl-word")
    assert torch.equal(encode(clip, PROMPT.format("<astro>")), encode(sdxl.clip, theirs))
    ours = draw(model, clip, PROMPT.format("<astro>"))
    lora = "sdxl-kohya.safetensors"
    stock, _ = nodes.LoraLoader().load_lora(sdxl.model, sdxl.clip, lora, 1.0, 0.0)
    drawn, base = draw(stock, sdxl.clip, theirs), draw(sdxl.model, sdxl.clip, theirs)
    assert (ours - drawn).abs().max() < 1e-2 * (base - drawn).abs().max()
    run("AttnDBSaveConcept", concept=concept, name="imported-sdxl")
    assert run("AttnDBLoadConcept", name="imported-sdxl")[0].digest() == concept.digest()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: {"clip_l": rows["clip_l"]}, r"clip_l, and this MODEL is SDXL|no embedding"),
        (lambda rows: {**rows, "clip_g": rows["clip_g"][:1]}, "2 vectors for clip_l and 1 for"),
        (lambda rows: {**rows, "clip_g": rows["clip_g"][:, :-8]}, "reads text of width"),
        (lambda rows: {**rows, "clip_g": rows["clip_g"] * torch.nan}, "clip_g|finite|NaN"),
    ],
    ids=["one encoder", "other counts", "another width", "NaN"],
)
def test_a_word_that_is_not_for_both_encoders_is_refused(sdxl, run, home, widths, change, told):
    import folder_paths

    broken = {name: rows.contiguous() for name, rows in change(word(widths)).items()}
    save_file(broken, home / "embeddings" / "broken.safetensors")
    folder_paths.filename_list_cache.clear()
    with refuses(told):
        run(
            "AttnDBImportConcept",
            **{"model": sdxl.model, "embedding": "broken.safetensors", "category": "person"},
        )


def test_a_word_of_sdxl_is_refused_by_another_family(sd15, run, files):
    with refuses(r"for clip_l and clip_g, and this MODEL is SD 1\.5"):
        run(
            "AttnDBImportConcept",
            **{"model": sd15.model, "embedding": "sdxl-word.safetensors", "category": "person"},
        )
