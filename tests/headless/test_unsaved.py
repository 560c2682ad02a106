"""A subject that is trained and cannot be saved: the error says what of it is kept, and where."""

from __future__ import annotations

import errno
import io
import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from attndreambooth.attndb.config.compared import published
from attndreambooth.attndb.training.step_loss import StepLoss
from attndreambooth.attndb.training.training import StageResult
from attndreambooth.attndb.training.unkept_results import UNKEPT

LOSS = (StepLoss(0, {"denoising": 1.0, "attention_map": 0.0}),)
FULL = OSError(errno.ENOSPC, "No space left on device: a.safetensors could not be written")


@pytest.fixture
def train(host, tmp_path, monkeypatch):
    """The program on one subject whose concept no disk takes, and what it tells. `kept`: whether
    the run's folder took the result."""
    import folder_paths

    from attndreambooth.headless import subjects
    from attndreambooth.headless.processes import Processes
    from attndreambooth.headless.report import JsonLines

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    folder = tmp_path / "attndb" / "x-stage2-0"
    folder.mkdir(parents=True)

    def no_room(*_):
        raise FULL

    def program(kept):
        def trained(*_, **__):
            if not kept:
                result = StageResult({"clip_l": torch.ones(1, 8)}, {}, LOSS)
                UNKEPT.keep("mine", result, folder)
            return SimpleNamespace(concepts=[None], folder="output/attndb/x-stage2-0")

        monkeypatch.setattr(subjects, "train_stages", trained)
        monkeypatch.setattr(subjects, "dataset_of", lambda job: None)
        monkeypatch.setattr(subjects, "save_concept_as", no_room)
        monkeypatch.setattr(subjects.Models, "wires", lambda *_: ())
        stage = published("dreambooth").with_(steps=1)
        job = SimpleNamespace(
            **{"name": "x", "model": None, "concept": "", "stages": [stage], "preview": None},
            **{"low_memory_if_needed": True, "keep_state": False, "checkpoint_concepts": 0},
            **{
                "recipe": "",
                "kept_concepts": 5,
                "category_tie": "last word",
                "checkpoint_every": 100,
            },
            save=SimpleNamespace(precision="as trained", metadata="record"),
        )
        out = io.StringIO()
        assert subjects.train_jobs([job], JsonLines(out), Processes()) == 1
        UNKEPT.release("mine")
        events = [json.loads(line) for line in out.getvalue().splitlines()]
        [told] = [event["error"] for event in events if event["event"] == "failed"]
        assert "a.safetensors could not be written" in told
        return told, folder

    return program


def test_a_result_that_its_run_kept_is_there_for_the_next_start(train):
    told, folder = train(kept=True)
    assert f"The last stage is kept in {folder}: started again, it is not trained again" in told
    assert "ends with this program" not in told


def test_one_that_no_folder_took_is_said_to_be_lost_and_what_its_checkpoint_keeps(train):
    told, folder = train(kept=False)
    assert f"in no file and ends with this program: {folder} (no checkpoint) could not" in told
    save_file({"a": torch.ones(1)}, folder / "checkpoint.safetensors", {"steps": "40"})
    assert f"{folder} (goes on from its checkpoint of step 40)" in train(kept=False)[0]
