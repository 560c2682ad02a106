"""Files of anybody in models/embeddings: bad ones of every kind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file

from attndreambooth.attndb.artifacts.concept import TrainedConcept
from attndreambooth.attndb.artifacts.concept_files import RECORD_KEY, concept_files
from attndreambooth.attndb.artifacts.tensor_file import write_whole

RECORDS = {
    "nested": "[" * 100_000,
    "nested-tables": '{"a":' * 100_000,
    "list": '["placeholder", "category"]',
    "string": '"placeholder category base_family digest has_weights"',
    "number": "5",
    "no-json": "{",
    "wrong-types": json.dumps(
        {"placeholder": [], "category": 5, "base_family": None, "digest": 1, "has_weights": "yes"}
    ),
}


def spoil(folder: Path) -> list[str]:
    """Puts them there, and one good concept among them; the names of the bad ones that are read."""
    for name, record in RECORDS.items():
        save_file(
            {"clip_l": torch.ones(1, 8)}, folder / f"{name}.safetensors", {RECORD_KEY: record}
        )
    contents = {
        "empty": b"",
        "garbage": b"\xff" * 500,
        "endless-header": (1 << 50).to_bytes(8, "little") + b"{" * 500,
        "large-header": (90_000_000).to_bytes(8, "little") + b'{"a":',
        "cut-off": (1000).to_bytes(8, "little") + b'{"a":',
    }
    for name, content in contents.items():
        (folder / f"{name}.safetensors").write_bytes(content)
    (folder / "a-folder.safetensors").mkdir()
    (folder / "dangling.safetensors").symlink_to(folder / "nowhere")
    (folder / "loop.safetensors").symlink_to(folder / "loop.safetensors")
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "unreadable.safetensors").write_bytes(b"\xff")
    (folder / "unreadable.safetensors").chmod(0)
    with open(os.fsencode(folder) + b"/M\xfcller.safetensors", "wb") as latin:
        latin.write(b"\xff")
    concept = TrainedConcept(
        placeholder="<x>",
        category="dog",
        text_key="clip_l",
        vectors=torch.ones(1, 8),
        base_family="SD 1.5",
    )
    files = concept_files(concept, "good", folder / "good.safetensors", folder / "none")
    write_whole(files)
    return [*RECORDS, *contents]
