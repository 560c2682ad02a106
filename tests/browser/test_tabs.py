"""What a node says, and its picture, belong to the workflow that its job was queued from."""

from __future__ import annotations

import itertools
import time

import pytest
from support.graph import Graph
from support.training import training

pytestmark = [pytest.mark.host, pytest.mark.browser, pytest.mark.slow]

SHOWS = """() => {
    const node = app.graph._nodes.find(n => n.type.startsWith('AttnDBStage'));
    const text = node.widgets.find(w => w.type === 'progressText')?.value ?? '';
    const picture = (app.nodePreviewImages?.[node.id] ?? []).length > 0;
    return [text, node.widgets.some(w => w.name === 'end_stage'), picture];
}"""
seeds = itertools.count(int(time.time()) % 10**6)
numbers = itertools.count(1)


def two_tabs(front_end, steps):
    """Names of two tabs with the same graph, which trains so long; the first one is open."""
    number = next(numbers)
    first, second = f"first {number}", f"second {number}"
    graph = Graph()
    training(graph, steps=steps, batch_size=2, seed=next(seeds), save=f"tab-{number}")
    front_end.load_prompt(graph.prompt)
    workflow = front_end.graph()
    front_end.open_tab(workflow, second)
    front_end.open_tab(workflow, first)
    return first, second


def shown(front_end):
    """Of the node that trains: its text, whether it has the button, and whether a picture."""
    return tuple(front_end.page.evaluate(SHOWS))


def test_what_a_node_said_last_is_there_after_an_undo_and_after_a_run_that_skips_it(
    front_end, renderer
):
    two_tabs(front_end, steps=2)
    front_end.run(240)
    front_end.wait_for_text("done in ", 20)
    said = shown(front_end)[0]
    front_end.move_and_undo()
    front_end.wait_for_text("done in ", 20)
    front_end.run(240)  # nothing to do: the host keeps what it made
    front_end.page.wait_for_timeout(1500)
    assert shown(front_end)[0] == said
    assert front_end.errors == []


def test_what_a_node_said_last_and_its_picture_are_there_when_its_tab_is_opened_again(
    front_end, renderer
):
    first, second = two_tabs(front_end, steps=40)
    front_end.run(240)
    front_end.wait_for_text("done in ", 20)
    said = shown(front_end)
    assert said[2], "a curve"
    front_end.show_tab(second)
    assert shown(front_end) == ("", False, False)
    front_end.show_tab(first)
    front_end.wait_for_text("done in ", 20)
    assert shown(front_end) == said
    front_end.show_tab(second)
    front_end.page.wait_for_timeout(1500)
    assert shown(front_end) == ("", False, False)
    assert front_end.errors == []


def test_a_job_tells_nothing_to_a_node_of_the_same_number_in_another_tab(front_end, renderer):
    first, second = two_tabs(front_end, steps=4000)
    front_end.start()
    try:
        front_end.wait_for_text("step ", 240)
        front_end.show_tab(second)
        front_end.page.wait_for_timeout(5000)  # of steps and of a picture
        assert shown(front_end) == ("", False, False)
        front_end.show_tab(first)
        front_end.wait_for_text("step ", 20)
        assert shown(front_end)[1:] == (True, True)
        front_end.show_tab(second)
    finally:
        front_end.cancel()
    front_end.page.wait_for_timeout(3000)
    assert shown(front_end) == ("", False, False)
    front_end.show_tab(first)
    front_end.wait_for_text("kept at step ", 20)
    assert shown(front_end)[1:] == (False, True)
    assert front_end.errors == []
