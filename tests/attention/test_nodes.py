"""The nodes: what a user links and reads."""

from __future__ import annotations

import pytest
import torch

from attndreambooth.devkit.captured import NEGATIVE, TEXT, capture
from attndreambooth.devkit.small_models import WIDTH

pytestmark = pytest.mark.host

DEFAULTS = {
    "words": "",
    "word": "",
    "normalization": "per word",
    "layers": "down and up",
    "start_percent": 0.0,
    "end_percent": 1.0,
    "opacity": 0.65,
    "other_word": "",
    "mask_output": "soft",
    "cell_size": 64,
    "columns": 0,
    "head": -1,
    "layer_list": "",
}


def maps(handle, samples, **options):
    from attndreambooth.nodes.attention import AttentionMaps

    return AttentionMaps.execute(
        capture=handle, samples={"samples": samples}, **{**DEFAULTS, **options}
    ).args


@pytest.fixture(scope="module")
def drawn(sd15):
    with torch.inference_mode():
        model, handle, positive = capture(sd15, slices=4, heads=True)
        return handle, sd15.draw(model, positive, sd15.encode(NEGATIVE), batch=2, steps=2)


def test_every_input_and_output_has_a_tooltip_and_ids_have_the_prefix(host):
    from attndreambooth.nodes.attention import NODES

    for node in NODES:
        schema = node.GET_SCHEMA()
        assert schema.node_id.startswith("AttnDB")
        assert schema.category.startswith("AttnDreamBooth/")
        for socket in [*schema.inputs, *schema.outputs]:
            assert socket.tooltip, (schema.node_id, socket.id)


def test_a_grid_a_mask_and_numbers_come_out(drawn):
    handle, samples = drawn
    picture, mask, figure, mass, entropy, iou, similarity, report = maps(
        handle, samples, image=torch.rand(2, 64, 96, 3), word="cats", other_word="guitarist"
    )
    assert picture.shape[0] == 2 and picture.shape[3] == 3
    assert 0 <= picture.min() and picture.max() <= 1
    assert mask.shape == (2, 64, 96)
    assert 0 < mass < 1 and 0 < entropy < 1 and iou == 0 and 0 < similarity < 1
    assert mass == pytest.approx(float(figure.maps.of("cats").mean()))
    for word in handle.words:
        assert word.label in report


def test_the_mask_overlaps_wholly_with_itself(drawn):
    handle, samples = drawn
    image = torch.rand(2, 64, 96, 3)
    mask = maps(handle, samples, image=image, word="cats", mask_output="otsu")[1]
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert maps(handle, samples, image=image, word="cats", mask=mask)[5] > 0.98


def test_a_mask_of_another_size_is_resized_and_said(drawn):
    handle, samples = drawn
    *_, report = maps(handle, samples, mask=torch.ones(1, 20, 30))
    assert "The mask of 30 x 20 was resized to 96 x 64." in report


def test_a_picture_with_alpha_or_of_grey_and_a_bare_mask_are_taken(drawn):
    handle, samples = drawn
    image, mask = torch.rand(2, 64, 96, 4), torch.zeros(64, 96)
    mask[:, :48] = 1
    shown = maps(handle, samples, image=image, mask=mask)
    told = maps(handle, samples, image=image[..., :3], mask=mask[None])
    assert torch.equal(shown[0], told[0]) and shown[3:] == told[3:]
    grey = image[..., :1]
    one, three = (maps(handle, samples, image=i)[0] for i in (grey, grey.expand(-1, -1, -1, 3)))
    assert torch.equal(one, three)


def test_words_are_shown_in_the_asked_order(drawn):
    handle, samples = drawn
    figure = maps(handle, samples, words="cats, guitarist")[2]
    assert [word.label for word in figure.maps.words] == ["cats", "guitarist"]


def test_the_measured_words_need_not_be_shown(drawn):
    handle, samples = drawn
    asked = {"word": "cats", "other_word": "guitarist"}
    _, mask, shown, *numbers, _ = maps(handle, samples, words="photo", **asked)
    _, every, _, *wanted, _ = maps(handle, samples, **asked)
    assert [word.label for word in shown.maps.words] == ["photo"]
    assert torch.equal(mask, every) and numbers == wanted and numbers[-1] > 0


