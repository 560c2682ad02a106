"""Trainings in a real server that run out of memory, diverge or are cancelled lose no work."""

from __future__ import annotations

import io
import json
import re
import shutil
import time

import pytest
from PIL import Image
from safetensors import safe_open
from support.graph import Graph
from support.outcome import ExecutionFailed, Interrupted
from support.training import FaultyServer, kept, losses, training, unfinished_files

from attndreambooth.attndb.artifacts.concept_files import RECORD_KEY

pytestmark = [pytest.mark.host, pytest.mark.slow]

STEPS = 12


def saved(stage: int = 2, **widgets) -> dict:
    """A prompt that trains and saves under the name of `controlled`."""
    graph = Graph()
    training(graph, stage, save="controlled", steps=STEPS, **widgets)
    return graph.prompt


_LEFT: dict[str, dict[str, bytes]] = {}
"""By prompt: one that was trained before would leave the same bytes."""


def undisturbed(server: FaultyServer, prompt: dict) -> dict[str, bytes]:
    """What the prompt leaves when nothing goes wrong; the server forgets it afterwards."""
    key = json.dumps(prompt)
    if key not in _LEFT:
        _LEFT[key] = _trained(server, prompt)
    return _LEFT[key]


def _trained(server: FaultyServer, prompt: dict) -> dict[str, bytes]:
    server.run(prompt)
    files = kept(server.base, "controlled")
    assert {name.rpartition("/")[2] for name in files} == {
        "controlled.safetensors",
        "losses.jsonl",
        "result.safetensors",
        "run.json",
    }
    server.forget("controlled")
    return files


def steps_in_checkpoint(server: FaultyServer) -> int:
    """Steps that the only run's checkpoint holds."""
    with safe_open(str(server.run_folder() / "checkpoint.safetensors"), "np") as file:
        return len(json.loads(file.metadata()["losses"])["losses"])


# ---- out of memory


@pytest.mark.parametrize("kind", ["oom", "oom_backward"])
def test_out_of_memory_halves_the_micro_batch_and_the_losses_stay(faulty, kind):
    prompt = saved()
    undisturbed_losses = undisturbed(faulty, prompt)
    [text] = [v for k, v in undisturbed_losses.items() if k.endswith("losses.jsonl")]
    expected = [json.loads(line) for line in text.decode().splitlines()]

    faulty.fault(kind, above=1, after=3)  # three whole steps go well; then 4 and 2 are too many
    outcome = faulty.run(prompt)
    found = losses(faulty.run_folder())
    assert len(found) == STEPS
    for ours, theirs in zip(found, expected, strict=True):
        for part in ("denoising", "attention_map"):
            rounding = 1e-5 * theirs["loss"]  # the same sums in another order
            assert ours[part] == pytest.approx(theirs[part], abs=rounding), ours["step"]
    assert found != expected, "the micro-batch was never halved"
    for size in (2, 1):
        assert f"step 4: out of memory; micro-batch is now {size}" in faulty.log()
    assert "out of memory: micro-batch 4 -> 1" in outcome.texts()[-1]
    with safe_open(str(faulty.base / "models/loras/controlled.safetensors"), "np") as file:
        [stage] = json.loads(file.metadata()[RECORD_KEY])["stages"]
    assert stage["micro_batches"] == [
        {"from_step": 1, "samples": 4},
        {"from_step": 4, "samples": 1},
    ]


def test_out_of_memory_with_one_sample_ends_in_a_remedy_and_the_work_is_kept(faulty):
    prompt = saved(micro_batch=1)
    expected = undisturbed(faulty, prompt)

    faulty.fault("oom", after=4 * 7)
    with pytest.raises(ExecutionFailed) as caught:
        faulty.run(prompt)
    assert "Stage 2: Train Cross-Attention" in caught.value.message
    assert "one sample at a time" in caught.value.message
    assert "lower the resolution" in caught.value.message
    assert steps_in_checkpoint(faulty) == 7

    other = Graph()
    base = other.add("AttnDBLoadMicroModel")
    other.sample(base[0], base[1], base[2], "a photo of a robot")
    assert faulty.run(other.prompt).outputs  # the server lives, with the fault still in it

    faulty.fault(None)
    assert "resumed at step 8" in faulty.run(prompt).texts()[-1]
    assert kept(faulty.base, "controlled") == expected


# ---- not a number


def test_a_nan_stops_at_its_step_and_without_it_the_run_ends_as_if_undisturbed(faulty):
    prompt = saved(stage=3)
    expected = undisturbed(faulty, prompt)

    faulty.fault("nan", after=8)
    with pytest.raises(ExecutionFailed) as caught:
        faulty.run(prompt)
    assert "Stage 3: Train U-Net: step 9: the denoising loss is nan" in caught.value.message
    assert "precision to fp32" in caught.value.message
    assert steps_in_checkpoint(faulty) == 8
    assert unfinished_files(faulty.base) == []
    assert not (faulty.base / "models/loras/controlled.safetensors").exists()

    with pytest.raises(ExecutionFailed) as caught:  # the cause is still there
        faulty.fault("nan")
        faulty.run(prompt)
    assert "step 9: the denoising loss is nan" in caught.value.message
    assert steps_in_checkpoint(faulty) == 8

    faulty.fault(None)
    faulty.run(prompt)
    assert kept(faulty.base, "controlled") == expected


