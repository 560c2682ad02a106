"""Prompt Set and Load Image Encoder: what they give, and what they refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from support.encoders import clip_folder, dino_folder
from support.stages import refuses

from attndreambooth.attndb.evaluation.prompts import prompt_lines, spoken

PROMPTS, ENCODER = "AttnDBPromptSet", "AttnDBLoadImageEncoder"


def test_a_set_is_one_prompt_in_a_line_and_a_part_of_it_is_spread(run):
    text, count = run(PROMPTS)
    assert count == 24 == len(text.splitlines()) and text.startswith("a photo of a {}\n")
    few, count = run(PROMPTS, count=3)
    assert few.splitlines() == text.splitlines()[::8] and count == 3
    assert run(PROMPTS, prompts="complex (4)", count=9)[1] == 4


def test_own_prompts_and_those_of_a_file_are_read(run, home):
    assert run(PROMPTS, prompts="my own", text="a {}\n\n# no\nmy {} at home")[0] == (
        "a {}\nmy {} at home"
    )
    (home / "input" / "mine.txt").write_text("a {} in the snow\r\n", encoding="utf-8-sig")
    assert run(PROMPTS, prompts="text file", file="mine.txt") == ("a {} in the snow", 1)


def test_lines_that_begin_with_a_hash_are_no_prompts_in_any_node(host):
    from attndreambooth.nodes.compare_concepts import _lines
    from attndreambooth.nodes.score_images import asked_of

    text = "a dog in space\n# a dog at home\n\n  # none\n"
    assert prompt_lines(text.replace("dog", "{}")) == ("a {} in space",)
    assert _lines(text) == ["a dog in space"]
    assert asked_of(text, 2, "") == [("a dog in space", "")] * 2
    with pytest.raises(ValueError, match="prompts is empty"):
        _lines("# a dog")


def test_a_changed_file_runs_the_graph_again(host, home):
    from attndreambooth.nodes.prompt_set import PromptSet

    path = home / "input" / "changing.txt"
    path.write_text("a {}", encoding="utf-8")
    before = PromptSet.fingerprint_inputs(prompts="text file", file="changing.txt")
    path.write_text("a {} in the snow", encoding="utf-8")
    assert PromptSet.fingerprint_inputs(prompts="text file", file="changing.txt") != before
    assert PromptSet.fingerprint_inputs(prompts="my own", file="changing.txt") == ""


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prompts": "my own", "text": "a dog"}, "Prompt Set: prompt 'a dog' needs {}"),
        ({"prompts": "text file"}, "file is empty: type the name of a .txt file"),
        ({"prompts": "text file", "file": "none.txt"}, "there is no file"),
        ({"prompts": "text file", "file": "x" * 300 + ".txt"}, "there is no file"),
        ({"prompts": "text file", "file": "\ud800.txt"}, r"'\\ud800.txt' is no path"),
        ({"prompts": "text file", "file": "photo.png"}, "is no .txt file"),
        ({"prompts": "text file", "file": "../../etc/x.txt"}, "lies outside of ComfyUI's input"),
    ],
)
def test_what_is_no_list_of_prompts_is_refused(run, values, said):
    with refuses(said):
        run(PROMPTS, **values)


def test_a_file_that_is_no_text_is_refused(run, home):
    (home / "input" / "bytes.txt").write_bytes(b"\xff\xfe\x00{}")
    with refuses("is no text in UTF-8"):
        run(PROMPTS, prompts="text file", file="bytes.txt")


@pytest.fixture
def models(tmp_path, monkeypatch, host):
    import folder_paths

    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    _, extensions = folder_paths.folder_names_and_paths["clip_vision"]
    vision = tmp_path / "models" / "clip_vision"
    vision.mkdir(parents=True)
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths, "clip_vision", ([str(vision)], extensions)
    )
    return tmp_path / "models"


def test_a_folder_below_models_is_an_encoder(run, models):
    clip_folder(models / "clip_vision" / "clip-tiny")
    dino_folder(models / "dino" / "dino-tiny")
    [clip] = run(ENCODER, folder="clip-tiny")
    [dino] = run(ENCODER, folder=f'"{models / "dino" / "dino-tiny"}"')
    assert (clip.name, clip.reads_text) == ("clip-tiny", True)
    assert (dino.name, dino.reads_text) == ("dino-tiny", False)
    assert clip.texts(["a robot"]).shape == clip.images([torch.rand(9, 9, 3)]).shape == (1, 16)
    with refuses("folder is empty: type the folder .* There: clip-tiny"):
        run(ENCODER)


def test_a_folder_with_other_files_runs_the_graph_again(run, models):
    from attndreambooth.nodes.encoder import LoadImageEncoder

    folder = dino_folder(models / "clip_vision" / "replaced")
    typed = {"encoder": "folder of CLIP, DINO or DINOv2", "folder": "replaced"}
    linked = {"encoder": typed["encoder"]}
    run(ENCODER, **typed)
    before = [LoadImageEncoder.fingerprint_inputs(**given) for given in (typed, linked)]
    assert before == [LoadImageEncoder.fingerprint_inputs(**given) for given in (typed, linked)]
    with (folder / "config.json").open("a") as config:
        config.write("\n")
    after = [LoadImageEncoder.fingerprint_inputs(**given) for given in (typed, linked)]
    assert all(a != b for a, b in zip(after, before, strict=True))
    assert LoadImageEncoder.fingerprint_inputs(encoder="toy model", folder="replaced") == ""


def test_a_folders_network_is_the_hosts_to_load_and_unload(run, models):
    import comfy.model_management

    from attndreambooth.attndb.evaluation.hugging_face import load_folder_encoder

    folder = clip_folder(models / "clip_vision" / "clip-held")
    [clip] = run(ENCODER, folder="clip-held")
    picture, texts = torch.rand(40, 50, 3), ["a robot in the snow"]
    alone = load_folder_encoder(folder)
    for _ in range(2):
        assert torch.equal(clip.images([picture]), alone.images([picture]))
        assert torch.equal(clip.texts(texts), alone.texts(texts))
        held = [loaded.model for loaded in comfy.model_management.current_loaded_models]
        assert any(model is clip.patcher for model in held)
        comfy.model_management.unload_all_models()
    assert clip.key == alone.key and clip.reads_text


def test_a_clip_with_its_projection_reads_texts_beside_its_pictures(run, vision):
    clip = run("AttnDBLoadMicroModel")[1]
    torch.manual_seed(4)
    projection = clip.cond_stage_model.clip_l.transformer.text_projection.weight
    projection.copy_(torch.randn_like(projection))
    [encoder] = run(ENCODER, encoder="CLIP_VISION on the wire", clip_vision=vision(192), clip=clip)
    texts = ["a robot in the snow", "a cat"]
    theirs = [clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)[1] for text in texts]
    assert encoder.reads_text and torch.equal(encoder.texts(texts), torch.cat(theirs))


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("nowhere", "Load Image Encoder: there is no folder .*nowhere"),
        ("/etc", "lies outside of ComfyUI's models/"),
        ("x" * 300, "Load Image Encoder: there is no folder .*x"),
        ("no\ud800where", r"folder = 'no\\ud800where' is no path: type the folder"),
        ("no\0where", r"folder = 'no\\x00where' is no path: type the folder"),
        ("clip_vision", "has no config.json"),
    ],
)
def test_a_folder_that_is_none_is_refused(run, models, folder, said):
    with refuses(said):
        run(ENCODER, folder=folder)


@pytest.fixture
def vision(tmp_path, host):
    """Makes a CLIP_VISION of the host's class, of small random weights and some features."""

    def made(width=16, **changes):
        from comfy.clip_vision import ClipVisionModel

        config = {
            **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
            **{"num_attention_heads": 2, "image_size": 32, "patch_size": 8, "num_channels": 3},
            **{"hidden_act": "quick_gelu", "projection_dim": width, "layer_norm_eps": 1e-5},
            **{"model_type": "clip_vision_model", **changes},
        }
        torch.manual_seed(3)
        path = tmp_path / "vision.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        vision = ClipVisionModel(str(path))  # older hosts take no table
        vision.load_sd({k: torch.randn_like(v) * 0.1 for k, v in vision.get_sd().items()})
        return vision

    return made


