"""`python -m attndb evaluate`: the numbers of the nodes, as lines; what cannot be is said."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image

from attndreambooth.attndb.evaluation.prompts import TOY
from attndreambooth.devkit.pack import ROOT
from attndreambooth.headless.evaluate import _parse, check
from attndreambooth.micro.concepts import CONCEPTS

PROMPTS = "a photo of a {} in the snow\na sketch of a {} underwater"
SMALL = ("--steps", "2", "--size", "64")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, (drawn, _) in enumerate(CONCEPTS["hatted-robot"].photos(), start=1):
        Image.fromarray(drawn.picture).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def masked(photos, tmp_path_factory):
    """The same with a mask beside each: such a folder is read with `--masks files` alone."""
    folder = tmp_path_factory.mktemp("masked")
    shutil.copytree(photos, folder, dirs_exist_ok=True)
    for number, (drawn, _) in enumerate(CONCEPTS["hatted-robot"].photos(), start=1):
        shape = Image.fromarray((drawn.mask * 255).astype("uint8"))
        shape.save(folder / f"{number}_mask.png")
    return folder


@pytest.fixture(scope="module")
def saved(run, home):
    """Name of a concept after two steps of stage 1."""
    with torch.inference_mode():
        wires = dict(zip(("model", "clip", "vae"), run("AttnDBLoadMicroModel"), strict=True))
        images, category, _ = run("AttnDBMicroConcept", concept="hatted-robot")
        node, values = "AttnDBConceptDatasetFromImages", {"steps": 2, "batch_size": 2}
        data = run(node, images=images, category=category, placeholder="<my-robot>")[0]
        stage = "AttnDBStage1LearnEmbedding"
        values |= {"resolution": 64, "learning_rate": 1e-2, "dataset": data}
        concept = run(stage, **wires, **values)[0]
        run("AttnDBSaveConcept", concept=concept, name="own-robot")
    return concept


@pytest.fixture
def evaluate(host, photos, home):
    from attndreambooth.headless.evaluation import evaluate as program

    def run_program(*arguments, status=0, folder=photos, out=None):
        options = _parse([*map(str, arguments), "--photos", str(folder)])
        check(options)
        out = out or io.StringIO()
        assert program(options, out) == status, out.getvalue()
        return out.getvalue()

    return run_program


def told(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_saved_concept_has_the_numbers_of_the_node(run, evaluate, saved, masked, tmp_path):
    prompts, grid = tmp_path / "prompts.txt", tmp_path / "sheets" / "grid.png"
    prompts.write_text(PROMPTS)
    asked = ("own-robot", "--prompts", prompts, *SMALL, "--seed", 3, "--images", 2)
    asked += ("--masks", "files", "--grid", grid, "--json")
    before, own, end = told(evaluate(*asked, folder=masked))
    wires = dict(zip(("model", "clip", "vae"), run("AttnDBLoadMicroModel"), strict=True))
    images, _, masks = run("AttnDBMicroConcept", concept="hatted-robot")
    *_, scores, _ = run(
        "AttnDBEvaluateConcept",
        **wires,
        concepts={"concept_0": saved},
        encoders={"encoder_0": run("AttnDBLoadImageEncoder", encoder="toy model")[0]},
        photos=images,
        masks=masks,
        prompts=PROMPTS,
        images_per_prompt=2,
        **{"seed": 3, "steps": 2, "cfg": 3.0, "width": 64, "height": 64, "cell_size": 64},
    )
    for line, row in zip((before, own), scores, strict=True):
        assert line.pop("event") == "scores" and line.pop("notes") == []
        expected = row.as_dict() | {"label": line["label"]}
        assert line.keys() == expected.keys()
        [encoder] = set(line) - {"label", "pictures", "attention"}
        assert line[encoder] == pytest.approx(expected[encoder], abs=1e-5)
    assert [before["label"], own["label"]] == ["before training", "own-robot"]
    assert (end["event"], end["best"]) == ("end", "own-robot")
    assert Image.open(grid).width > 2 * 64


def test_strengths_are_rows_and_the_best_is_told_by_name_and_strength(evaluate, saved):
    asked = ("own-robot", "--no-before", "--prompts", "a {} at night", *SMALL, "--json")
    rows = told(evaluate(*asked, "--strengths", "1 0.6", "--negative", "snow"))
    assert [row.get("label") for row in rows] == [
        *("own-robot, strength 1", "own-robot, strength 0.6", None)
    ]
    assert rows[1]["notes"][0].startswith("the very same concept as own-robot, strength 1, of")
    end = rows[2]  # of an embedding alone both are the same, and the first is taken
    assert (end["best"], end["strength"], end["correction"]) == ("own-robot", 1.0, 0.0)
    plain = told(evaluate(*asked))[0]
    assert plain["label"] == "own-robot" and plain["micro CLIP"] != rows[0]["micro CLIP"]


def test_a_folder_of_pictures_is_a_row_and_people_get_a_table(evaluate, photos):
    asked = ("--asked", "a photo of a {} in the snow", "--category", "robot")
    table = evaluate("--pictures", photos, *asked)
    assert f"| {photos} | 5 |"[:40] in table and "identity: mean cosine" in table
    [row, end] = told(evaluate("--pictures", photos, *asked, "--others", photos, "--json"))
    [values] = [v for v in row.values() if isinstance(v, dict)]
    assert values["best photo"] == pytest.approx(1, abs=1e-4) and values["text"] is not None
    assert values["outdoes"] is not None and end["best"] is None


def test_pictures_alone_are_scored_by_an_encoder_that_reads_no_text(evaluate, photos, monkeypatch):
    """Which is best is asked of concepts alone, so DINO is enough for a folder."""
    from attndreambooth.headless import evaluation

    class Colours:
        name, key, batch, reads_text = "colours", "colours of pictures", 8, False

        def images(self, pictures):
            return torch.stack([picture.mean(dim=(0, 1)) for picture in pictures])

    monkeypatch.setattr(evaluation, "folder_encoder", lambda name: Colours())
    [row, _] = evaluate("--pictures", photos, "--encoder", "dino", "--json").splitlines()
    assert json.loads(row)["colours"]["identity"] > 0.9


@pytest.fixture
def second_picture_fails(host, monkeypatch):
    """A function: the second picture from now on raises an error."""
    from attndreambooth.nodes import columns

    plain = columns.drawn_figure

    def fails_with(error):
        drawn = []

        def drawn_figure(*given, **more):
            drawn.append(given)
            if len(drawn) == 2:
                raise error
            return plain(*given, **more)

        monkeypatch.setattr(columns, "drawn_figure", drawn_figure)

    return fails_with


def test_what_was_scored_is_there_when_somebody_stops_it(evaluate, saved, second_picture_fails):
    """A row is scored as soon as it is drawn: hours of pictures are not lost with the last one."""
    asked = ("own-robot", "--prompts", "a {} at night", *SMALL)
    outs = []
    for flags in (), ("--json",):
        second_picture_fails(KeyboardInterrupt())
        outs.append(io.StringIO())
        with pytest.raises(KeyboardInterrupt):
            evaluate(*asked, *flags, out=outs[-1])
    table, [row] = outs[0].getvalue(), told(outs[1].getvalue())
    assert "| before training | 1 |" in table and "own-robot |" not in table
    assert row["label"] == "before training"


def test_out_of_memory_is_told_with_a_remedy_behind_what_was_scored(
    evaluate, saved, second_picture_fails
):
    second_picture_fails(torch.cuda.OutOfMemoryError("no room"))
    asked = ("own-robot", "--prompts", "a {} at night", *SMALL, "--json")
    row, problem = told(evaluate(*asked, status=1))
    assert row["label"] == "before training" and "smaller pictures (--size)" in problem["text"]


def test_a_grid_that_cannot_be_written_costs_no_score(evaluate, saved, tmp_path):
    (tmp_path / "file").touch()
    asked = ("own-robot", "--no-before", "--prompts", "a {} at night", *SMALL, "--json")
    row, problem = told(evaluate(*asked, "--grid", tmp_path / "file" / "g.png", status=1))
    assert row["label"] == "own-robot" and problem["event"] == "problem"
    assert "g.png could not be written" in problem["text"]


def test_photos_of_which_some_have_no_mask_are_named(evaluate, masked, tmp_path):
    folder = shutil.copytree(masked, tmp_path / "some")
    for number in (2, 4):
        (folder / f"{number}_mask.png").unlink()
    asked = ("--pictures", masked, "--masks", "files", "--json")
    [problem] = told(evaluate(*asked, status=2, folder=folder))
    assert "--masks files: 2.png and 1 more of 5 photos have no mask: give" in problem["text"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone"], "no concept named 'gone'"),
        (["--pictures", "gone"], "does not exist"),
        (["--pictures", "PHOTOS", "--asked", "a {}"], "category is empty"),
        (["--pictures", "PHOTOS", "--asked", "a\nb"], "2 lines for 5 images"),
        (["--pictures", "PHOTOS", "--encoder", "gone"], "gone"),
    ],
)
def test_what_is_not_there_is_named_and_nothing_begins(evaluate, photos, arguments, said):
    given = [str(photos) if a == "PHOTOS" else a for a in arguments]
    [problem] = told(evaluate(*given, "--json", status=2))
    assert problem["event"] == "problem" and said in problem["text"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to score"),
        (["a", "--images", "0"], "--images 0: use 1"),
        (["a", "--size", "70"], "multiple of 8"),
        (["a", "--prompts", "snow"], "neither a set"),
        (["a", "--strengths", "-1"], "strengths: '-1' is no number from 0 to 10"),
        (["a", "--model", "v1.safetensors"], "there is no encoder"),
        (["--pictures", "p", "--grid", "g.png"], "--grid 'g.png' shows what saved concepts draw"),
        (["a", "--grid", "."], r"--grid '\.': give a file that ends in \.png"),
    ],
)
def test_options_that_cannot_be_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        check(_parse([*arguments, "--photos", "photos"]))


def test_prompts_are_a_set_or_one_and_can_be_fewer():
    def lines(*arguments):
        options = _parse(["a", "--photos", "photos", *arguments])
        check(options)
        return options.lines

    assert lines() == TOY
    assert lines("--count", "2") == (TOY[0], TOY[len(TOY) // 2])
    assert lines("--prompts", "a {} at night") == ("a {} at night",)
    longer_than_a_file_name = "a {} in the snow, " + "and then some more of it, " * 20
    assert lines("--prompts", longer_than_a_file_name) == (longer_than_a_file_name.strip(),)


def test_a_file_of_prompts_that_is_no_text_is_named(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"\xff\xfe\x00{}")
    with pytest.raises(ValueError, match=r"prompts\.txt' is no text in UTF-8: save it"):
        check(_parse(["a", "--photos", "photos", "--prompts", str(file)]))


def test_the_command_says_what_is_wrong_and_its_status_is_2():
    command = [sys.executable, "-m", "attndb", "evaluate", "--photos", "photos"]
    for more in ([], ["--json"]):
        done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2
        assert "nothing to score" in (done.stdout if more else done.stderr)
