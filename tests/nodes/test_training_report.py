"""Training Report: files in output/reports, never over another report."""

from __future__ import annotations

import pytest
import torch
from support.stages import refuses

REPORT = "AttnDBTrainingReport"


def test_a_report_is_written_once_and_another_one_beside_it(run, trained, output):
    picture, file = run(REPORT, concept=trained, name="dogs/mine")
    folder = output / "reports" / "dogs" / "mine"
    assert file == str(folder / "report.html")
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.png"]
    assert trained.placeholder.strip("<>") in (folder / "report.html").read_text(encoding="utf-8")
    assert picture.shape[0] == 1 and picture.shape[2] == 1200
    assert run(REPORT, concept=[trained], name=["dogs/mine"])[1] == file
    other = run(REPORT, concept=trained, name="dogs/mine", text="another")[1]
    assert other == str(output / "reports" / "dogs" / "mine-2" / "report.html")


def test_pictures_of_any_sizes_are_in_it(run, trained):
    plain = run(REPORT, concept=trained)[0]
    photos = [torch.rand(2, 30, 40, 3), torch.rand(1, 50, 20, 3)]
    full = run(
        REPORT,
        concept=trained,
        photos=photos,
        pictures=[torch.rand(1, 100, 2000, 3)],
        attention_maps=[torch.rand(1, 60, 60, 3)] * 2,
    )[0]
    assert full.shape[1] > plain.shape[1] + 256 + 60 + 120


@pytest.mark.parametrize("name", ["../out", "", "a b", "nul"])
def test_a_name_that_is_no_folder_is_refused(run, trained, output, name):
    with refuses("Training Report: .*name"):
        run(REPORT, concept=trained, name=name)
    assert not (output / "reports").exists()


def test_a_list_of_concepts_is_refused_instead_of_reporting_the_first(run, chain, output):
    """`concepts` of Train Concept beside `concept`: the report would be of stage 1 alone."""
    with refuses("Training Report: concept is a list of 3: .* Connect the output concept"):
        run(REPORT, concept=list(chain), name=["all"])
    assert not (output / "reports").exists()
