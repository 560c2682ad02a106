"""The host's assets (`--enable-assets`): what its scanner reads of the files of Save Concept."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.pictured import pictured

from attndreambooth.attndb.artifacts.concept import TrainedConcept
from attndreambooth.devkit.host_path import host_root


@pytest.fixture
def scanner(host):
    """The host's own reading of a file, and of its place; older hosts have none."""
    if not (host_root() / "app/assets/services/metadata_extract.py").is_file():
        pytest.skip("this host has no such scanner")
    from app.assets.services.metadata_extract import extract_file_metadata
    from app.assets.services.path_utils import get_name_and_tags_from_asset_path

    def read(path: Path) -> tuple[str, list[str], dict]:
        name, tags = get_name_and_tags_from_asset_path(str(path))
        return name, tags, extract_file_metadata(str(path)).to_user_metadata()

    return read


@pytest.fixture
def concept() -> TrainedConcept:
    return pictured()


def saved(home: Path, run, concept: TrainedConcept, name: str, metadata: str) -> list[Path]:
    """The embedding file and the weight file."""
    run("AttnDBSaveConcept", concept=concept, name=name, metadata=metadata)
    return [home / kind / f"{name}.safetensors" for kind in ("embeddings", "loras")]


def is_of_kind(path: Path, tags: list[str]) -> bool:
    """Whether the tags say what kind of model lies there; older hosts write the folder alone."""
    kind = path.parent.name
    return f"model_type:{kind}" in tags or kind in tags


def test_the_scanner_reads_words_base_model_and_picture_of_both_files(home, run, scanner, concept):
    for path in saved(home, run, concept, "listed", "for managers"):
        name, tags, told = scanner(path)
        assert name == "listed.safetensors"
        assert "models" in tags and is_of_kind(path, tags)
        assert told["trained_words"] == ["<my-robot> robot"]
        assert told["base_model"] == "sd_v1"
        assert told["has_preview_images"] is True
        assert told["content_length"] == path.stat().st_size


def test_of_a_plain_record_it_reads_name_and_place_alone(home, run, scanner, concept):
    for path in saved(home, run, concept, "unlisted", "record"):
        name, tags, told = scanner(path)
        assert name == "unlisted.safetensors" and is_of_kind(path, tags)
        assert not {"trained_words", "base_model", "has_preview_images"} & set(told)
