"""`python -m attndb train` up to its trainings, in a process that is ComfyUI already."""

from __future__ import annotations

import json
import sys

import pytest
from support.subjects import draw_photos, example, write_folders

pytestmark = pytest.mark.host


@pytest.fixture
def program(home, monkeypatch, capfd):
    """Runs the program with a command line: exit status, standard output, standard error."""
    from attndreambooth.headless import program

    become = []
    monkeypatch.setattr(program, "become_host", lambda *given: become.append(given))
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # which the program replaces

    def run(*arguments) -> tuple[int, str, str]:
        code = program.main([*map(str, arguments), "--", "--cpu"])
        assert [host for _, host in become] == [["--cpu"]]
        return code, *capfd.readouterr()

    return run


def test_what_comfyui_does_not_have_is_named_and_nothing_begins(program, tmp_path):
    draw_photos(tmp_path / "photos" / "hatted-robot")
    path = tmp_path / "wrong.yaml"
    text = example().replace("model: micro  ", "model: {checkpoint: none.safetensors}  ")
    path.write_text(text.replace("    preset: micro", "    concept: none\n    preset: micro"))
    code, out, _ = program(path, "--json")
    assert code == 2
    told = [json.loads(line) for line in out.splitlines()]
    assert [(event["event"], event["line"]) for event in told] == [("problem", 1), ("problem", 15)]
    assert "'none.safetensors' is not in models/checkpoints" in told[0]["text"]
    assert "no concept named 'none'" in told[1]["text"]


def test_a_task_of_an_array_has_subjects_of_its_own(program, tmp_path, monkeypatch):
    write_folders(tmp_path)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    code, _, told = program(tmp_path / "all.yaml", "--subjects", tmp_path / "subjects", "--check")
    assert code == 0 and "1 subjects, nothing wrong" in told, told
