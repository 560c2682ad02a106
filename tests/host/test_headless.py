"""`python -m attndb train` gives the bytes of the graph; a subject that fails stops no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.graph import Graph
from support.server import HostServer
from support.subjects import STEPS, draw_photos, example, write_folders

from attndreambooth.devkit.host_path import host_root, on_cpu
from attndreambooth.devkit.pack import ROOT

pytestmark = [pytest.mark.host, pytest.mark.slow]

SECOND = ("my-robot-both", "both-robot-*")
"""Of the document's second subject: what it is saved as, its run."""


def command(*arguments: object, base: Path) -> list[str]:
    host = ["--", *(["--cpu"] if on_cpu() else []), "--base-directory", str(base)]
    return [sys.executable, "-m", "attndb", "train", *map(str, arguments), *host]


def environ() -> dict[str, str]:
    return {**os.environ, "COMFYUI_PATH": str(host_root()), "PYTHONUTF8": "1"}


def headless(*arguments: object, base: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments, base=base), cwd=ROOT, env=environ(), capture_output=True, text=True
    )


def events(done: subprocess.CompletedProcess[str]) -> list[dict]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def files(base: Path, name: str = "*robot*", run: str = "*robot*") -> dict[str, bytes]:
    """What trainings and savings left, by path below a base; of all subjects, or of one."""
    found = [*base.glob(f"models/*/{name}.*"), *base.glob(f"output/attndb/{run}/*")]
    return {
        path.relative_to(base).as_posix(): path.read_bytes()
        for path in found
        if path.is_file() and path.name != "lock"
    }


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A home of ComfyUI's with the file of the document in it."""
    home = tmp_path_factory.mktemp("headless")
    draw_photos(home / "photos" / "hatted-robot")
    (home / "subjects.yaml").write_text(example(), encoding="utf-8")
    return home


@pytest.fixture(scope="module")
def done(base: Path) -> subprocess.CompletedProcess[str]:
    return headless(base / "subjects.yaml", "--json", base=base)


def graph(folder: str) -> dict:
    """The document's file as a user would draw it."""
    made = Graph()
    model = made.add("AttnDBLoadMicroModel")

    def dataset(placeholder: str) -> list:
        return made.add(
            "AttnDBLoadConceptDataset",
            folder="(typed path)",
            path=folder,
            category="robot",
            placeholder=placeholder,
            template="a photo of a {}",
            skip_broken=False,
        )[0]

    shared = {
        "model": model[0],
        "clip": model[1],
        "vae": model[2],
        "seed": 7,
        "resolution": 64,
        "micro_batch": 0,
        "precision": "auto",
        "augmentation": "none",
        "mask_fill": True,
        "latent_pool": -1,
        "category_tie": "last word",
        "checkpoint_every": 50,
    }
    concept = None
    photos = dataset("<my-robot>")
    for number, name, rate, weights in (
        (1, "LearnEmbedding", 5e-3, (0.1, 0.0)),
        (2, "TrainCrossAttention", 1e-4, (2.0, 5.0)),
        (3, "TrainUNet", 5e-5, (2.0, 4.0)),
    ):
        tied = made.add(
            "AttnDBAttentionMapRegularization",
            mean_weight=weights[0],
            variance_weight=weights[1],
            layers="all",
        )
        stage = made.add(
            f"AttnDBStage{number}{name}",
            **shared,
            dataset=photos,
            steps=STEPS,
            learning_rate=rate,
            batch_size=4,
            regularization=tied[0],
            **({} if concept is None else {"concept": concept}),
            **({"vectors": 1} if number == 1 else {}),
        )
        concept = stage[0]
    both = made.add(
        "AttnDBTrainComparedMethod",
        **shared,
        dataset=dataset("<both-robot>"),
        **{
            "method": "TI+DB",
            "method.steps": STEPS,
            "method.learning_rate": 1e-4,
            "method.batch_size": 4,
        },
    )
    made.add("AttnDBSaveConcept", concept=concept, name="my-robot")
    made.add("AttnDBSaveConcept", concept=both[0], name="my-robot-both")
    return made.prompt


def test_a_graph_and_the_command_leave_the_same_bytes(server: HostServer, base, done):
    draw_photos(server.base / "input" / "robots for headless")
    server.run(graph("robots for headless"), timeout=500)
    theirs, ours = files(server.base), files(base)
    assert len(ours) == 4 * 3 + 4, (sorted(ours), done.stderr)
    assert {name: theirs.get(name) == content for name, content in ours.items()} == dict.fromkeys(
        ours, True
    )


def test_a_subject_that_fails_stops_no_other_and_the_exit_status_says_so(done):
    assert done.returncode == 1, done.stderr
    told = events(done)
    assert told[0] == {
        "event": "begin",
        "subjects": ["my-robot", "my-hatted-robot", "my-robot-both"],
    }
    [failed] = [event for event in told if event["event"] == "failed"]
    assert failed["subject"] == "my-hatted-robot" and "masks is 'alpha'" in failed["error"]
    assert told[-1] == {
        "event": "end",
        "trained": ["my-robot", "my-robot-both"],
        "failed": ["my-hatted-robot"],
        "not_begun": [],
    }