def test_one_head_can_be_shown(drawn):
    handle, samples = drawn
    fine = {"layers": "finest"}
    heads = [maps(handle, samples, head=head, **fine)[2].maps.maps for head in range(8)]
    assert not torch.allclose(heads[0], heads[1])
    mean = maps(handle, samples, **fine)[2].maps.maps
    torch.testing.assert_close(torch.stack(heads).mean(dim=0), mean)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"word": "dog"},
            "there is no map of 'dog'; there are maps of: a#1, photo",
        ),
        ({"words": "dog"}, "no map of 'dog'"),
        ({"start_percent": 0.25, "end_percent": 0.3}, "holds no sampling step; steps lie in: "),
        ({"start_percent": 0.5, "end_percent": 0.5}, "the window must lie in 0..1"),
        ({"layers": "listed", "layer_list": "7x7"}, "'7x7' fits no recorded layer"),
        ({"head": 40}, "none of the chosen layers has this head"),
        ({"image": torch.rand(3, 64, 96, 3)}, r"image holds 3 picture\(s\) and samples 2"),
    ],
)
def test_bad_input_is_refused_by_the_nodes_name(drawn, options, text):
    handle, samples = drawn
    with pytest.raises(RuntimeError, match=text) as error:
        maps(handle, samples, **options)
    assert str(error.value).startswith("Attention Maps: ")


def test_a_word_that_the_prompt_lacks_is_refused_with_those_it_has(sd15):
    with pytest.raises(
        RuntimeError,
        match="Capture Attention: the word 'dog' is not in the prompt; its words are: a#1, photo, "
        "of, a#2, guitarist, and, two, cats",
    ):
        capture(sd15, TEXT, "cats, dog")


def test_a_missing_clip_is_refused_with_the_remedy(sd15):
    from attndreambooth.nodes.attention import CaptureAttention

    with pytest.raises(RuntimeError, match="Capture Attention: CLIP is missing"):
        CaptureAttention.execute(sd15.model, None, TEXT, "", 1, False)


def test_pictures_are_compared_side_by_side(drawn, sd15):
    from attndreambooth.nodes.compare import CompareAttention

    handle, samples = drawn
    image = torch.rand(2, 64, 96, 3)
    figure = maps(handle, samples, image=image)[2]
    (sheet,) = CompareAttention.execute(
        labels="one\ntwo", words="cats", normalization="shared", opacity=0.65, cell_size=64,
        maps_1=figure, maps_2=figure, maps_3=None,
    ).args  # fmt: skip
    assert sheet.shape[0] == 2
    assert sheet.shape[2] > 2 * 74


def test_a_column_keeps_its_name_where_one_before_it_is_left_out(drawn):
    from attndreambooth.nodes.compare import CompareAttention

    handle, samples = drawn
    figure = maps(handle, samples)[2]
    fixed = {"words": "cats", "normalization": "shared", "opacity": 0.65, "cell_size": 256}

    def sheet(labels, *numbers):
        given = {f"maps_{number}": figure for number in numbers}
        return CompareAttention.execute(labels=labels, **fixed, **given).args[0]

    stages = "before\n1\n2\n3"
    assert torch.equal(sheet(stages, 1, 4), sheet("before\n3", 1, 2))
    assert torch.equal(sheet("before\n3", 1, 4), sheet("before\n3", 1, 2))
    assert torch.equal(sheet("before\n1\n2", 1, 4), sheet("before\n4", 1, 2))
    assert not torch.equal(sheet(stages, 1, 4), sheet("before\n1", 1, 2))


def test_sub_tokens_placeholders_and_embeddings_of_the_real_tokeniser(sd15, tmp_path):
    from safetensors.torch import save_file

    from attndreambooth.nodes.host.capture.prompt import prompt_words
    from attndreambooth.nodes.host.model.placeholders import with_vectors

    save_file({"clip_l": torch.randn(3, WIDTH["sd15"])}, str(tmp_path / "odd.safetensors"))
    clip = with_vectors(sd15.clip, "<my-sloth>", torch.randn(2, WIDTH["sd15"]))
    for holder in (clip.tokenizer.clip_l, sd15.clip.tokenizer.clip_l):
        holder.embedding_directory = [str(tmp_path)]
    text = "A (Kinkajou:1.3) beside <my-sloth> sloth, embedding:odd, na\u00efve caf\u00e9"
    words = {word.label: word.columns for word in prompt_words(clip, text).all()}
    assert list(words) == [
        "a", "kinkajou", "beside", "<my-sloth>", "sloth", "odd", "na\u00efve", "caf\u00e9",
    ]  # fmt: skip
    sizes = [len(columns) for columns in words.values()]
    assert sizes[3] == 2 and sizes[5] == 3 and sizes[1] > 1
    tokens = clip.tokenize(text)["l"][0]
    for label in ("<my-sloth>", "odd"):
        assert all(torch.is_tensor(tokens[column][0]) for column in words[label])
    flat = [column for columns in words.values() for column in columns]
    assert flat == sorted(flat)


