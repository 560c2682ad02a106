"""`python -m attndb inspect` says what lies at a path, or what is wrong with it."""

from __future__ import annotations

import json
import subprocess
import sys

import torch
from PIL import Image
from safetensors.torch import save_file

from attndreambooth.attndb.inspection import inspect
from attndreambooth.devkit.pack import ROOT


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "attndb", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_a_photo_folder_is_counted_and_its_broken_file_named(tmp_path):
    for name in ("b", "a"):
        Image.new("RGB", (40, 30), "red").save(tmp_path / f"{name}.png")
    good = inspect(tmp_path)
    assert (good.kind, good.problems) == ("photos", [])
    assert good.facts == {"count": 2, "sizes": {"a.png": "40 x 30", "b.png": "40 x 30"}}
    (tmp_path / "c.png").write_bytes(b"no picture")
    assert any("c.png" in problem for problem in inspect(tmp_path).problems)


def test_an_embedding_and_a_weight_file_are_told_apart(tmp_path):
    save_file({"clip_l": torch.zeros(2, 768)}, tmp_path / "e.safetensors")
    save_file({"diffusion_model.x.diff": torch.zeros(3)}, tmp_path / "w.safetensors")
    embedding, weights = (inspect(tmp_path / f"{name}.safetensors") for name in "ew")
    assert embedding.kind == "embedding" and weights.kind == "weights"
    assert embedding.facts["shapes"] == {"clip_l": "F32 (2, 768)"}
    assert "not saved by this pack" in embedding.facts["record"]


def test_a_file_that_is_cut_off_is_a_problem(tmp_path):
    save_file({"clip_l": torch.zeros(2, 768)}, tmp_path / "e.safetensors")
    whole = (tmp_path / "e.safetensors").read_bytes()
    for size in (0, 5, 20, len(whole) - 100):
        (tmp_path / "e.safetensors").write_bytes(whole[:size])
        assert inspect(tmp_path / "e.safetensors").problems, size


def test_the_shipped_workflows_name_their_nodes():
    files = sorted((ROOT / "workflows").glob("*.json"))
    assert files
    for path in files:
        found = inspect(path)
        assert found.kind == "workflow" and found.problems == []
        assert found.facts["nodes"] > len(found.facts["nodes_of_this_pack"]) > 0


def test_the_command_gives_json_and_an_exit_code(tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    good = command("inspect", "--json", tmp_path)
    assert good.returncode == 0 and json.loads(good.stdout)[0]["facts"]["count"] == 1
    bad = command("inspect", tmp_path, tmp_path / "missing")
    assert bad.returncode == 2 and "PROBLEM there is no such file" in bad.stdout
    assert "inspect" in command("--help").stdout
