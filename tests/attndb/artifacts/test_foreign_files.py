"""Files of other programs: read as they are meant, without running what is in them."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from attndreambooth.attndb.artifacts.concept import ConceptFileError
from attndreambooth.attndb.artifacts.foreign_files import foreign_delta, read_foreign_embedding
from attndreambooth.attndb.artifacts.weight_delta import dense

WORD = torch.randn(768, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("content", "token", "key", "count"),
    [
        ({"<sloth>": WORD}, "<sloth>", "clip_l", 1),  # the published code
        ({"<sloth>": torch.stack([WORD, WORD])}, "<sloth>", "clip_l", 2),
        ({"doll_v0": WORD}, "doll_v0", "clip_l", 1),  # the published code's own name for one
        ({"doll_v1": WORD + 1, "doll_v0": WORD}, "doll", "clip_l", 2),  # and for several
        ({"<sloth>": torch.nn.Parameter(WORD.half())}, "<sloth>", "clip_l", 1),
        ({"<sloth>": torch.ones(1024)}, "<sloth>", "clip_h", 1),
        ({"string_to_param": {"*": WORD[None]}, "name": "sloth"}, "sloth", "clip_l", 1),
        ({"string_to_param": {"*": WORD[None]}, "name": None}, "", "clip_l", 1),
    ],
)
def test_a_pickled_embedding_is_read_as_tensors(tmp_path, content, token, key, count):
    path = tmp_path / "learned_embeds.bin"
    torch.save(content, path)
    read = read_foreign_embedding(path)
    assert (read.token, read.text_key) == (token, key)
    assert read.vectors.shape[0] == count and read.vectors.dtype == torch.float32
    if key == "clip_l":
        assert torch.allclose(read.vectors[0], WORD, atol=2 * torch.finfo(torch.float16).eps * 4)


PLAIN = ("clip_l", "emb_params", "emp_params", "text_encoders_0")  # kohya, OneTrainer, cog-sdxl


@pytest.mark.parametrize(("name", "token"), [*((name, "") for name in PLAIN), ("<x>", "<x>")])
@pytest.mark.parametrize("ending", ["safetensors", "sft"])
def test_a_safetensors_embedding_is_read(tmp_path, name, token, ending):
    save_file({name: WORD[None].clone()}, tmp_path / f"e.{ending}")
    read = read_foreign_embedding(tmp_path / f"e.{ending}")
    assert read.token == token and torch.equal(read.vectors, WORD[None])


@pytest.mark.parametrize("names", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
def test_a_word_of_both_text_encoders_is_read(tmp_path, names):
    both = (torch.stack([WORD, WORD + 1]), torch.ones(2, 1280))
    save_file(dict(zip(names, both, strict=True)), tmp_path / "e.safetensors")
    read = read_foreign_embedding(tmp_path / "e.safetensors")
    assert (read.token, read.text_key, list(read.further)) == ("", "clip_l", ["clip_g"])
    assert torch.equal(read.vectors, both[0]) and torch.equal(read.further["clip_g"], both[1])


class Hostile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_code_in_a_pickle_is_not_run(tmp_path):
    path = tmp_path / "learned_embeds.bin"
    torch.save({"<x>": Hostile(tmp_path / "ran")}, path)
    with pytest.raises(ConceptFileError, match=r"learned_embeds\.bin cannot be read as tensors"):
        read_foreign_embedding(path)
    assert not (tmp_path / "ran").exists()


def test_code_in_a_pickle_is_not_run_where_another_pack_wants_it_to_be(tmp_path, monkeypatch):
    path = tmp_path / "bad.bin"
    torch.save({"<x>": Hostile(tmp_path / "ran")}, path)
    careful = torch.load  # some packs bring the habits of PyTorch before 2.6 back, for everybody
    monkeypatch.setattr(torch, "load", lambda *a, **k: careful(*a, **{**k, "weights_only": False}))
    with pytest.raises(ConceptFileError, match="code in it is never run"):
        read_foreign_embedding(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"<x>": torch.ones(5)}, "is no embedding of SD 1.5"),
        ({"<x>": torch.ones(())}, "is no embedding of SD 1.5"),
        ({"<x>": torch.ones(2, 2, 768)}, "is no embedding of SD 1.5"),
        ({"<x>": WORD * torch.nan}, "NaN or infinite"),
        ({"<x>": WORD * 0}, "zero vector"),
        ({"<x>": WORD, "<y>": WORD}, "holds 2 tensors"),
        ({"x_v0": WORD, "x_v2": WORD}, "holds 2 tensors"),
        ({"x_v0": WORD, "x_v1": WORD[:5]}, "holds 2 tensors"),
        ({"string_to_param": {"*": WORD, "+": WORD}}, "holds 2 words"),
        ({"emp_params_out": WORD}, "holds emp_params_out, an output embedding of OneTrainer"),
        ({"emp_params": WORD * 0, "emp_params_out": WORD}, "an output embedding of OneTrainer"),
        ({}, "holds 0 tensors"),
        ([WORD], "no table of tensors"),
    ],
)
def test_what_is_no_embedding_is_refused_by_name(tmp_path, content, told):
    path = tmp_path / "e.pt"
    torch.save(content, path)
    with pytest.raises(ConceptFileError, match=told) as error:
        read_foreign_embedding(path)
    assert "e.pt" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02c", b"\0" * 99])
def test_a_broken_file_is_refused_by_name(tmp_path, content):
    for name in ("e.bin", "e.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConceptFileError, match=name.replace(".", r"\.")):
            read_foreign_embedding(tmp_path / name)


WEIGHTS = {
    "lora_unet_down_0_attn2_to_k": ("a.attn2.to_k.weight", (6, 4)),
    "unet.down.0.attn2.to_k": ("a.attn2.to_k.weight", (6, 4)),
    "unet.down.0.attn2.processor.to_k": ("a.attn2.to_k.weight", (6, 4)),
    "lora_unet_conv": ("conv.weight", (6, 4, 3, 3)),
}


@pytest.mark.parametrize(
    ("up_name", "down_name", "alpha"),
    [
        (".lora_up.weight", ".lora_down.weight", 1.0),
        (".lora_up.weight", ".lora_down.weight", None),
        (".lora_B.weight", ".lora_A.weight", None),
        ("_lora.up.weight", "_lora.down.weight", None),
    ],
)
@pytest.mark.parametrize("stem", [key for key in WEIGHTS if key != "lora_unet_conv"])
def test_every_programs_lora_makes_the_change_it_says(stem, up_name, down_name, alpha):
    up, down = torch.randn(6, 2), torch.randn(2, 4)
    tensors = {f"{stem}{up_name}": up, f"{stem}{down_name}": down}
    if alpha is not None:
        tensors[f"{stem}.alpha"] = torch.tensor(alpha)
    delta, text = foreign_delta(tensors, WEIGHTS, "x")
    expected = up @ down * ((alpha or 2.0) / 2)
    assert list(delta) == ["a.attn2.to_k.weight"] and text == 0
    assert torch.allclose(dense(delta["a.attn2.to_k.weight"]), expected)


def _told(**settings) -> dict[str, str]:
    """Metadata as diffusers' save_lora_weights writes them."""
    return {"lora_adapter_metadata": json.dumps({f"unet.{k}": v for k, v in settings.items()})}