def test_the_lines_tell_every_step_and_where_the_files_are(done, base):
    told = [event for event in events(done) if event.get("subject") == "my-robot"]
    steps = [event for event in told if event["event"] == "step"]
    assert [step["done"] for step in steps] == list(range(1, 3 * STEPS + 1))
    assert {step["total"] for step in steps} == {3 * STEPS}
    log = (base / told[-2]["folder"] / "losses.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in log] == [
        step["loss"]["total"] for step in steps if step["stage"] == "stage 3"
    ]
    saved = told[-1]
    assert saved["event"] == "saved" and saved["trigger"] == "<my-robot> robot"
    assert [Path(path).is_file() for path in saved["files"]] == [True, True]


def test_two_processes_together_train_what_one_does(done, base, tmp_path):
    """Under torchrun: stages and losses (to 1e-5) of one process; one of them saves."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    program = command(base / "subjects.yaml", "--together", "--only", "my-robot", base=tmp_path)[1:]
    ended = subprocess.run(
        [*start, *program, "--output-directory", str(tmp_path / "output")],
        cwd=ROOT,
        env=environ(),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("write: <my-robot> robot") == 1
    for number in (1, 2, 3):  # after the first each goes on from its own concept, equal to rounding
        [ours] = tmp_path.glob(f"output/attndb/my-robot-stage{number}-*/losses.jsonl")
        ours, *theirs = (
            [json.loads(line)["loss"] for line in path.read_text().splitlines()]
            for path in [ours, *base.glob(f"output/attndb/my-robot-stage{number}-*/losses.jsonl")]
        )
        assert pytest.approx(ours, rel=1e-5) in [losses[:STEPS] for losses in theirs]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """A file, and beside it a folder of three subjects."""
    home = tmp_path_factory.mktemp("folders")
    write_folders(home)
    return home


def test_processes_share_the_subjects_of_a_folder(folders, tmp_path):
    """Two of torchrun's: each trains its own and saves them."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    asked = (folders / "all.yaml", "--subjects", folders / "subjects", "--json")
    ended = subprocess.run(
        [*start, *command(*asked, base=tmp_path)[1:]],
        cwd=ROOT,
        env=environ(),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    told = [json.loads(line) for line in ended.stdout.splitlines()]
    begun = [event["subjects"] for event in told if event["event"] == "begin"]
    assert sorted(begun) == [["my-first", "my-third"], ["own-name"]]
    saved = [event["name"] for event in told if event["event"] == "saved"]
    assert sorted(saved) == ["my-first", "my-third", "own-name"]
    files = [path.stem for path in tmp_path.glob("models/embeddings/*.safetensors")]
    assert sorted(files) == sorted(saved)


@dataclass(frozen=True)
class Stopped:
    """A program that a batch system ended in mid-training, if this one can, and started again."""

    base: Path
    code: int | None
    last: dict
    checkpoints: list[Path]
    again: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def stopped(done, base, tmp_path_factory) -> Stopped:
    """On its first subject, SIGTERM after a step of stage 2; the second was trained before."""
    home = tmp_path_factory.mktemp("stopped")
    for name, content in files(base, *SECOND).items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    asked = (base / "subjects.yaml", "--only", "my-robot", "--only", "my-robot-both")
    code, last = None, {}
    if sys.platform != "win32":
        with subprocess.Popen(
            command(*asked, "--json", base=home),
            cwd=ROOT,
            env=environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as running:
            assert running.stdout is not None
            for line in running.stdout:
                last = json.loads(line)
                if last["event"] == "step" and last["done"] == STEPS + 1:
                    running.send_signal(signal.SIGTERM)
            code = running.wait(60)
    checkpoints = list(home.glob("output/attndb/*/checkpoint.safetensors"))
    return Stopped(home, code, last, checkpoints, headless(*asked, base=home))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to be caught")
def test_a_batch_system_that_ends_it_loses_no_step(stopped, base):
    """SIGTERM: a checkpoint, exit status 143; started again, the bytes of one run."""
    assert stopped.code == 128 + signal.SIGTERM
    assert stopped.last["not_begun"] == ["my-robot", "my-robot-both"]
    [checkpoint] = stopped.checkpoints
    assert "stage2" in checkpoint.parent.name
    assert stopped.again.returncode == 0, stopped.again.stderr
    ours, theirs = files(stopped.base), files(base)
    results = [name for name in ours if name.endswith("result.safetensors")]
    assert len(results) == 3 + 1
    assert all(ours[name] == theirs[name] for name in results)


def test_started_again_it_answers_from_what_is_there_and_people_see_a_bar(stopped, base):
    again = stopped.again
    assert again.returncode == 0, again.stderr
    for name, word in (("my-robot (1/2)", "<my-robot>"), ("my-robot-both (2/2)", "<both-robot>")):
        assert f"{name}: 100%" in again.stdout and f"write: {word} robot" in again.stdout
    before = files(base, *SECOND)
    assert len(before) == 3 + 2 and files(stopped.base, *SECOND) == before
