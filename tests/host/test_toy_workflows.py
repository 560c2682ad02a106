"""Shipped graphs on the embedded model run in a real server; one short stage stands for all."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from safetensors import safe_open
from support.server import HostServer
from support.shipped import STAGE, Shipped

from attndreambooth.attndb.artifacts.concept_files import RECORD_KEY

pytestmark = [pytest.mark.host, pytest.mark.slow]


def record_of(server: HostServer, name: str) -> dict[str, Any]:
    path = server.base / "models" / "loras" / f"{name}.safetensors"
    with safe_open(str(path), "np") as file:
        return json.loads(file.metadata()[RECORD_KEY])


def saved(graph: Shipped, name: str) -> None:
    """The graph keeps its concept, too."""
    [train] = graph.ids(STAGE)
    inputs = {"concept": [train, 0], "name": name}
    graph.prompt["saved"] = {"class_type": "AttnDBSaveConcept", "inputs": inputs}


def test_masks_and_captions_trains_with_both_and_shows_them(server):
    graph = Shipped(server, "Masks and captions")
    saved(graph, "toy-masked")
    outcome = graph.run()
    [preview], [picture] = graph.ids("AttnDBPreviewDataset"), graph.ids("SaveImage")
    assert outcome.outputs[picture]["images"]
    [shown] = outcome.outputs[preview]["text"]
    [dataset] = graph.ids("AttnDBConceptDatasetFromImages")
    captions = graph.prompt[dataset]["inputs"]["captions"].splitlines()
    assert len(captions) > 1 and all(f"| {text.split()[-1]}\n" in shown for text in captions)
    shares = [int(share) for share in re.findall(r"subject (\d+)%", shown)]
    assert len(shares) == len(captions) and all(0 < share < 90 for share in shares)
    photos = record_of(server, "toy-masked")["photos"]
    assert [photo["caption"] for photo in photos] == captions


def test_no_class_images_trains_held_to_the_base(server):
    graph = Shipped(server, "No class images")
    saved(graph, "toy-held")
    outcome = graph.run()
    assert all(outcome.outputs[key]["images"] for key in graph.ids("SaveImage"))
    [stage] = record_of(server, "toy-held")["stages"]
    assert stage["prior_prediction"] == 1.0 and "prior_prediction" in stage["loss_names"]


def test_extract_lora_draws_the_whole_and_the_thin_one_and_keeps_it(server):
    graph = Shipped(server, "Extract LoRA")
    outcome = graph.run()
    pictures = graph.ids("SaveImage")
    assert len(pictures) == 2 and all(outcome.outputs[key]["images"] for key in pictures)
    [save] = graph.ids("AttnDBSaveConcept")
    name = graph.prompt[save]["inputs"]["name"]
    record = record_of(server, name)
    [extract] = graph.ids("AttnDBExtractLoRA")
    assert record["extraction"]["rank"] == graph.prompt[extract]["inputs"]["rank"]
    assert (server.base / "models" / "embeddings" / f"{name}.safetensors").is_file()


@pytest.mark.parametrize("name", ["Teach a subject (toy model)", "Two concepts", "Prior images"])
def test_a_graph_draws_every_picture_that_it_saves(server, name):
    graph = Shipped(server, name)
    for key in graph.ids("AttnDBSaveConcept"):  # other tests want the shipped name for theirs
        graph.prompt[key]["inputs"]["name"] = "toy-as-shipped"
    outcome = graph.run()
    pictures = graph.ids("SaveImage")
    assert pictures and all(outcome.outputs[key]["images"] for key in pictures)
