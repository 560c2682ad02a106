"""The paper's observations over training: measured at the steps, kept as points, drawn."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from attndreambooth.attndb.config.data import DataConfig
from attndreambooth.attndb.data.tokens import TokenizedText
from attndreambooth.attndb.evaluation.report import report_html, report_picture
from attndreambooth.attndb.training import session
from attndreambooth.attndb.training.attention_look import AttentionLook, Seen
from attndreambooth.benchmarks.contest.contestant import contestant
from attndreambooth.benchmarks.observations import RIVALS, contestants
from attndreambooth.benchmarks.observed.course import Course, TrackingOptions, points_of
from attndreambooth.benchmarks.observed.figure import UNTIED, figure, line_of, panels, report
from attndreambooth.benchmarks.observed.observation import cosine, gaps, share_of_words
from attndreambooth.benchmarks.observed.points import Point, read_point, save_point
from attndreambooth.benchmarks.record import RecordError
from attndreambooth.devkit.tiny_model import prompt_of, tiny_model
from attndreambooth.micro.text import END


class Layer:
    name, heads = "a layer", 2


def _maps(seen: Seen) -> torch.Tensor:
    """(B, heads, pixels, tokens): every head by hand."""
    width = seen.queries.shape[-1] // seen.layer.heads
    heads = []
    for h in range(seen.layer.heads):
        q, k = (x[..., h * width : (h + 1) * width] for x in (seen.queries, seen.keys))
        heads.append((q @ k.transpose(1, 2) / math.sqrt(width)).softmax(dim=-1))
    return torch.stack(heads, dim=1)


def _seen(seed: int) -> Seen:
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(3, 12, 8, generator=generator)
    return Seen(Layer(), queries, 2 * torch.randn(3, 77, 8, generator=generator))


def test_the_share_is_that_of_the_maps():
    prompt = TokenizedText("a <v> cat", (1, 5, None, None, 6, *[END] * 72))
    seen = [_seen(1), _seen(2)]
    expected = []
    for one in seen:
        for sample in _maps(one).mean(dim=(1, 2)):
            expected.append(float(sample[[2, 3]].sum() / sample[[1, 2, 3, 4]].sum()))
    assert share_of_words(seen, prompt) == pytest.approx(sum(expected) / 6, rel=1e-5)
    with pytest.raises(ValueError, match="does not contain the placeholder"):
        share_of_words(seen, TokenizedText("a cat", (1, 5, 6, *[END] * 74)))


def test_the_gaps_are_those_of_the_maps():
    prompt = prompt_of(vectors=2)
    seen = [_seen(1), _seen(2)]
    means, variances = [], []
    for one in seen:
        columns = _maps(one)[..., list(prompt.columns)].permute(0, 3, 1, 2).flatten(2)
        for *own, category in columns:
            means += [float((v.mean() - category.mean()).abs()) for v in own]
            variances += [float((v.var() - category.var()).abs()) for v in own]
    found = gaps(seen, prompt)
    assert found["mean_gap"] == pytest.approx(sum(means) / len(means), rel=1e-4)
    assert found["variance_gap"] == pytest.approx(sum(variances) / len(variances), rel=1e-4)


def test_the_cosine_is_the_least_of_all_vectors():
    now = {"clip_l": nn.Parameter(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))}
    start = {"clip_l": torch.tensor([[2.0, 0.0], [1.0, 0.0]])}
    assert cosine(now, start) == pytest.approx(1 / math.sqrt(2))


def test_a_look_is_the_same_whenever_it_is_asked():
    model, prompt = tiny_model(), prompt_of()
    vectors = {"clip_l": torch.ones(1, 32)}
    look = AttentionLook(torch.zeros(1, 4, 8, 8), (300, 600), 0)
    first, second = (look(model, model.denoise, prompt, vectors) for _ in range(2))
    assert len(first) == len(model.text_attention()) and first[0].queries.shape[0] == 2
    assert all(torch.equal(a.queries, b.queries) for a, b in zip(first, second, strict=True))


def test_the_lines_are_those_of_the_paper():
    lines = contestants()
    assert [line.name for line in lines][:2] == ["AttnDreamBooth", UNTIED]
    assert len(lines) == 2 + len(RIVALS)
    assert {s.data.resolution for line in lines for s in line.stages} == {128}
    quick = contestants(20)
    assert all(a.samples > 10 * b.samples > 0 for a, b in zip(lines, quick, strict=True))


class FakeWorld:
    """The world without a picture: scores are the number of stages."""

    asked, context, subjects = {}, "a photo of a {} in a forest", ("hatted-robot",)

    def __init__(self, graph, wires):
        self.graph, self.wires = graph, wires

    def dataset(self, concept):
        from attndreambooth.benchmarks.contest.studio import photo_dataset
        from attndreambooth.micro.concepts import CONCEPTS

        photos = [drawn.picture for drawn, _ in CONCEPTS[concept].photos()]
        return photo_dataset(self.graph, np.stack(photos), "robot")

    def scores(self, concept, learned):
        stages = 0 if learned is None else len(learned.record["stages"])
        return {"identity": float(stages), "text": 1.0, "joint": 0.5}


@pytest.fixture
def world(own_folders):
    from attndreambooth.devkit.in_process import Graph
    from attndreambooth.nodes.host.model.micro import load_micro

    with torch.inference_mode():
        yield FakeWorld(Graph(), load_micro())


def _line(method, *pairs):
    line, data = contestant(method, pairs), DataConfig(resolution=64, augmentation="none")
    return replace(line, stages=tuple(s.with_(data=data) for s in line.stages))


def _values(course):
    return {point.file: point.values for point in course.points()}


def test_points_of_other_code_are_not_mixed_in(monkeypatch, tmp_path):
    line = _line("attndreambooth", (2, 1e-2), (2, 1e-3), (3, 1e-3))

    def folder():
        world = FakeWorld(None, None)
        return Course(line, "hatted-robot", world, TrackingOptions(), tmp_path).folder

    before = folder()
    assert folder() == before
    monkeypatch.setattr(session, "CODE_VERSION", 99)
    assert folder() != before


def test_every_stage_is_looked_at_and_scored(world, tmp_path):
    line = _line("attndreambooth", (2, 1e-2), (2, 1e-3), (3, 1e-3))
    course = Course(line, "hatted-robot", world, TrackingOptions(every=2, score_every=0), tmp_path)
    assert len(course.missing()) == 1 + 1 + 1 + 2 + 1 + 3
    course.fill()
    assert not course.missing() and not (course.folder / "run").exists()
    points = points_of([course])
    looks = [point for point in points if point.kind == "look"]
    assert [point.at for point in looks] == [0, 2, 4, 6, 7]
    assert [point.values["identity"] for point in points if point.kind == "score"] == [0, 1, 2, 3]
    first, second, *later = (point.values for point in looks)
    assert first["cosine"] == pytest.approx(1) and second["cosine"] < 1
    assert all(v["cosine"] == pytest.approx(second["cosine"], abs=1e-6) for v in later)
    assert all(0 < v["share"] < 1 and v["mean_gap"] > 0 for v in (first, second, *later))
    assert all(v["weight"] == 9 * v["share"] for v in (first, second, *later))
    shown = report(points, course.ends, "tiny", [("a", "b")])
    assert [len(panel.curves) for panel in panels(points, course.ends)] == [1] * 6
    assert "<svg" in report_html(shown) and report_picture(shown).shape[1] == 1200


def test_a_stopped_training_goes_on_and_says_the_same(world, tmp_path):
    line = _line("textual_inversion", (4, 1e-2))
    watch = TrackingOptions(every=1, score_every=2)
    whole = Course(line, "hatted-robot", world, watch, tmp_path / "whole")
    whole.fill()
    assert "mean_gap" not in whole.points()[0].values  # trained without the category
    assert whole.words() == 8

    stopped = Course(line, "hatted-robot", world, watch, tmp_path / "stopped")
    keep = stopped._keep

    def until_two(kind, number, step, values):
        keep(kind, number, step, values)
        if (kind, step) == ("look", 2):
            raise KeyboardInterrupt

    stopped._keep = until_two
    with pytest.raises(KeyboardInterrupt):
        stopped.fill()
    made = [p.stat().st_mtime_ns for p in sorted(stopped.folder.glob("look-*"))]
    assert len(made) == 3 and (stopped.folder / "run").is_dir()
    again = Course(line, "hatted-robot", world, watch, tmp_path / "stopped")
    again.fill()
    assert _values(again) == _values(whole)
    assert [p.stat().st_mtime_ns for p in sorted(again.folder.glob("look-*"))][:3] == made
    (again.folder / "look-1-00003.json").unlink()  # its run is over: it is made once more
    again.fill()
    assert _values(again) == _values(whole)


def _point(line, concept, at, **values):
    return Point(line=line, concept=concept, kind="look", stage=1, step=at, at=at, values=values)


def test_a_line_is_the_mean_over_concepts_that_have_the_moment():
    points = [_point("a", "x", 0, share=0.2), _point("a", "y", 0, share=0.4)]
    points += [_point("a", "x", 5, share=0.9), _point("b", "x", 0, share=0.7)]
    assert line_of(points, "a", "look", "share") == {0: pytest.approx(0.3)}
    assert line_of(points, "a", "look", "cosine") == {}


def test_a_damaged_point_is_named(tmp_path):
    point = _point("a", "x", 5, share=0.5)
    save_point(point, tmp_path)
    path = tmp_path / point.file
    assert read_point(path) == point
    for text in ("{", "[]", json.dumps({"format": 1}), json.dumps({"format": 2})):
        path.write_text(text)
        with pytest.raises(RecordError, match=point.file):
            read_point(path)
    save_point(point, tmp_path)
    moved = path.rename(tmp_path / "look-1-00006.json")
    with pytest.raises(RecordError, match="another moment"):
        read_point(moved)


def test_the_drawing_and_the_picture_hold_the_same():
    points = [_point(line, "x", at, weight=at / 9) for line in ("a", "<b>") for at in (0, 9)]
    drawn = figure(points, [4, 6, 9], "c")
    assert isinstance(drawn.picture, Image.Image)
    assert drawn.svg.count("<ellipse") == 3  # the first line's marker, and in front of its name
    assert "&lt;b&gt;" in drawn.svg and "<b>" not in drawn.svg
    assert f'width="{drawn.picture.width}"' in drawn.svg
