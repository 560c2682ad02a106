"""Encoders from folders: the library's own pipeline is the reference; no encoder, no vector."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.encoders import CLIP_PREPROCESSING, clip_folder, dino_folder, dinov2_folder

from attndreambooth.attndb.evaluation.encoder import Features, FeatureStore
from attndreambooth.attndb.evaluation.hugging_face import load_folder_encoder
from attndreambooth.attndb.evaluation.preprocessing import read_preprocessing

CLASSIFIER = '{"model_type": "vit", "architectures": ["ViTForImageClassification"]}'
TEXTS = ["a photo of a dog in the snow", "dog", "a red ball, on grass"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("encoders")
    return {
        "clip": clip_folder(base / "clip-tiny"),
        "dinov2": dinov2_folder(base / "dinov2-tiny"),
        "dino": dino_folder(base / "dino-tiny"),
    }


@pytest.fixture
def pictures():
    """8 bit values, so that the library's processors see the very same pixels."""
    generator = torch.Generator().manual_seed(5)
    sizes = [(32, 32), (64, 48), (40, 90), (200, 200)]
    return [torch.randint(0, 256, (*size, 3), generator=generator).float() / 255 for size in sizes]


def pil(picture):
    return Image.fromarray((picture.numpy() * 255).round().astype(np.uint8))


def unit(vectors):
    return vectors / vectors.norm(dim=-1, keepdim=True)


def processor(kind):
    import transformers

    name = {"clip": "CLIPImageProcessor", "dinov2": "BitImageProcessor"}.get(kind, "ViT")
    name = "ViTImageProcessor" if name == "ViT" else name
    return getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)


@pytest.mark.parametrize("kind", ["clip", "dinov2", "dino"])
def test_vectors_are_those_of_the_librarys_own_pipeline(folders, pictures, kind):
    from transformers import AutoModel

    model = AutoModel.from_pretrained(str(folders[kind])).eval()
    made = processor(kind).from_pretrained(str(folders[kind]))
    with torch.no_grad():
        expected = []
        for picture in pictures:
            pixels = made(images=pil(picture), return_tensors="pt")["pixel_values"]
            if kind == "clip":
                found = model.get_image_features(pixel_values=pixels)
                expected.append(getattr(found, "pooler_output", found)[0])
            else:
                expected.append(model(pixel_values=pixels).last_hidden_state[0, 0])
    ours = Features(load_folder_encoder(folders[kind]), FeatureStore()).pictures(pictures)
    assert torch.allclose(ours, unit(torch.stack(expected)), atol=1e-5)
    assert not torch.allclose(ours[0], ours[1], atol=1e-3)


def test_texts_are_those_of_the_librarys_own_clip(folders):
    from transformers import CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(str(folders["clip"])).eval()
    tokenizer = CLIPTokenizer.from_pretrained(str(folders["clip"]))
    expected = []
    with torch.no_grad():
        for text in TEXTS:  # one by one: padding must not change them
            found = model.get_text_features(**tokenizer([text], return_tensors="pt"))
            expected.append(getattr(found, "pooler_output", found)[0])
    ours = Features(load_folder_encoder(folders["clip"]), FeatureStore()).texts(TEXTS)
    assert torch.allclose(ours, unit(torch.stack(expected)), atol=1e-5)


def test_a_text_that_is_too_long_is_cut(folders):
    encoder = load_folder_encoder(folders["clip"])
    assert encoder.texts(["word " * 200]).shape == (1, 16)


def test_dino_reads_no_text(folders):
    encoder = load_folder_encoder(folders["dinov2"])
    assert not encoder.reads_text
    with pytest.raises(ValueError, match="dinov2-tiny reads no text: use CLIP"):
        Features(encoder, FeatureStore()).texts(["a dog"])


def test_another_network_has_another_key_and_the_same_one_the_same(folders):
    keys = {kind: load_folder_encoder(folder).key for kind, folder in folders.items()}
    assert len(set(keys.values())) == 3
    assert load_folder_encoder(folders["clip"]).key == keys["clip"]


def test_values_of_older_and_newer_files_are_read(tmp_path):
    def preprocessing(name, values):
        (tmp_path / name).write_text(json.dumps(values), encoding="utf-8")
        found = read_preprocessing(tmp_path)
        (tmp_path / name).unlink()
        return found

    old = preprocessing(
        "preprocessor_config.json",
        {
            **CLIP_PREPROCESSING,
            "size": 32,
            "crop_size": 32,
        },
    )
    new = preprocessing("processor_config.json", {"image_processor": CLIP_PREPROCESSING})
    assert old == new
    vit = {"size": 24, "feature_extractor_type": "ViTFeatureExtractor", "do_center_crop": False}
    plain = {k: v for k, v in CLIP_PREPROCESSING.items() if k != "image_processor_type"}
    square = preprocessing("preprocessor_config.json", {**plain, **vit})
    assert square(torch.rand(50, 20, 3)).shape == (3, 24, 24)


