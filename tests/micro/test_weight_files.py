"""A shipped weight file is what the model card says, or it is refused by name."""

import argparse
import hashlib

import pytest
import torch

from attndreambooth.demo.train_micro import Workshop
from attndreambooth.micro import weight_files as weights


@pytest.fixture
def folder(tmp_path):
    """A folder with one small file and its card."""
    digest = weights.save("tiny.safetensors", {"a": torch.ones(3)}, {"steps": "7"}, tmp_path)
    card = f"| file | sha256 |\n|---|---|\n| `tiny.safetensors` | `{digest}` |\n"
    (tmp_path / weights.CARD).write_text(card)
    return tmp_path


def test_a_good_file_gives_its_tensors_and_metadata(folder):
    tensors, metadata = weights.load("tiny.safetensors", folder)
    assert tensors["a"].tolist() == [1, 1, 1] and metadata == {"steps": "7"}


@pytest.mark.parametrize("harm", ["truncate", "flip", "empty"])
def test_a_harmed_file_is_refused_by_name(folder, harm):
    path = folder / "tiny.safetensors"
    data = bytearray(path.read_bytes())
    if harm == "truncate":
        data = data[:-1]
    elif harm == "flip":
        data[-1] ^= 1
    else:
        data = b""
    path.write_bytes(data)
    with pytest.raises(weights.WeightsError, match=r"tiny\.safetensors.*truncated or altered"):
        weights.load("tiny.safetensors", folder)


def test_a_missing_file_is_named(folder):
    (folder / "tiny.safetensors").unlink()
    with pytest.raises(weights.WeightsError, match=r"tiny\.safetensors cannot be read.*Restore"):
        weights.load("tiny.safetensors", folder)


def test_a_file_without_a_line_in_the_card_is_refused(folder):
    (folder / weights.CARD).write_text("# nothing\n")
    with pytest.raises(weights.WeightsError, match=r"no sha256 for tiny\.safetensors"):
        weights.load("tiny.safetensors", folder)


def test_the_card_takes_a_new_hash_in_place(folder):
    weights.put_hash("tiny.safetensors", "0" * 64, folder)
    assert weights.card_hashes(folder) == {"tiny.safetensors": "0" * 64}
    with pytest.raises(weights.WeightsError):
        weights.put_hash("other.safetensors", "0" * 64, folder)


@pytest.mark.parametrize(
    ("name", "limit"), [(weights.MODEL, 32e6), (weights.CLIP, 6e6), (weights.JUDGES, 3e6)]
)
def test_the_shipped_files_are_small_and_those_of_the_card(name, limit):
    data = (weights.FOLDER / name).read_bytes()
    assert len(data) <= limit
    assert hashlib.sha256(data).hexdigest() == weights.card_hashes()[name]


def test_everything_that_ships_is_at_most_40_mb():
    assert sum(path.stat().st_size for path in weights.FOLDER.iterdir()) <= 40e6


def test_a_training_can_leave_the_shipped_files_alone(tmp_path):
    """With --output they are copied, and what was trained is in its own folder alone."""
    before = weights.card_hashes()
    workshop = Workshop(argparse.Namespace(work=tmp_path, output=tmp_path / "out"))
    for value in (1.0, 2.0):
        workshop._put(weights.CLIP, {"a": torch.full((2,), value)}, {"config": "{}"})
        tensors, record = weights.load(weights.CLIP, tmp_path / "out")
        assert tensors["a"].tolist() == [value, value] and record == {"config": "{}"}
    assert weights.card_hashes() == before
    changed = weights.card_hashes(tmp_path / "out").items() - before.items()
    assert {name for name, _ in changed} == {weights.CLIP}
    assert weights.load(weights.JUDGES, tmp_path / "out")[0].keys()
