"""`python -m attndb inspect` says what lies at a path, or what is wrong with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support.small_run import STEPS, train

from attndreambooth.attndb.artifacts.concept import TrainedConcept
from attndreambooth.attndb.artifacts.concept_files import concept_files
from attndreambooth.attndb.artifacts.tensor_file import read_tensors, write_whole
from attndreambooth.attndb.artifacts.weight_delta import LowRank
from attndreambooth.attndb.inspection import inspect
from attndreambooth.attndb.training.run import Run
from attndreambooth.devkit.pack import ROOT


def command(*arguments, env=None):
    return subprocess.run(
        [sys.executable, "-m", "attndb", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=env,
    )


def test_a_photo_folder_is_counted_and_its_broken_file_named(tmp_path):
    for name in ("b", "a"):
        Image.new("RGB", (40, 30), "red").save(tmp_path / f"{name}.png")
    good = inspect(tmp_path)
    assert (good.kind, good.problems) == ("photos", [])
    assert good.facts == {"count": 2, "sizes": {"a.png": "40 x 30", "b.png": "40 x 30"}}
    (tmp_path / "c.png").write_bytes(b"no picture")
    assert any("c.png" in problem for problem in inspect(tmp_path).problems)


def test_captions_and_masks_of_photos_are_told_and_what_is_wrong_with_one(tmp_path):
    for name in ("a", "b", "a_mask"):
        Image.new("RGB", (40, 30), "white").save(tmp_path / f"{name}.png")
    (tmp_path / "a.txt").write_text("a {} on a\nsofa")
    (tmp_path / "b.txt").write_text("a {} in the rain", encoding="utf-16")
    found = inspect(tmp_path)
    assert found.facts["count"] == 2 and found.problems == []
    assert found.facts["captions"] == {"a.png": "a {} on a sofa", "b.png": "a {} in the rain"}
    assert found.facts["masks"] == {"a.png": "a_mask.png"}
    (tmp_path / "b.txt").write_text("rain")
    (tmp_path / "a_mask.png").write_bytes(b"no picture")
    assert len(inspect(tmp_path).problems) == 2
    assert any("b.txt" in problem for problem in inspect(tmp_path).problems)


def test_a_run_folder_says_how_far_it_is_and_which_file_of_it_is_no_file(tmp_path):
    with Run(tmp_path, {"prompt": "a <x> dog", "config": {"stage": 2, "steps": STEPS}}) as run:
        run.finish(train(run))
    found = inspect(tmp_path)
    assert (found.kind, found.problems) == ("run", [])
    facts = found.facts
    assert (facts["state"], facts["steps"], facts["steps_logged"]) == ("finished", STEPS, STEPS)
    assert facts["prompt"] == "a <x> dog" and not facts["goes_on_with_more_steps"]
    (tmp_path / "losses.jsonl").write_bytes(b"\xff\n")
    content = bytearray(run.outcome.read_bytes())
    content[-1] ^= 4
    run.outcome.write_bytes(content)
    [problem] = inspect(tmp_path).problems
    assert problem == "result.safetensors: its content does not match its checksum"
    run.outcome.write_bytes(b"half")
    [problem] = inspect(tmp_path).problems
    assert problem.startswith("result.safetensors: ")
    (tmp_path / "run.json").write_text("{")
    [problem] = inspect(tmp_path).problems
    assert "run.json is not JSON" in problem


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, ""),
        ("[]", "holds no JSON object"),
        ("{}", "holds no node"),
        ('{"nodes": [5, null]}', "holds no node"),
    ],
)
def test_a_file_that_is_no_workflow_is_a_problem_in_one_line(tmp_path, text, told):
    (tmp_path / "graph.json").write_text(text)
    [problem] = inspect(tmp_path / "graph.json").problems
    assert told in problem and "\n" not in problem and len(problem) < 500


@pytest.mark.parametrize("config", ["5", "null", "[]"])
def test_a_run_without_settings_is_a_problem(tmp_path, config):
    (tmp_path / "run.json").write_text(f'{{"config": {config}}}')
    assert inspect(tmp_path).problems == ["run.json says no settings: its config is no table"]


@pytest.mark.parametrize("losses", [[1, 2], {"a": 1}, "ab", [["a"]], [[1, None]], [[0.5], {}]])
def test_a_record_with_other_losses_is_told_without_them(tmp_path, losses):
    record = {"placeholder": "<a>", "category": "dog", "base_family": "SD 1.5", "digest": "x"}
    record |= {"has_weights": False, "format": 1, "stages": [{"steps": 3, "losses": losses}]}
    path = tmp_path / "e.safetensors"
    save_file({"clip_l": torch.ones(1, 8)}, path, {"attndb.record": json.dumps(record)})
    [stage] = inspect(path).facts["stages"]
    assert stage["steps"] == 3 and "last_loss" not in stage


def test_the_command_writes_no_terminal_codes_of_a_file(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"prompt": "a\x1b[31m\ndog", "config": {}}))
    told = command("inspect", tmp_path)
    assert r"  prompt: a\x1b[31m\ndog" in told.stdout.splitlines()


def test_nodes_inside_a_subgraph_are_counted():
    found = inspect(ROOT / "subgraphs" / "Three stages of AttnDreamBooth.json")
    assert "AttnDBStage1LearnEmbedding" in found.facts["nodes_of_this_pack"]
    assert found.facts["nodes"] > 3 and found.problems == []


def test_a_prompt_for_the_server_is_a_workflow_too(tmp_path):
    prompt = {"1": {"class_type": "AttnDBSaveConcept"}, "2": {"class_type": "KSampler"}, "x": 5}
    (tmp_path / "api.json").write_text(json.dumps(prompt))
    found = inspect(tmp_path / "api.json")
    assert (found.kind, found.problems) == ("workflow", [])
    assert found.facts == {"nodes": 2, "nodes_of_this_pack": ["AttnDBSaveConcept"]}


def test_an_embedding_and_a_weight_file_are_told_apart(tmp_path):
    save_file({"clip_l": torch.ones(2, 768)}, tmp_path / "e.safetensors")
    save_file({"diffusion_model.x.diff": torch.zeros(3)}, tmp_path / "w.safetensors")
    embedding, weights = (inspect(tmp_path / f"{name}.safetensors") for name in "ew")
    assert embedding.problems == weights.problems == []
    assert embedding.kind == "embedding" and weights.kind == "weights"
    assert embedding.facts["shapes"] == {"clip_l": "F32 (2, 768)"}
    assert "not saved by this pack" in embedding.facts["record"]


def test_a_weight_file_whose_scale_was_changed_and_a_word_with_a_mapper_are_told(tmp_path):
    thin = LowRank(torch.ones(3, 2), torch.ones(2, 4), (3, 4))
    made = TrainedConcept(
        placeholder="<x>",
        category="dog",
        text_key="clip_l",
        vectors=torch.ones(1, 8),
        delta={"out.2.weight": thin},
        modules={"neti.net.weight": torch.zeros(2, 2)},
    )
    word, weights = tmp_path / "e.safetensors", tmp_path / "w.safetensors"
    write_whole(concept_files(made, "x", word, weights))
    assert [inspect(path).problems for path in (word, weights)] == [[], []]
    assert [inspect(path).kind for path in (word, weights)] == ["embedding", "weights"]
    tensors, metadata = read_tensors(weights)
    save_file({**tensors, "diffusion_model.out.2.alpha": torch.tensor(1.0)}, weights, metadata)
    [problem] = inspect(weights).problems
    assert "out.2.alpha is [1.0], and was saved as 2" in problem
    save_file({"a": torch.ones(1)}, weights, {"ss_base_model_version": "sd_v2_v"})
    assert inspect(weights).facts["prediction_type"] == "v"


def test_a_file_that_is_cut_off_is_a_problem(tmp_path):
    save_file({"clip_l": torch.zeros(2, 768)}, tmp_path / "e.safetensors")
    whole = (tmp_path / "e.safetensors").read_bytes()
    for size in (0, 5, 20, len(whole) - 100):
        (tmp_path / "e.safetensors").write_bytes(whole[:size])
        assert inspect(tmp_path / "e.safetensors").problems, size


def test_values_that_the_nodes_would_refuse_are_problems(tmp_path):
    zero, path = torch.zeros(2, 768), tmp_path / "e.safetensors"
    for value, told in ((zero, "zero vector"), (zero + torch.nan, "NaN"), (zero.char(), "int8")):
        save_file({"clip_l": value}, path)
        [problem] = inspect(path).problems
        assert problem.startswith("e.safetensors: clip_l holds ") and told in problem
    weights = {f"w{number}": torch.full((3,), torch.inf) for number in range(7)}
    save_file({**weights, "sound": torch.ones(3).to(torch.float8_e4m3fn)}, path)
    assert len(inspect(path).problems) == 6 and "2 more tensors" in inspect(path).problems[-1]


def test_the_shipped_workflows_name_their_nodes():
    files = sorted((ROOT / "workflows").glob("*.json"))
    assert files
    for path in files:
        found = inspect(path)
        assert found.kind == "workflow" and found.problems == []
        assert found.facts["nodes"] > len(found.facts["nodes_of_this_pack"]) > 0


UNET = {
    "conv_in.weight": torch.zeros(8, 4, 3, 3),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": torch.zeros(8, 768),
}


def exported(folder, name="diffusion_pytorch_model.safetensors"):
    """What Export to Diffusers writes, on a U-Net of two weights."""
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "config.json").write_text('{"cross_attention_dim": 768}')
    weights = {key: value.half() for key, value in UNET.items()}
    path = folder / "unet" / name
    torch.save(weights, path) if name.endswith(".bin") else save_file(weights, path)
    save_file({"<my-dog>": torch.ones(2, 768)}, folder / "learned_embeds.safetensors")
    return folder


@pytest.mark.parametrize(
    "name", ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"]
)
def test_a_folder_of_diffusers_says_its_unet_its_family_and_its_words(tmp_path, name):
    folder = exported(tmp_path / "dog", name)
    found = inspect(folder)
    assert (found.kind, found.problems) == ("diffusers", [])
    unet = found.facts["unet"]
    assert (unet["file"], unet["weights"], unet["precision"]) == (f"unet/{name}", 2, "F16")
    assert unet["family"] == "SD 1.5" and found.facts["prediction_type"] == "not said"
    [word] = found.facts["embeddings"].values()
    told = {"word": "<my-dog>", "vectors": 2, "width": 768, "text_encoder": "clip_l"}
    assert word == told
    alone = inspect(folder / "unet")
    assert alone.kind == "diffusers" and alone.facts["unet"]["file"] == name


def test_a_pipeline_names_its_other_parts_and_what_it_predicts(tmp_path):
    folder = exported(tmp_path)
    for part in ("vae", "text_encoder", "scheduler"):
        (folder / part).mkdir()
    (folder / "vae" / "config.json").write_text("{}")
    told = '{"prediction_type": "v_prediction"}'
    (folder / "scheduler" / "scheduler_config.json").write_text(told)
    found = inspect(folder)
    assert found.facts["other_parts"] == ["vae"] and found.facts["prediction_type"] == "v"


def test_what_is_wrong_with_a_folder_of_diffusers_is_a_line_each(tmp_path):
    folder = exported(tmp_path / "a")
    whole = folder / "unet" / "diffusion_pytorch_model.safetensors"
    whole.write_bytes(whole.read_bytes()[:-10])
    (folder / "unet" / "config.json").write_text("no json")
    (folder / "learned_embeds.safetensors").write_bytes(b"nothing")
    problems = inspect(folder).problems
    assert len(problems) == 3
    assert "lying" in problems[0] and "config.json is not JSON" in problems[1]
    assert "learned_embeds.safetensors" in problems[2]
    (folder / "unet" / "config.json").unlink()
    whole.unlink()
    problems = inspect(folder).problems
    assert any("no U-Net of diffusers" in line for line in problems)
    assert any("config.json is missing" in line for line in problems)
    empty = tmp_path / "b"
    empty.mkdir()
    (empty / "model_index.json").write_text("{}")
    [problem] = inspect(empty).problems
    assert "a pipeline without unet/" in problem


def test_a_pickled_embedding_is_told_and_its_code_is_not_run(tmp_path):
    torch.save({"<my-dog>": torch.ones(3, 768)}, tmp_path / "learned_embeds_steps_60.bin")
    found = inspect(tmp_path / "learned_embeds_steps_60.bin")
    assert found.kind == "embedding" and found.facts["vectors"] == 3
    assert inspect(tmp_path).kind == "diffusers"

    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"x": Hostile()}, tmp_path / "bad.pt")
    [problem] = inspect(tmp_path / "bad.pt").problems
    assert "never run" in problem and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("entry", ["5", "{}", '{"dtype": "F32", "shape": 3, "data_offsets": [0]}'])
def test_a_header_that_tells_of_no_tensor_is_a_problem(tmp_path, entry):
    header = f'{{"clip_l": {entry}}}'.encode()
    path = tmp_path / "e.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    [problem] = inspect(path).problems
    assert "is told as no tensor" in problem


def test_the_command_gives_json_and_an_exit_code(tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    good = command("inspect", "--json", tmp_path)
    assert good.returncode == 0 and json.loads(good.stdout)[0]["facts"]["count"] == 1
    bad = command("inspect", tmp_path, tmp_path / "missing")
    assert bad.returncode == 2 and "PROBLEM there is no such file" in bad.stdout
    assert "inspect" in command("--help").stdout


def test_the_command_spells_out_what_its_output_has_no_letters_for(tmp_path):
    (tmp_path / "\u72ac.png").write_bytes(b"no picture")  # to a pipe, Windows writes in cp1252
    told = command("inspect", tmp_path, env={**os.environ, "PYTHONIOENCODING": "cp1252"})
    assert told.returncode == 2 and r"\u72ac.png is not an image" in told.stdout, told.stderr


def test_a_python_that_does_not_look_where_it_is_started_is_given_the_folder(tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    told = subprocess.run(  # as ComfyUI's portable edition has one: isolated
        [sys.executable, "-I", str(ROOT / "attndb"), "inspect", "--json", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)[0]["facts"]["count"] == 1
