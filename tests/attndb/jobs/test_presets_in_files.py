"""What a file says of a preset: which it is, and how strongly its stages are tied."""

from __future__ import annotations

import pytest
from PIL import Image

from attndreambooth.attndb.config.presets import PRESETS
from attndreambooth.attndb.jobs.job_file import JobFileError, read_jobs

ONE = """
model: micro
subjects:
  - photos: {folder: photos, category: dog}
"""


@pytest.fixture
def jobs(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (40, 40), "red").save(folder / "a.png")

    def read(text: str):
        path = tmp_path / "jobs.yaml"
        path.write_text(text, encoding="utf-8")
        return read_jobs(path)

    return read


@pytest.mark.parametrize("preset", PRESETS)
def test_a_strength_is_a_factor_on_each_stages_own_weights(jobs, preset):
    own = [config.regularization for config in PRESETS[preset]()]
    text = f"    preset: {preset}\n    settings: {{regularization: {{strength: 2}}}}\n"
    [job] = jobs(ONE + text)
    assert [config.regularization for config in job.stages] == [tie.times(2) for tie in own]
    more = "    stages: [1, {stage: 2, regularization: {mean_weight: 3}}]\n"
    first, second = jobs(ONE + text + more)[0].stages
    assert first.regularization == own[0].times(2)
    assert (second.regularization.mean_weight, second.regularization.variance_weight) == (
        6,
        2 * own[1].variance_weight,
    )
    text = "    stages: [{stage: 3, regularization: {strength: -1}}]\n"
    with pytest.raises(JobFileError) as told:
        jobs(ONE + text)
    assert [(p.line, p.text) for p in told.value.problems] == [
        (5, "strength = -1.0: use 0 or more")
    ]


def test_a_strength_of_a_method_that_ties_nothing_is_told_where_it_was_meant(jobs):
    settings = "settings: {regularization: {strength: 2}}\n"
    with pytest.raises(JobFileError) as told:
        jobs(f"{ONE}    method: dreambooth\n    {settings}")
    assert [p.text for p in told.value.problems] == [
        "regularization: dreambooth has none, attndreambooth has; leave it out"
    ]
    assert jobs(f"defaults:\n  {settings}{ONE}    method: dreambooth\n")
    assert jobs(f"{ONE}    {settings}")


def test_a_job_knows_the_preset_that_its_stages_came_from(jobs):
    [job] = jobs(ONE)
    assert job.recipe == "paper"
    assert jobs(ONE + "    preset: micro-lora\n")[0].recipe == "micro-lora"
    assert jobs(ONE + "    method: oft\n")[0].recipe == ""
