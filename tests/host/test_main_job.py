"""The shipped workflow in a real server: photos in; picture, loss curves and files out."""

from __future__ import annotations

import io
import json
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from support.graph import Graph
from support.outcome import ExecutionFailed, Interrupted, Outcome, PromptRejected
from support.server import HostServer
from support.workflow import ui_workflow_to_api

from attndreambooth.devkit.checkpoints import make_checkpoint
from attndreambooth.devkit.pack import ROOT
from attndreambooth.devkit.photos import write_photos

pytestmark = [pytest.mark.host, pytest.mark.slow]

NAME, PLACEHOLDER = "my-cat", "<my-cat>"
TEXT = f"a photo of a {PLACEHOLDER} cat on the beach at sunset"
STAGES = {
    "AttnDBStage1LearnEmbedding": {"steps": 2, "learning_rate": 0.04},
    "AttnDBStage2TrainCrossAttention": {"steps": 2, "learning_rate": 2e-4},
    "AttnDBStage3TrainUNet": {"steps": 3, "learning_rate": 1e-4},
}
SMALL = {
    **{stage: {"batch_size": 2, "resolution": 64, **values} for stage, values in STAGES.items()},
    "EmptyLatentImage": {"width": 64, "height": 64},
    "KSampler": {"steps": 3},
    "AttnDBSaveConcept": {"name": NAME},
    "AttnDBLoadConceptDataset": {
        "path": "cat photos",
        "category": "cat",
        "placeholder": PLACEHOLDER,
    },
}


def by_type(prompt: dict, node_type: str) -> str:
    """Id of the one node of that type."""
    [found] = [key for key, node in prompt.items() if node["class_type"] == node_type]
    return found


@pytest.fixture(scope="module")
def checkpoint(server: HostServer, host) -> str:
    return server.add_model(make_checkpoint("sd15"))


@pytest.fixture(scope="module")
def prompt(server: HostServer, checkpoint: str) -> dict:
    """What the shipped workflow describes, with a laptop's sizes and the cat's photos."""
    write_photos(server.base / "input" / "cat photos")
    content = json.loads((ROOT / "workflows" / "Stage by stage.json").read_text(encoding="utf-8"))
    prompt = ui_workflow_to_api(content, server.object_info())
    for node in prompt.values():
        for name, value in SMALL.get(node["class_type"], {}).items():
            assert name in node["inputs"], (node["class_type"], name)
            node["inputs"][name] = value
        if node["class_type"] == "CheckpointLoaderSimple":
            node["inputs"]["ckpt_name"] = checkpoint
        if node["class_type"] == "CLIPTextEncode" and node["inputs"]["text"]:
            node["inputs"]["text"] = TEXT
    return prompt


@pytest.fixture(scope="module")
def outcome(server: HostServer, prompt: dict) -> Outcome:
    return server.run(prompt, timeout=600)


@pytest.fixture(scope="module")
def kept(server: HostServer, outcome: Outcome) -> dict[str, bytes]:
    """The saved concept's files, by folder."""
    paths = {k: server.base / "models" / k / f"{NAME}.safetensors" for k in ("embeddings", "loras")}
    return {kind: path.read_bytes() for kind, path in paths.items()}


def pixels(server: HostServer, outcome: Outcome, node: str) -> np.ndarray:
    [file] = outcome.outputs[node]["images"]
    return np.asarray(Image.open(io.BytesIO(server.view(file))).convert("RGB"))


def drawn(server: HostServer, graph: Graph, model, clip, vae, text: str = TEXT) -> np.ndarray:
    saved = graph.sample(model, clip, vae, text, seed=0, steps=3)
    return pixels(server, server.run(graph.prompt), saved.id)


def test_it_makes_the_picture(server, prompt, outcome):
    picture = pixels(server, outcome, by_type(prompt, "SaveImage"))
    assert picture.shape == (64, 64, 3)
    assert picture.std() > 5


