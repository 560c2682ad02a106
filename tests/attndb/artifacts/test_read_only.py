"""On a read-only disk everything that writes says so by the file's name, and the rest goes on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.read_only import read_only
from support.small_run import REQUEST

from attndreambooth.attndb.artifacts.folder_claim import claim_folder, folder_holds
from attndreambooth.attndb.artifacts.foreign_files import read_foreign_embedding
from attndreambooth.attndb.artifacts.name_claim import claim_whole
from attndreambooth.attndb.artifacts.partial_files import remove_stale_partial_files
from attndreambooth.attndb.artifacts.tensor_file import text_writer, write_whole
from attndreambooth.attndb.data.latent_cache import LatentCache
from attndreambooth.attndb.training.run import Run


@pytest.fixture
def disk():
    """A folder with a file in it, read-only while a test looks at it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "there.txt").write_text("there")
        save_file({"clip_l": torch.ones(1, 768)}, folder / "e.safetensors")
        (folder / "e.safetensors").chmod(0o644)
        yield folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_whole({folder / "new.txt": text_writer("a")}),
        lambda folder: write_whole({folder / "deep" / "new.txt": text_writer("a")}),
        lambda folder: write_whole({folder / "there.txt": text_writer("new.txt")}),
        lambda folder: claim_whole({folder / "new.txt": text_writer("a")}),
        lambda folder: claim_folder(folder / "new", {"new.txt": text_writer("a")}),
        lambda folder: Run(folder / "new", REQUEST).__enter__(),
    ],
)
def test_what_cannot_be_written_is_named_with_the_remedy_and_nothing_is_left(disk, write):
    before = names(disk)
    with read_only(disk), pytest.raises(OSError, match=r"nothing was saved.*allow writing") as told:
        write(disk)
    assert str(disk) in str(told.value)
    assert names(disk) == before and (disk / "there.txt").read_text() == "there"


def test_what_is_there_is_read_and_known(disk):
    with read_only(disk):
        assert read_foreign_embedding(disk / "e.safetensors").vectors.shape == (1, 768)
        assert folder_holds(disk, {"there.txt": text_writer("there")})
        assert remove_stale_partial_files(disk) == []


def test_latents_that_cannot_be_kept_are_warned_of_once_and_training_goes_on(disk, caplog):
    cache = LatentCache(disk / "latents", {"vae": "a"})
    crops = [(torch.zeros(4, 8, 8), torch.ones(1, 8, 8))]
    with read_only(disk):
        for _ in range(2):
            cache.write({"photo": "a"}, crops)
            cache.tidy()
            assert cache.read({"photo": "a"}, 1) == []
    [line] = [record.getMessage() for record in caplog.records]
    assert "cannot be kept" in line and "The training goes on" in line


def test_latents_of_before_are_read_from_it(disk):
    cache = LatentCache(disk / "latents", {"vae": "a"}, limit=0.0)
    kept = LatentCache(disk / "latents", {"vae": "a"})
    crops = [(torch.zeros(4, 8, 8), torch.ones(1, 8, 8))]
    kept.write({"photo": "a"}, crops)
    for path in (disk / "latents").iterdir():
        path.chmod(0o644)
    with read_only(disk):
        cache.tidy()  # it would remove them, and cannot
        found = kept.read({"photo": "a"}, 1)
    assert found
    [(latent, _)] = found
    assert latent.shape == (4, 8, 8)
