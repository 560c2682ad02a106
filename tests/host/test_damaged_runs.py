"""Disk rot between two queues of a real server: what was kept is named, set aside, not trained on,
and the training ends in the bytes that it would have had."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open
from support.graph import Graph
from support.outcome import ExecutionFailed
from support.training import FaultyServer, kept, training

from attndreambooth.attndb.artifacts.checked_file import checked_writer
from attndreambooth.attndb.artifacts.tensor_file import read_tensors, write_whole

pytestmark = [pytest.mark.host, pytest.mark.slow]

STEPS, STOPPED = 3, 2


def saved(stage: int = 2, **widgets) -> dict:
    """A prompt that trains and saves under the name of `rotten`."""
    graph = Graph()
    training(graph, stage, save="rotten", steps=STEPS, batch_size=1, **widgets)
    return graph.prompt


@pytest.fixture(scope="module")
def expected(_faulty: FaultyServer) -> dict[str, bytes]:
    """What the prompt leaves when nothing goes wrong."""
    _faulty.fault(None)
    _faulty.forget("*")
    _faulty.run(saved())
    files = kept(_faulty.base, "rotten")
    _faulty.forget("rotten")
    assert any(name.endswith("result.safetensors") for name in files)
    return files


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[int(0.7 * len(content))] ^= 4
    path.write_bytes(content)


def zero_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def shorten_losses(path: Path) -> None:
    """The list alone, under a checksum that is right."""
    tensors, metadata = read_tensors(path)
    losses = json.loads(metadata["losses"])
    losses["losses"].pop()
    plain = {key: text for key, text in metadata.items() if key != "attndb.checksum"}
    write_whole({path: checked_writer(tensors, {**plain, "losses": json.dumps(losses)})})


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a zeroed half": zero_half,
    "one flipped bit": flip,
    "a shortened loss list": shorten_losses,
}


def without_aside(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if "damaged-" not in name}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_stage_ends_in_the_same_bytes(faulty, expected, kind):
    faulty.fault("nan", after=STOPPED)
    with pytest.raises(ExecutionFailed):
        faulty.run(saved())
    faulty.fault(None)
    folder = faulty.run_folder()
    checkpoint = folder / "checkpoint.safetensors"
    with safe_open(str(checkpoint), "np") as file:
        assert json.loads(file.metadata()["steps"]) == STOPPED
    DAMAGE[kind](checkpoint)
    outcome = faulty.run(saved())
    assert f"{checkpoint} is damaged: " in faulty.log()
    assert (folder / "damaged-checkpoint.safetensors").is_file()
    assert any("the checkpoint was damaged" in text for text in outcome.texts())
    assert without_aside(kept(faulty.base, "rotten")) == expected


@pytest.mark.parametrize("kind", ["one flipped bit", "a shortened loss list"])
def test_a_damaged_result_is_named_and_trained_again(faulty, expected, kind):
    faulty.run(saved())
    result = faulty.run_folder() / "result.safetensors"
    DAMAGE[kind](result)
    faulty.free()
    faulty.run(saved())
    assert f"{result} is damaged: " in faulty.log()
    assert without_aside(kept(faulty.base, "rotten")) == expected


def test_the_result_of_another_stage_in_its_place_is_not_taken(faulty, expected):
    faulty.run(saved(3))
    other = faulty.run_folder()
    faulty.run(saved())
    [folder] = [f for f in faulty.base.glob("output/attndb/*") if f != other]
    shutil.copy(other / "result.safetensors", folder / "result.safetensors")
    shutil.rmtree(other)
    for path in faulty.base.glob("models/*/rotten*.safetensors"):
        path.unlink()
    faulty.free()
    faulty.run(saved())
    assert "it belongs to another training" in faulty.log()
    assert without_aside(kept(faulty.base, "rotten")) == expected