def test_it_differs_from_what_the_base_draws(server, prompt, outcome, checkpoint):
    graph = Graph()
    base = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint)
    plain = drawn(server, graph, base[0], base[1], base[2], TEXT.replace(f"{PLACEHOLDER} ", ""))
    picture = pixels(server, outcome, by_type(prompt, "SaveImage"))
    assert np.abs(plain.astype(float) - picture).mean() > 1


def test_photos_and_loss_curves_are_shown(server, prompt, outcome):
    previews = [k for k, n in prompt.items() if n["class_type"] == "PreviewImage"]
    assert len(previews) >= 2
    for node in previews:
        assert pixels(server, outcome, node).std() > 5


def test_every_training_step_moves_the_bar(prompt, outcome):
    moves = [e["data"] for e in outcome.events if e["type"] == "progress"]
    for stage, values in STAGES.items():
        seen = [(m["value"], m["max"]) for m in moves if str(m["node"]) == by_type(prompt, stage)]
        steps = values["steps"]
        assert (steps, steps) in seen, (stage, seen)
        assert len({value for value, _ in seen}) >= steps


def test_the_files_to_keep_are_whole_and_say_what_they_are(server, kept):
    with safe_open(server.base / f"models/embeddings/{NAME}.safetensors", "np") as file:
        assert {k: file.get_tensor(k).shape for k in file.keys()} == {"clip_l": (1, 768)}
        record = json.dumps(file.metadata())
    assert PLACEHOLDER in record
    assert "cat" in record
    with safe_open(server.base / f"models/loras/{NAME}.safetensors", "np") as file:
        names = list(file.keys())
        metadata = file.metadata()
    assert all(n.startswith("diffusion_model.") for n in names)
    assert any(".attn2.to_k" in n for n in names)
    assert any("in_layers" in n for n in names), "stage 3 trains more than cross-attention"
    assert {"modelspec.architecture", "modelspec.title"} <= set(metadata)
    assert any(key.startswith("attndb.") for key in metadata)


def test_each_stage_leaves_a_run_folder_with_its_losses(server, outcome):
    # other tests train other subjects on the same server
    runs = sorted((server.base / "output" / "attndb").glob(f"{NAME}-stage*/losses.jsonl"))
    counts = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in runs)
    assert counts == sorted(values["steps"] for values in STAGES.values())


def test_load_and_apply_concept_draw_the_same_picture(server, prompt, outcome, kept, checkpoint):
    graph = Graph()
    base = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint)
    concept = graph.add("AttnDBLoadConcept", name=NAME)
    applied = graph.add(
        "AttnDBApplyConcept", model=base[0], clip=base[1], concept=concept[0], strength=1.0
    )
    again = drawn(server, graph, applied[0], applied[1], base[2])
    assert (
        np.abs(again.astype(int) - pixels(server, outcome, by_type(prompt, "SaveImage"))).max() <= 1
    )


def test_a_comfyui_without_this_pack_draws_the_same_picture(
    server, prompt, outcome, kept, tmp_path
):
    with HostServer(tmp_path, with_pack=False) as stock:
        assert not any(name.startswith("AttnDB") for name in stock.object_info())
        ckpt = stock.add_model(make_checkpoint("sd15"))
        for kind in kept:
            stock.add_model(server.base / "models" / kind / f"{NAME}.safetensors", kind)
        graph = Graph()
        base = graph.add("CheckpointLoaderSimple", ckpt_name=ckpt)
        lora = graph.add(
            "LoraLoader",
            model=base[0],
            clip=base[1],
            lora_name=f"{NAME}.safetensors",
            strength_model=1.0,
            strength_clip=1.0,
        )
        text = TEXT.replace(PLACEHOLDER, f"embedding:{NAME}")
        picture = drawn(stock, graph, lora[0], lora[1], base[2], text)
        assert "lora key not loaded" not in stock.log()
    ours = pixels(server, outcome, by_type(prompt, "SaveImage"))
    assert np.abs(picture.astype(int) - ours).max() <= 1