def changed(folder, tmp_path, **values):
    """A copy of a folder whose preprocessing has other values; None: has none."""
    given = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    kept = {k: v for k, v in {**given, **values}.items() if v is not None}
    return broken(folder, tmp_path, **{"preprocessor_config.json": json.dumps(kept)})


def test_a_folder_that_cuts_nothing_takes_pictures_of_several_shapes(folders, pictures, tmp_path):
    made = changed(folders["dinov2"], tmp_path, do_center_crop=False, size={"shortest_edge": 28})
    encoder = load_folder_encoder(made)
    alone = torch.cat([encoder.images([picture]) for picture in pictures])
    torch.testing.assert_close(encoder.images(pictures), alone, rtol=0, atol=1e-5)


def test_values_that_a_file_leaves_out_are_the_librarys_or_refused(folders, pictures, tmp_path):
    made = changed(folders["dino"], tmp_path, resample=None)
    theirs = processor("dino").from_pretrained(str(made))
    for picture in pictures:
        expected = theirs(images=pil(picture), return_tensors="pt")["pixel_values"][0]
        assert torch.allclose(read_preprocessing(made)(picture), expected, atol=1e-5)
    (tmp_path / "more").mkdir()
    with pytest.raises(ValueError, match="it says no size that pictures are resized to"):
        read_preprocessing(changed(folders["clip"], tmp_path / "more", size=None))


def test_another_tokenizer_has_another_key(folders, tmp_path):
    made = broken(folders["clip"], tmp_path, **{"tokenizer_config.json": '{"bos_token": "a</w>"}'})
    plain, other = load_folder_encoder(folders["clip"]), load_folder_encoder(made)
    assert not torch.equal(plain.texts(["a dog"]), other.texts(["a dog"]))
    assert plain.key != other.key


def broken(folder, tmp_path, **changes):
    """A copy of a folder with files changed: text to write, or None to leave out."""
    made = tmp_path / "broken"
    made.mkdir()
    for path in folder.iterdir():
        if path.name not in changes:
            (made / path.name).write_bytes(path.read_bytes())
    for name, text in changes.items():
        if text is not None:
            (made / name).write_text(text, encoding="utf-8")
    return made


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("clip", {"config.json": None}, "is no CLIP, DINO or DINOv2 .* it has no config.json"),
        ("clip", {"config.json": '{"model_type": "bert"}'}, "its config.json says .*'bert'"),
        ("clip", {"config.json": "[1]"}, "is no table of settings"),
        ("clip", {"config.json": "{"}, "config.json cannot be read"),
        ("clip", {"config.json": "[" * 100_000}, "config.json cannot be read"),
        ("clip", {"preprocessor_config.json": "[" * 100_000}, "cannot be used"),
        ("clip", {"model.safetensors": None}, "holds no .safetensors file"),
        ("clip", {"model.safetensors": "no weights"}, "weights cannot be loaded"),
        ("clip", {"preprocessor_config.json": None}, "lacks preprocessor_config.json"),
        ("clip", {"preprocessor_config.json": '{"size": "x"}'}, "cannot be used"),
        ("clip", {"vocab.json": None, "merges.txt": None}, "lacks CLIP's tokenizer"),
        (
            "dino",
            {"config.json": CLASSIFIER},
            "is no CLIP, DINO or DINOv2",
        ),
    ],
)
def test_a_folder_that_is_no_encoder_is_refused_with_the_cause(
    folders, tmp_path, kind, changes, said
):
    with pytest.raises(ValueError, match=said):
        load_folder_encoder(broken(folders[kind], tmp_path, **changes))


def test_weights_of_another_model_are_refused(folders, tmp_path):
    made = broken(folders["dinov2"], tmp_path, **{"model.safetensors": None})
    weights = (folders["dino"] / "model.safetensors").read_bytes()
    (made / "model.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match="its weights"):
        load_folder_encoder(made)


def test_a_vit_with_a_pooler_is_no_dino(tmp_path):
    with pytest.raises(ValueError, match="a ViT with a pooler, which DINO has not"):
        load_folder_encoder(dino_folder(tmp_path / "vit", pooler=True))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        load_folder_encoder(tmp_path / "nowhere")
