"""Files of diffusers through a real server: exported, changed by others, imported, saved, drawn."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.graph import Graph

from attndreambooth.devkit.checkpoints import make_checkpoint

pytestmark = pytest.mark.host

CHANGED = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v.weight"


def test_a_u_net_that_others_trained_comes_in_where_the_exported_one_went_out(server):
    checkpoint = server.add_model(make_checkpoint("sd15"))
    word = torch.randn(768, generator=torch.Generator().manual_seed(1))
    torch.save({"new_concept_v0": word}, server.base / "models/embeddings/theirs.bin")
    graph = Graph()
    model = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint)
    given = {"model": model[0], "lora": "(none)", "category": "person", "placeholder": "<astro>"}
    concept = graph.add("AttnDBImportConcept", **given, embedding="theirs.bin")
    export = {"concept": concept[0], "name": "out", "precision": "fp32"}
    graph.add("AttnDBExportToDiffusers", model=model[0], **export)
    server.run(graph.prompt)
    out = server.base / "output/diffusers/out"
    assert {path.name for path in out.parent.iterdir()} == {"out"}

    there = server.base / "models/diffusers"
    there.mkdir(parents=True, exist_ok=True)
    out.rename(there / "trained")
    weights = there / "trained/unet/diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    state[CHANGED] += 0.25
    save_file(state, weights)
    spec = server.object_info()["AttnDBImportConcept"]["input"]
    embedding = "diffusers/trained/learned_embeds.safetensors"
    assert "trained" in str(spec["optional"]["unet"]) and embedding in str(spec["required"])

    graph = Graph()
    model = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint)
    given |= {"model": model[0], "embedding": embedding, "unet": "trained"}
    concept = graph.add("AttnDBImportConcept", **given)
    graph.add("AttnDBSaveConcept", concept=concept[0], name="changed")
    server.run(graph.prompt)
    saved = load_file(server.base / "models/loras/changed.safetensors")
    [(name, change)] = saved.items()
    assert name.endswith("attn2.to_v.diff") and (change.float() - 0.25).abs().max() < 1e-3
    assert torch.equal(
        load_file(server.base / "models/embeddings/changed.safetensors")["clip_l"][0], word
    )
