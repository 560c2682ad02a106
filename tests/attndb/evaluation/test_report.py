"""Reports: one file that needs nothing else, honest about what is missing, safe with any record."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from attndreambooth.attndb.artifacts.concept import TrainedConcept
from attndreambooth.attndb.config.presets import micro
from attndreambooth.attndb.evaluation import report
from attndreambooth.attndb.evaluation.concept_facts import (
    all_settings,
    loss_curves,
    losses_of,
    short_settings,
)
from attndreambooth.attndb.evaluation.report import (
    WIDTH,
    Report,
    Section,
    data_url,
    report_html,
    report_picture,
)
from attndreambooth.attndb.evaluation.score_table import score_rows
from attndreambooth.attndb.evaluation.scores import METRICS, Scores
from attndreambooth.attndb.evaluation.training_report import NOTHING_RECORDED, training_report
from attndreambooth.attndb.viz.grid import broken
from attndreambooth.attndb.viz.letters import letters

STAGES = [{**config.as_dict(), "losses": [[0.5, 0.1], [0.3, 0.05]]} for config in micro()]


def concept(record=None, **changes):
    values = {
        **{"placeholder": "<my-dog>", "category": "dog", "text_key": "clip_l"},
        **{"vectors": torch.ones(1, 4), "base_family": "SD 1.5"},
        "record": {"prompt": "a photo of a <my-dog> dog", "photos": [{}], "stages": STAGES}
        if record is None
        else record,
    }
    return TrainedConcept(**{**values, **changes})


SCORES = [
    Scores(label="before", pictures=3, by_encoder={"clip": {"identity": 0.5, "text": 0.3}}),
    Scores(label="after", pictures=3, by_encoder={"clip": {"identity": 0.8, "text": 0.25}}),
]


class Page(HTMLParser):
    """Tags that are left open, addresses, and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.said, self.tags = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "action", "data")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)


def whole(**changes):
    return training_report(
        concept(),
        **{
            "photos": [torch.rand(40, 60, 3), torch.rand(30, 30, 1)],
            "pictures": [torch.rand(90, 50, 3)],
            "maps": [torch.rand(50, 90, 3)],
            "scores": SCORES,
            "text": "My dog, <b>twice</b>.\nSecond line",
            **changes,
        },
    )


def test_the_page_holds_all_of_it_and_asks_for_nothing():
    page = Page(report_html(whole()))
    assert page.open == []
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert len(page.addresses) == 3 + 3  # photos, pictures, maps; a curve for each stage
    for address in page.addresses:
        Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).verify()
    said = " ".join(page.said)
    for word in (
        "<my-dog>: dog",
        "before",
        "0.800",
        "learning rate",
        "identity",
        "Loss of stage 3",
    ):
        assert word in said, word
    assert "My dog, <b>twice</b>.\nSecond line" in said and "b" not in page.tags


def test_the_picture_is_as_wide_as_it_says_and_grows_with_what_is_in_it():
    small = report_picture(training_report(concept()))
    large = report_picture(whole())
    assert small.shape[1:] == large.shape[1:] == (WIDTH, 3) and large.shape[0] > small.shape[0]
    assert 0.0 <= float(large.min()) <= float(large.max()) <= 1.0
    wide = report_picture(whole(pictures=[torch.rand(10, 3000, 3)]))
    assert wide.shape[1] == WIDTH


def test_the_same_report_is_the_same_bytes():
    torch.manual_seed(0)
    photos = [torch.rand(40, 60, 3)]
    one, two = (training_report(concept(), photos=photos) for _ in range(2))
    assert report_html(one) == report_html(two)


def test_what_is_missing_is_left_out():
    said = " ".join(Page(report_html(training_report(concept()))).said)
    assert "Scores" not in said and "Photos" not in said and "Attention maps" not in said


def test_a_checkpoint_says_how_many_of_its_steps_are_done():
    stopped = {**STAGES[2], "after_steps": 2}
    rows = {row[0]: row[1:] for row in short_settings(concept({"stages": [STAGES[0], stopped]}))}
    assert rows["steps"][1] == str(STAGES[2]["steps"]) and rows["of them done"] == ("", "2")
    assert "of them done" not in {row[0] for row in short_settings(concept())}