# ---- cancel


def test_cancel_stops_within_a_step_and_queued_again_it_ends_in_the_same_bytes(faulty):
    prompt = saved(stage=3, checkpoint_every=0)
    expected = undisturbed(faulty, prompt)
    faulty.fault("slow")  # the host's bar moves ten times a second at most
    done = []

    def cancel(event):
        if event["type"] == "progress" and event["data"]["value"] >= 7 and not done:
            faulty.interrupt()
            done.append(len(losses(faulty.run_folder())))

    with pytest.raises(Interrupted):
        faulty.run(prompt, on_event=cancel)
    assert done and done[0] < STEPS - 1
    assert done[0] <= steps_in_checkpoint(faulty) <= done[0] + 1
    assert unfinished_files(faulty.base) == []
    faulty.run(prompt)
    assert f"resuming at step {steps_in_log(faulty) + 1} " in faulty.log()
    assert kept(faulty.base, "controlled") == expected


def steps_in_log(server: FaultyServer) -> int:
    """Steps of the last checkpoint that the log tells of."""
    return int(re.findall(r"checkpoint after step (\d+):", server.log())[-1])


def test_cancel_during_a_preview_stops_within_a_sampler_step(faulty):
    sampler_steps, drawn_after = 600, 3
    graph = Graph()
    stage = training(graph, save="controlled", steps=STEPS)
    stage.inputs["preview"] = graph.add(
        "AttnDBTrainingPreview",
        prompt="a photo of a {}",
        every=drawn_after,
        steps=sampler_steps,
        cfg=5.0,
        width=64,
        height=64,
        seed=0,
        attention_maps=True,
    )[0]
    expected = undisturbed(faulty, saved())  # without a preview: it changes nothing
    faulty.fault("slow")
    sent = []

    def cancel(event):
        value = event["data"]["value"] if event["type"] == "progress" else 0
        if value >= drawn_after - 1 and not sent:
            deadline = time.monotonic() + 60
            while len(losses(faulty.run_folder())) < drawn_after and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(1.0)  # into the preview: it would take many times as long
            sent.append(time.monotonic())
            faulty.interrupt()

    with pytest.raises(Interrupted):
        faulty.run(graph.prompt, on_event=cancel)
    assert time.monotonic() - sent[0] < 3.0
    assert steps_in_checkpoint(faulty) == drawn_after
    assert not list((faulty.run_folder() / "previews").glob("*"))

    graph.prompt[stage.inputs["preview"][0]]["inputs"]["steps"] = 2
    faulty.run(graph.prompt)
    run = faulty.run_folder()
    drawn = sorted(path.name for path in (run / "previews").iterdir())
    assert drawn == [f"step-{step:05}.png" for step in (3, 6, 9, 12)], "the stopped one, too"
    shutil.rmtree(run / "previews")
    assert kept(faulty.base, "controlled") == expected


# ---- what the user sees


def test_bar_text_and_curve_move_while_it_trains(faulty):
    graph = Graph()
    stage = training(graph, steps=20, show=True)
    faulty.fault("slow")  # the host's bar moves ten times a second at most
    outcome = faulty.run(graph.prompt)
    moves = [
        (e["data"]["value"], e["data"]["max"]) for e in outcome.events if e["type"] == "progress"
    ]
    assert moves == [(step, 20) for step in range(1, 21)]

    progress = [e["data"] for e in outcome.events if "text" in e["data"]]
    assert {data["node"] for data in progress} == {stage.id}
    noted, *lines, end = outcome.texts()
    assert noted.startswith("no concept connected: "), noted
    assert re.fullmatch(
        r"done in (?:\d+ min )?\d+ s; write: <my-robot> robot\nkept in .*; Save Concept .*\n"
        + re.escape(noted),
        end,
    ), end
    loss = rf"\n{re.escape(noted)}\nloss \d\.\d{{4}} \+ \d\.\d{{5}}"
    pace = r"  [\d.]+ (it/s|s/it)"
    assert re.fullmatch("step 1/20" + loss, lines[0]), lines[0]
    between = rf"step \d+/20{pace}  (\d+ min )?\d+ s left{loss}"
    early = rf"step 2/20{loss}"  # a pace takes two steps; on a slow machine the second is shown
    assert all(re.fullmatch(f"{between}|{early}", line) for line in lines[1:-1]), lines
    assert len(lines) > 2 and re.fullmatch(f"step 20/20{pace}{loss}", lines[-1]), lines[-1]
    record = losses(faulty.run_folder())[-1]
    assert f"loss {record['denoising']:.4f} + {record['attention_map']:.5f}" in lines[-1]

    pictures = [Image.open(io.BytesIO(image)) for image in outcome.pictures()]
    assert pictures and all(picture.size == (768, 384) for picture in pictures)
    seconds = float(re.findall(r"Prompt executed in ([\d.]+) seconds", faulty.log())[-1])
    assert len(lines) <= 2 * seconds + 2, "more than two texts a second"