@pytest.mark.parametrize(
    ("metadata", "scale"),
    [
        (_told(r=2, lora_alpha=8), 4.0),
        (_told(r=2, lora_alpha=8, alpha_pattern={"attn2.to_k": 3}), 1.5),
        (_told(r=2, lora_alpha=8, alpha_pattern={"to_q": 3, "k": 3}), 4.0),
        (_told(r=2, lora_alpha=8, use_rslora=True), 8.0 / 2**0.5),
        ({"lora_adapter_metadata": '{"text_encoder.lora_alpha": 8}'}, 1.0),
        ({"format": "pt"}, 1.0),
    ],
)
def test_alpha_may_stand_in_the_metadata_of_the_file(metadata, scale):
    up, down = torch.randn(6, 2), torch.randn(2, 4)
    stem = "unet.down.0.attn2.to_k"
    tensors = {f"{stem}.lora.up.weight": up, f"{stem}.lora.down.weight": down}
    delta, _ = foreign_delta(tensors, WEIGHTS, "x", metadata)
    assert torch.allclose(dense(delta["a.attn2.to_k.weight"]), scale * up @ down, atol=1e-5)


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"unet.lora_alpha": "8"}', '{"unet.lora_alpha": NaN}']
)
def test_metadata_that_cannot_be_read_are_refused(text):
    with pytest.raises(ConceptFileError, match="x: its lora_adapter_metadata"):
        foreign_delta({}, WEIGHTS, "x", {"lora_adapter_metadata": text})


