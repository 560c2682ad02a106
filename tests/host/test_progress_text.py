"""What a training node says in the page that asked for it, and in no other page."""

from __future__ import annotations

import json
import re

import pytest
import websocket
from support.graph import Graph
from support.outcome import Interrupted
from support.server import TEXT, HostServer, unpacked
from support.training import training

pytestmark = [pytest.mark.host, pytest.mark.slow]


def all_stages(seed: int) -> dict:
    """A whole recipe of the embedded model: 40, 32 and 396 steps."""
    graph = Graph()
    base = graph.add("AttnDBLoadMicroModel")
    photos = graph.add("AttnDBMicroConcept", concept="hatted-robot")
    dataset = graph.add(
        "AttnDBConceptDatasetFromImages",
        images=photos[0],
        category=photos[1],
        placeholder="<my-robot>",
        template="a photo of a {}",
    )
    node = graph.add(
        "AttnDBAllStages",
        **{"model": base[0], "clip": base[1], "vae": base[2], "dataset": dataset[0]},
        **{"preset": "micro-turbo", "seed": seed, "resolution": 64, "micro_batch": 0},
        **{"precision": "fp32", "augmentation": "preset", "mask_fill": True, "latent_pool": 0},
        **{"category_tie": "last word", "checkpoint_every": 0},
    )
    graph.add("PreviewImage", images=node[3])
    return graph.prompt


def texts_of(link: websocket.WebSocket) -> list[str]:
    """The texts under nodes that a page was sent and has not read yet."""
    link.settimeout(1.0)
    found = []
    while True:
        try:
            message = link.recv()
        except websocket.WebSocketTimeoutException:
            return found
        if isinstance(message, bytes):
            data = unpacked(message)
            found += [data["text"]] if data["event"] == TEXT else []
        else:
            assert json.loads(message)["type"], message


def test_a_finished_stage_says_the_words_and_where_it_is_kept_in_one_page_only(server: HostServer):
    other = websocket.create_connection(f"ws://{server.address}/ws?clientId=other", timeout=30)
    graph = Graph()
    training(graph, seed=71)
    noted, *texts = server.run(graph.prompt).texts()
    assert noted.startswith("no concept connected: ") and texts[0].startswith("step 1/12")
    assert re.fullmatch(
        r"done in (?:\d+ min )?\d+ s; write: <my-robot> robot\n"
        r"kept in output/attndb/my-robot-stage2-\w{12}: [\d.]+ MB "
        r"\(\d+ in all, [\d.]+ [MG]B\); Save Concept makes files of it\n" + re.escape(noted),
        texts[-1],
    )
    assert texts_of(other) == []
    other.close()


def test_the_all_stages_node_tells_of_all_stages_and_after_cancel_what_is_kept(server: HostServer):
    seen: list[str] = []

    def cancel(event: dict) -> None:
        text = (event.get("data") or {}).get("text")
        if text:
            seen.append(text)
            found = re.match(r"step (\d+)/468", text)
            if found and int(found[1]) > 40:
                server.interrupt()

    with pytest.raises(Interrupted):
        server.run(all_stages(seed=72), on_event=cancel)
    lines = [text.splitlines() for text in seen]
    titles = {line for text in lines for line in text if line.startswith("Stage")}
    assert titles == {"Stage 1 of 3", "Stage 2 of 3"}
    steps = [text[0] for text in lines if text[0].startswith("step ")]
    assert re.search(r" (it/s|s/it)  ((\d+ h )?\d+ min|(\d+ min )?\d+ s) left$", steps[-2])
    kept = re.fullmatch(r"kept at step (\d+) of 468; run again to go on", seen[-1])
    assert kept and int(kept[1]) > 40