def test_a_clip_vision_gives_what_clip_vision_encode_gives(run, vision):
    made = vision()
    [encoder] = run(ENCODER, encoder="CLIP_VISION on the wire", clip_vision=made)
    pictures = [torch.rand(32, 32, 3), torch.rand(50, 40, 3)]
    theirs = [made.encode_image(p[None])["image_embeds"] for p in pictures]
    assert torch.equal(encoder.images(pictures), torch.cat(theirs))
    assert not encoder.reads_text and encoder.key != ""
    with refuses("connect Load CLIP Vision to clip_vision"):
        run(ENCODER, encoder="CLIP_VISION on the wire")


def test_a_clip_vision_and_its_text_half_are_each_merged_once(run, vision, monkeypatch):
    from attndreambooth.nodes.host import image_encoders

    clip = run("AttnDBLoadMicroModel")[1]
    projection = clip.cond_stage_model.clip_l.transformer.text_projection.weight
    projection.copy_(torch.randn_like(projection))
    merged, plain = [], image_encoders.merged_weights
    monkeypatch.setattr(
        image_encoders, "merged_weights", lambda *a: merged.append(a[0]) or plain(*a)
    )
    made = vision(192)
    run(ENCODER, encoder="CLIP_VISION on the wire", clip_vision=made, clip=clip)
    assert merged == [made.patcher, clip.patcher]


