"""The one command for a GPU, dry: its file, and the tables that are made from it."""

import json

import pytest
import torch


@pytest.fixture(scope="module")
def measured(host, tmp_path_factory):
    from attndreambooth.benchmarks import gpu

    file = tmp_path_factory.mktemp("gpu") / "gpu.json"
    pieces = ["--piece", "stage-2", "--piece", "fast", "--mode", "default"]
    assert gpu.main(["--dry-run", *pieces, "--steps", "1", "--json", str(file)]) == 0
    return file


def test_every_row_says_what_it_took_and_what_was_estimated(measured):
    found = json.loads(measured.read_text())
    assert found["complete"] and [r["recipe"] for r in found["recipes"]] == ["fast"]
    ours = [row for row in found["rows"] if row["what"].startswith("ours")]
    assert ours and all(row["estimated_mb"] > 0 < row["memory_mb"] for row in ours)
    theirs = [row for row in found["rows"] if row["what"] == "published"]
    assert theirs and all(row["estimated_mb"] is None for row in theirs)


def test_the_tables_are_made_from_the_file_alone(measured, capsys):
    from attndreambooth.benchmarks import gpu
    from attndreambooth.benchmarks.card_tables import COLUMNS

    assert gpu.main(["--tables", str(measured)]) == 0
    found, text = json.loads(measured.read_text()), capsys.readouterr().out
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + len(found["rows"]) + len(found["recipes"])
    assert all(len(line) in (len(COLUMNS), 4) for line in lines)
    assert found["date"] in text and "published" in text and "Not all rows" not in text


def test_a_row_that_did_not_fit_says_so(measured):
    from attndreambooth.benchmarks.card_tables import tables

    found = json.loads(measured.read_text()) | {"complete": False, "recipes": []}
    lost = dict.fromkeys(("time_s", "first_step_s", "memory_mb"))
    found["rows"] = [
        {"what": "ours", "stage": 3, "precision": "bf16", "estimated_mb": 15000, **lost}
        | {"note": "out of memory"}
    ]
    text = tables(found)
    assert "out of memory" in text and "15.0" in text and "Not all rows were run" in text


def test_a_recipe_that_does_not_fit_leaves_the_next_one_its_turn(host, monkeypatch):
    from attndreambooth.benchmarks import card
    from attndreambooth.benchmarks.card_tables import tables

    def cramped(*_):
        raise ValueError("out of memory with one sample at a time. The last checkpoint is kept")

    monkeypatch.setattr(card, "_recipe", cramped)
    rows = list(card.recipes(None, torch.device("cpu"), True))
    assert [row["recipe"] for row in rows] == ["paper", "fast"]
    told = {"matmul_tflops": {}, "device": "", "torch": "", "date": "", "size": ""}
    told |= {"resolution": 512, "batch": 8, "complete": True, "rows": [], "recipes": rows}
    assert "out of memory with one sample at a time" in tables(told)


def test_a_mode_that_fails_says_so_and_leaves_others_their_turn(host):
    from attndreambooth.benchmarks.card import _attempt

    def without_compiler():
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable")

    found = _attempt(without_compiler, 1)
    assert found["note"] == "failed (RuntimeError: Failed to find C compiler.)"
    assert found["time_s"] is None
