"""A stage that trains is ended from the page, and the graph goes on with what it learned."""

from __future__ import annotations

import re

import pytest
from support.graph import Graph
from support.page_text import as_seen
from support.training import training

pytestmark = [pytest.mark.host, pytest.mark.browser, pytest.mark.slow]

TEXTS = """() => app.graph._nodes.flatMap(n => (n.widgets ?? [])
    .filter(w => w.type === 'progressText').map(w => w.value))"""


def test_a_button_ends_the_stage_and_the_graph_goes_on(front_end, server, renderer):
    graph, name = Graph(), f"ended-{renderer}"
    stage = training(graph, save=name, steps=4000, batch_size=2, seed=31 + renderer)
    front_end.load_prompt(graph.prompt)
    before = front_end.graph()
    front_end.start()
    button = front_end.page.get_by_role("button", name="End this stage")
    try:
        front_end.wait_for_text("step ", 240)
        button.wait_for(timeout=30_000)
        front_end.fit()  # the tests before may have left the canvas anywhere
        button.click()
        front_end.wait_for_text("done in ", 120)
    finally:
        front_end.cancel()
    front_end.page.wait_for_timeout(1000)
    [text] = [text for text in front_end.page.evaluate(TEXTS) if "done in" in text]
    assert front_end.page.get_by_text("write: <my-robot> robot").first.is_visible()
    text = as_seen(text)
    done = re.search(r"was ended at step (\d+) of 4000; to train the rest delete output/", text)
    assert done and int(done[1]) > 0, text
    assert "kept in output/attndb/" in text and "write: <my-robot>" in text
    assert button.count() == 0
    values = [
        next(n["widgets_values"] for n in saved["nodes"] if n["id"] == int(stage.id))
        for saved in (before, front_end.graph())
    ]
    assert values[0] == values[1], "the button is not saved"
    assert front_end.errors == []
    assert (server.base / "models" / "loras" / f"{name}.safetensors").is_file(), "it went on"