def test_pictures_of_one_size_go_through_a_clip_vision_together(run, vision, monkeypatch):
    made = vision()
    [encoder] = run(ENCODER, encoder="CLIP_VISION on the wire", clip_vision=made)
    small, wide = (torch.rand(2, *size, 3) for size in ((32, 32), (40, 50)))
    pictures = [small[0], wide[0], small[1]]
    alone = torch.cat([made.encode_image(p[None])["image_embeds"] for p in pictures])
    calls, plain = [], made.encode_image
    monkeypatch.setattr(made, "encode_image", lambda x: calls.append(len(x)) or plain(x))
    torch.testing.assert_close(encoder.images(pictures), alone, rtol=0, atol=1e-5)
    assert calls == [2, 1]


def test_a_clip_of_another_width_or_without_a_projection_is_refused(run, vision):
    clip = run("AttnDBLoadMicroModel")[1]  # its projection is an identity, as of an SD checkpoint
    with refuses("texts have 192 features, pictures 16"):
        run(ENCODER, encoder="CLIP_VISION on the wire", clip_vision=vision(), clip=clip)
    with refuses("clip has no text projection"):
        run(ENCODER, encoder="CLIP_VISION on the wire", clip_vision=vision(192), clip=clip)


def test_a_clip_vision_without_a_vector_of_the_whole_picture_is_refused(run, vision):
    """SigLIP: the host gives one for each place, and its projection may be missing."""
    siglip = vision(model_type="siglip_vision_model")
    assert siglip.encode_image(torch.rand(1, 32, 32, 3))["image_embeds"].ndim == 3
    with refuses("gives a vector for each of 16 places of a picture .* connect one of CLIP or"):
        run(ENCODER, encoder="CLIP_VISION on the wire", clip_vision=siglip)


def test_a_clip_vision_whose_projection_is_not_in_its_file_is_refused(run, vision):
    made = vision()
    made.load_sd({"visual_projection.weight": torch.zeros(16, 32)})
    with refuses("clip_vision has no visual_projection.weight"):
        run(ENCODER, encoder="CLIP_VISION on the wire", clip_vision=made)
    with refuses("clip_vision has no visual_projection.weight"):
        llava = vision(projector_type="llava3")
        run(ENCODER, encoder="CLIP_VISION on the wire", clip_vision=llava)


def test_brackets_of_a_text_are_brackets_to_both_kinds_of_clip(run, vision, models):
    """Weights are taken off before: what is left in brackets is meant so."""
    clip = run("AttnDBLoadMicroModel")[1]
    projection = clip.cond_stage_model.clip_l.transformer.text_projection.weight
    projection.copy_(torch.randn_like(projection))
    [encoder] = run(ENCODER, encoder="CLIP_VISION on the wire", clip_vision=vision(192), clip=clip)
    given, plain = [], clip.encode_from_tokens
    clip.encode_from_tokens = lambda tokens, **more: given.append(tokens) or plain(tokens, **more)
    text = "a (red:1.3) dog in (the) \\(snow))"
    encoder.texts([text])
    [chunk] = given[0]["l"]
    literal = clip.tokenizer.clip_l.tokenizer(text)["input_ids"]
    assert [token for token, _ in chunk][: len(literal)] == literal
    assert {weight for _, weight in chunk} == {1.0}


def test_a_prompt_says_what_the_host_reads_without_its_weights(host):
    from comfy.sd1_clip import escape_important, token_weights, unescape_important

    draw = np.random.default_rng(3)
    for _ in range(2000):
        text = "".join(draw.choice([*"()\\: a1.{}", "(red:1.3)"], draw.integers(14)))
        read = "".join(said for said, _ in token_weights(escape_important(text), 1.0))
        assert spoken(text) == unescape_important(read), text


def test_a_clip_beside_dinov2_is_refused_though_both_have_as_many_features(run, vision):
    clip = run("AttnDBLoadMicroModel")[1]
    projection = clip.cond_stage_model.clip_l.transformer.text_projection.weight
    projection.copy_(torch.randn_like(projection))
    size = {"hidden_size": 192, "image_size": 28, "patch_size": 14, "use_swiglu_ffn": False}
    dino = vision(model_type="dinov2", **size)
    [alone] = run(ENCODER, encoder="CLIP_VISION on the wire", clip_vision=dino)
    assert alone.images([torch.rand(30, 40, 3)]).shape == (1, 192)
    with refuses("clip_vision is no CLIP .* disconnect clip"):
        run(ENCODER, encoder="CLIP_VISION on the wire", clip_vision=dino, clip=clip)