def test_the_category_of_a_drawn_figure_is_the_one_behind_the_placeholder(sd15):
    from attndreambooth.nodes.host.capture.drawn_figure import _chosen
    from attndreambooth.nodes.host.capture.prompt import prompt_words
    from attndreambooth.nodes.host.model.placeholders import known_placeholders, with_vectors

    clip = with_vectors(sd15.clip, "<my-dog>", torch.randn(2, WIDTH["sd15"]))
    words = prompt_words(clip, "a dog beside a <my-dog> dog and a cat")

    def columns(*asked):
        ahead = prompt_words(clip, "a dog beside a ")
        chosen = _chosen(words, asked, known_placeholders(clip), ahead)
        return [word.columns for word in chosen]

    assert columns("<my-dog>", "dog", "a") == [(5, 6), (7,), (9,)]
    assert columns("dog", "a", "<my-dog>") == [(2,), (1,), (5, 6)]
    assert columns("<my-dog>", "beside", "horse") == [(5, 6), (3,)]


def test_before_training_the_category_of_a_drawn_figure_is_the_one_in_the_subjects_place(sd15):
    from attndreambooth.nodes.host.capture.drawn_figure import SubjectPrompt, _chosen
    from attndreambooth.nodes.host.capture.prompt import prompt_words

    prompt = SubjectPrompt("a dog beside a {} and a dog", "dog", "<my-dog>")
    words, ahead = (prompt_words(sd15.clip, text) for text in (prompt.text, prompt.ahead))

    def columns(*asked):
        return [word.columns for word in _chosen(words, asked, ["<my-dog>"], ahead)]

    assert columns("<my-dog>", "dog") == [(5,)]
    assert columns("dog", "<my-dog>") == columns("dog") == [(2,)]
    assert columns("<my-dog>", "beside") == [(3,)]


def test_letters_of_several_tokens_are_words(sd15):
    """CLIP's vocabulary has no token for most letters that are not Latin: a few bytes each."""
    from attndreambooth.nodes.host.capture.prompt import prompt_words

    words = prompt_words(sd15.clip, "a \u732b, two \u72ac\u732b and a \U0001f9a5")
    labels = [word.label for word in words.all()]
    assert labels == ["a#1", "\u732b", "two", "\u72ac\u732b", "and", "a#2"]
    (cat,), (both,) = words.find("\u732b"), words.find("\u72ac\u732b")
    assert len(cat.columns) > 1 and cat.columns[0] == 2 and both.columns[0] > cat.columns[-1]
    (sloth,) = words.find("\U0001f9a5")
    assert sloth.columns[0] == words.find("a#2")[0].columns[0] + 1


def test_words_of_a_placeholder_are_captured_through_the_stock_encoder(sd15):
    from attndreambooth.nodes.attention import CaptureAttention
    from attndreambooth.nodes.host.model.placeholders import with_vectors

    clip = with_vectors(sd15.clip, "<my-sloth>", torch.randn(2, WIDTH["sd15"]))
    text = "a photo of a <my-sloth> sloth"
    model, handle, positive = CaptureAttention.execute(
        sd15.model, clip, text, "<my-sloth>, sloth", 1, False
    ).args
    samples = sd15.draw(model, positive, sd15.encode(NEGATIVE))
    found, note = handle.find(samples)
    assert note == ""
    assert [word.label for word in found.words] == ["<my-sloth>", "sloth"]
    assert handle.words[0].columns == (5, 6) and handle.words[1].columns == (7,)


def test_words_of_sdxl_stand_at_the_same_columns_for_both_encoders(host):
    import types

    from comfy.sdxl_clip import SDXLTokenizer

    from attndreambooth.nodes.host.capture.prompt import prompt_words

    tokenizer = SDXLTokenizer()
    clip = types.SimpleNamespace(tokenizer=tokenizer, tokenize=tokenizer.tokenize_with_weights)
    words = prompt_words(clip, "a kinkajou, a cat")
    tokens = clip.tokenize("a kinkajou, a cat")
    for word in words.all():
        for column in word.columns:
            assert tokens["l"][0][column] == tokens["g"][0][column]
    assert [word.label for word in words.all()] == ["a#1", "kinkajou", "a#2", "cat"]