def test_of_very_many_pictures_the_first_are_shown_and_how_many_more_there_are():
    page = Page(report_html(whole(pictures=[torch.rand(4, 4, 3)] * 70)))
    assert page.tags.count("img") == 1 + 60 + 1 + 3 and "and 10 more" in page.said


def test_a_concept_without_a_record_says_so():
    report = training_report(concept(record={}))
    assert NOTHING_RECORDED in report_html(report).replace("&#x27;", "'")
    report_picture(report)


@pytest.mark.parametrize(
    "stages",
    [
        "none",
        [3, None],
        [{"losses": "many", "stage": {"a": 1}}],
        [{"losses": [["x"], 3], "optimizer": 5, "data": {"resolution": "<script>x</script>"}}],
        [{"losses": [[float("nan"), 0.0]]}, {"losses": [[0.1, 0.2, 0.3, 0.4]]}],
        [{"losses": [[0.1]] * 3, "loss_names": ["a", "b"]}],
        [{"losses": [[10**400, 0.1]]}],
    ],
)
def test_a_strange_record_makes_a_page_without_what_is_strange(stages):
    report = training_report(concept(record={"stages": stages, "prompt": ["\n<img src=x>"]}))
    page = Page(report_html(report))
    assert page.open == [] and "script" not in page.tags
    assert all(address.startswith("data:") for address in page.addresses)
    report_picture(report)


def test_the_short_table_has_a_column_for_each_stage_and_the_last_loss():
    rows = short_settings(concept())
    assert rows[0] == ("", "stage 1", "stage 2", "stage 3")
    table = {row[0]: row[1:] for row in rows}
    assert table["steps"] == tuple(str(config.steps) for config in micro())
    assert table["loss, mean of the last tenth"] == ("0.35",) * 3
    assert "optimizer.weight_decay" in {row[0] for row in all_settings(concept())}
    assert "losses" not in {row[0] for row in all_settings(concept())}


def test_losses_with_names_of_a_method_are_read():
    stage = {
        "losses": [[0.5, 0.0, 0.0, 0.2]],
        "loss_names": ["denoising", "attention_map", "prior", "weight_anchor"],
    }
    [loss] = losses_of(stage).losses
    assert loss.shares["weight_anchor"] == 0.2 and loss.total == pytest.approx(0.7)
    assert len(loss_curves(concept(record={"stages": [stage]}))) == 1


def test_large_pictures_are_jpeg_and_small_ones_exact():
    small = Image.new("RGB", (20, 20), (10, 200, 30))
    noise = Image.fromarray((torch.rand(800, 800, 3) * 255).to(torch.uint8).numpy())
    assert data_url(small).startswith("data:image/png;") and re.match(
        "data:image/jpeg;", data_url(noise)
    )


def test_a_picture_too_tall_for_jpeg_stays_png():
    tall = Image.fromarray((torch.rand(66_000, 20, 3) * 255).to(torch.uint8).numpy())
    assert data_url(tall).startswith("data:image/png;")


def test_no_number_of_a_wide_table_is_cut_in_the_picture(monkeypatch):
    """Four encoders: numbers stood in columns of 28 px, and a 0.812 was a 0.8."""
    values = {**dict.fromkeys(METRICS, -0.812), "present": 1.0, "outdoes": 0.98}
    names = ["clip-vit-base-patch32", "clip-vit-large-patch14", "dinov2-base", "CLIP_VISION"]
    row = Scores(label="after", pictures=144, by_encoder=dict.fromkeys(names, values))
    head, numbers = score_rows([row])
    drawn = []

    def panel(lines, width, size):
        for line in lines:
            if line in numbers:
                assert letters(size).getlength(line) <= width - 20
            drawn.append(line)
        return torch.zeros(size, width, 3)

    monkeypatch.setattr(report, "text_panel", panel)
    report_picture(Report(title="t", sections=[Section(title="s", rows=[head, numbers])]))
    assert [line for line in drawn if line in numbers[1:]] == list(numbers[1:])
    assert drawn.count("after") == 4


def test_a_word_longer_than_its_line_takes_several():
    font = letters(15)
    lines = broken("a " + "long" * 40 + " word", font, 100)
    assert "".join(lines).replace(" ", "") == "a" + "long" * 40 + "word"
    assert max(map(font.getlength, lines)) <= 100 and broken("wide", font, 1) == list("wide")