def change(prompt: dict, node_type: str, **values) -> dict:
    changed = deepcopy(prompt)
    changed[by_type(changed, node_type)]["inputs"].update(values)
    return changed


@pytest.mark.parametrize(
    ("node_type", "values", "told"),
    [
        ("AttnDBLoadConceptDataset", {"path": "no such folder"}, ("no such folder",)),
        ("AttnDBLoadConceptDataset", {"category": " "}, ("category",)),
        ("AttnDBLoadConceptDataset", {"template": "a photo"}, ("template", "{}")),
        ("AttnDBSaveConcept", {"name": "../escaped"}, ("name", "../escaped")),
    ],
)
def test_bad_input_names_node_and_widget_and_leaves_no_file(
    server, prompt, outcome, node_type, values, told
):
    before = files_below(server.base)
    with pytest.raises((ExecutionFailed, PromptRejected)) as caught:
        server.run(change(prompt, node_type, **values), timeout=600)
    message = str(caught.value).split("---")[0]
    title = server.object_info()[node_type]["display_name"]
    assert title in message or node_type in message
    for part in told:
        assert part in message
    new = [p for p in files_below(server.base) - before if "temp" not in p.parts]
    assert [p for p in new if p.suffix == ".safetensors" or "escaped" in p.name] == []


def files_below(base: Path) -> set[Path]:
    return {path.relative_to(base) for path in base.rglob("*") if path.is_file()}


def test_a_broken_photo_is_named_and_skipped_only_if_the_user_says_so(server, prompt, outcome):
    folder = server.base / "input" / "one broken"
    write_photos(folder, 3)
    (folder / "broken.jpg").write_bytes(b"not a picture")
    (folder / "empty.png").touch()
    changed = change(prompt, "AttnDBLoadConceptDataset", path="one broken", skip_broken=False)
    with pytest.raises(ExecutionFailed) as caught:
        server.run(changed)
    assert "broken.jpg" in caught.value.message
    changed = change(prompt, "AttnDBLoadConceptDataset", path="one broken", skip_broken=True)
    photos = by_type(changed, "AttnDBLoadConceptDataset")
    only = {photos: changed[photos]}
    only["show"] = {"class_type": "PreviewImage", "inputs": {"images": [photos, 1]}}
    assert server.run(only).outputs["show"]["images"]
    assert "broken.jpg" in server.log()


def test_cancel_leaves_the_model_alone_and_the_next_run_ends_as_if_never_cancelled(
    server, prompt, outcome, kept, checkpoint
):
    graph = Graph()
    base = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint)
    plain = drawn(server, graph, base[0], base[1], base[2])
    picture = pixels(server, outcome, by_type(prompt, "SaveImage"))
    shutil.rmtree(server.base / "output" / "attndb")
    for kind in kept:
        (server.base / "models" / kind / f"{NAME}.safetensors").unlink()
    server.free()  # nothing remembered: everything is trained again
    stage = by_type(prompt, "AttnDBStage3TrainUNet")

    def cancel(event):
        data = event["data"]
        if event["type"] == "progress" and str(data["node"]) == stage and data["value"] == 2:
            server.interrupt()

    with pytest.raises(Interrupted) as caught:
        server.run(prompt, on_event=cancel, timeout=600)
    assert caught.value.node_id == stage
    assert not (server.base / "models" / "loras" / f"{NAME}.safetensors").exists()

    graph = Graph()
    base = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint)
    saved = graph.sample(base[0], base[1], base[2], TEXT, seed=0, steps=3, prefix="after")
    assert np.array_equal(pixels(server, server.run(graph.prompt), saved.id), plain)

    resumed = server.run(prompt, timeout=600)
    assert np.array_equal(pixels(server, resumed, by_type(prompt, "SaveImage")), picture)
    for kind, content in kept.items():
        assert (server.base / "models" / kind / f"{NAME}.safetensors").read_bytes() == content, kind