def test_a_convolution_and_what_belongs_to_the_text_encoder():
    up, down = torch.randn(6, 2, 1, 1), torch.randn(2, 4, 3, 3)
    tensors = {"lora_unet_conv.lora_up.weight": up, "lora_unet_conv.lora_down.weight": down}
    delta, text = foreign_delta({**tensors, "lora_te_text.alpha": torch.ones(())}, WEIGHTS, "x")
    expected = torch.einsum("or,rikl->oikl", up[:, :, 0, 0], down)
    assert torch.allclose(dense(delta["conv.weight"]), expected, atol=1e-5) and text == 1


def test_a_lora_of_the_text_encoder_alone_is_told_so():
    tensors = {
        "lora_te_text.lora_up.weight": torch.ones(6, 2),
        "lora_te_text.alpha": torch.ones(()),
    }
    with pytest.raises(
        ConceptFileError, match=r"x: all of its 2 keys are the text encoder's, .*CLIP"
    ):
        foreign_delta(tensors, WEIGHTS, "x")
    with pytest.raises(ConceptFileError, match="x holds no tensors"):
        foreign_delta({}, WEIGHTS, "x")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lora_unet_conv.hada_w1_a": torch.ones(2, 2)}, r"1 of 3 keys .*hada_w1_a"),
        ({"lora_unet_conv.dora_scale": torch.ones(6, 1, 1, 1)}, r"1 of 3 keys .*dora_scale"),
        (  # Tucker decomposition (LyCORIS)
            {
                "lora_unet_conv.lora_down.weight": torch.ones(2, 4, 1, 1),
                "lora_unet_conv.lora_mid.weight": torch.ones(2, 2, 3, 3),
            },
            r"3 of 3 keys .*stock Load LoRA",
        ),
        ({"lora_unet_conv.lora_up.weight": torch.ones(6, 3)}, "make no weight"),
        ({"lora_unet_conv.lora_up.weight": torch.ones(6, 2, 3, 3)}, "make no weight"),
        ({"lora_unet_conv.lora_up.weight": torch.ones(5, 2)}, "do not make the MODEL's"),
        ({"lora_unet_conv.lora_down.weight": torch.full((2, 4, 3, 3), torch.nan)}, "NaN"),
        ({"lora_unet_conv.alpha": torch.tensor(torch.nan)}, r"conv.*: its alpha is \[nan\]"),
        ({"lora_unet_conv.alpha": torch.ones(2)}, r"its alpha is \[1.0, 1.0\]"),
        ({"lora_unet_elsewhere.lora_up.weight": torch.ones(2, 2)}, "elsewhere"),
    ],
)
def test_what_does_not_fit_is_refused_by_key(changes, told):
    tensors = {
        "lora_unet_conv.lora_up.weight": torch.ones(6, 2),
        "lora_unet_conv.lora_down.weight": torch.ones(2, 4, 3, 3),
    }
    with pytest.raises(ConceptFileError, match=told):
        foreign_delta({**tensors, **changes}, WEIGHTS, "x")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("value", "told"),
    [
        (lambda: torch.eye(768)[:1].to_sparse(), "sparse_coo"),
        (lambda: torch.eye(768)[:1].to_sparse_csr(), "sparse_csr"),
        (lambda: torch.ones(1, 768, device="meta"), "meta"),
        (lambda: torch.nested.nested_tensor([WORD, WORD]), "nested"),
    ],
)
@pytest.mark.parametrize("table", [lambda v: {"<x>": v}, lambda v: {"string_to_param": {"*": v}}])
def test_a_tensor_of_another_kind_is_named(tmp_path, value, told, table):
    torch.save(table(value()), tmp_path / "e.pt")
    with pytest.raises(ConceptFileError, match=rf"e\.pt: .* of another kind \({told}\)"):
        read_foreign_embedding(tmp_path / "e.pt")


def test_a_few_bytes_that_tell_of_many_values_are_refused(tmp_path):
    torch.save({"<x>": torch.ones(1, 1).expand(10**9, 768)}, tmp_path / "e.pt")
    assert (tmp_path / "e.pt").stat().st_size < 5000
    with pytest.raises(ConceptFileError, match=r"e\.pt tells of 3072\.0 GB of values"):
        read_foreign_embedding(tmp_path / "e.pt")
