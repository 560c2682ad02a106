"""The sub-folders of a folder are subjects; a file says what all of them have, and each."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from attndreambooth.attndb.config.presets import micro
from attndreambooth.attndb.jobs.job_file import JobFileError, read_jobs

FILE = """
model: micro
defaults:
  preset: micro
  settings: {seed: 7}
  photos: {category: dog, captions: text files}
folders:
  b10:
    name: my-tenth
    photos: {category: cat}
    settings: {data: {resolution: 64}}
    stages: [{stage: 1, steps: 3}]
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("B2", "b10", "a one", ".hidden"):
        (tmp_path / "all" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40), "red").save(tmp_path / "all" / name / "1.png")
        (tmp_path / "all" / name / "1.txt").write_text("a {}")
    (tmp_path / "all" / "list.txt").touch()
    return tmp_path / "all"


@pytest.fixture
def jobs(folder, tmp_path):
    def read(text=FILE, subjects=folder):
        path = tmp_path / "jobs.yaml"
        path.write_text(text, encoding="utf-8")
        return read_jobs(path, subjects)

    return read


def problems(jobs, *given) -> list[tuple[int, str]]:
    with pytest.raises(JobFileError) as caught:
        jobs(*given)
    return [(p.line, p.text) for p in caught.value.problems]


def test_every_folder_is_a_subject_in_the_order_of_the_names(jobs, folder):
    first, second, third = jobs()
    assert [job.photos.folder for job in (first, second, third)] == [
        folder / name for name in ("a one", "B2", "b10")
    ]
    assert [job.photos.placeholder for job in (first, second)] == ["<my-a-one>", "<my-b2>"]
    assert [job.photos.category for job in (first, second, third)] == ["dog", "dog", "cat"]
    assert {job.photos.captions for job in (first, second, third)} == {"text files"}
    assert first.stages == tuple(stage.with_(seed=7) for stage in micro())
    [only] = third.stages
    assert (third.name, only.steps, only.seed, only.data.resolution) == ("my-tenth", 3, 7, 64)


def test_what_is_wrong_with_one_names_it_and_with_all_is_said_once(jobs, folder):
    (folder / "B2" / "1.png").unlink()
    text = FILE.replace("text files", "texts").replace("category: dog, ", "")
    found = problems(jobs, text.replace("steps: 3", "steps: many"))
    told = [text for _, text in found]
    assert len([text for text in told if "'texts'" in text]) == 1
    assert any(text.startswith("B2: folder") and "no image" in text for text in told)
    assert any(text.startswith("a one: category is empty") for text in told)
    assert not any(text.startswith("b10: category") for text in told)
    assert any(line == 12 and text.startswith("b10: steps = 'many'") for line, text in found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FILE + "subjects: []\n", "here is a list: leave one out"),
        (FILE.replace("  b10:", "  b01:"), "no folder 'b01' in"),
        (FILE.replace("  b10:", "  b01:"), "did you mean 'b10'"),
        (FILE.replace("name: my-tenth", "name: my-b2"), "two subjects are called"),
        (FILE.replace("name: my-tenth", "nam: x"), "b10: unknown key 'nam'"),
    ],
)
def test_a_file_that_does_not_fit_the_folder_is_refused(jobs, text, said):
    assert any(said in text for _, text in problems(jobs, text))


def test_a_folder_without_subjects_is_named(jobs, folder, tmp_path):
    for name in (tmp_path / "none", Path("~nobody-of-this-name/photos")):
        assert "cannot be read" in problems(jobs, FILE, name)[0][1]
    assert "holds no folder" in problems(jobs, FILE, folder / "B2")[0][1]


def test_what_folders_have_is_not_read_without_one(jobs):
    assert any("--subjects FOLDER alone" in text for _, text in problems(jobs, FILE, None))
