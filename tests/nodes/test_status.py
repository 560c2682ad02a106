"""The text under a training node: its words, its pace, how often it comes, and when it cannot."""

from __future__ import annotations

import re
import sys
from html import unescape
from types import SimpleNamespace
from typing import Any

import pytest
from support.page_text import as_seen

from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.training.step_loss import StepLoss


@pytest.fixture
def shown(host, monkeypatch):
    """What a server with a text message was asked to show, as (text, node), by one page."""
    texts: list[tuple[str, str]] = []

    def send(text, node, client):
        assert client == "the page that asked"
        texts.append((as_seen(text), node))

    instance = SimpleNamespace(
        send_progress_text=send, last_node_id="7", client_id="the page that asked"
    )
    server = SimpleNamespace(PromptServer=SimpleNamespace(instance=instance))
    monkeypatch.setitem(sys.modules, "server", server)
    return texts


@pytest.mark.parametrize(
    ("node", "title"), [("7", "Stage 1"), ("12:7", "Stage 1   step 1/9"), (None, "Stage 1")]
)
def test_in_a_subgraph_the_curve_says_how_far_it_is(shown, monkeypatch, node, title):
    """The page shows pictures on the subgraph's node, and texts inside alone."""
    from attndreambooth.nodes.host.ui import progress

    sys.modules["server"].PromptServer.instance.last_node_id = node
    titles, plain = [], progress.loss_curve

    def curve(losses, title, **more):
        titles.append(title)
        return plain(losses, title, **more)

    monkeypatch.setattr(progress, "loss_curve", curve)
    monkeypatch.setattr(progress, "_CURVE_EVERY_S", 0.0)
    progress.TrainingProgress("Stage 1", 9)(
        StepLoss(0, {"denoising": 0.1, "attention_map": 0.2}), training()
    )
    assert titles == [title]


def test_after_a_resume_the_curve_begins_at_the_step_where_the_training_goes_on(shown, monkeypatch):
    from attndreambooth.attndb.viz.axes import Axes
    from attndreambooth.nodes.host.ui import progress

    ends = []
    monkeypatch.setattr(progress, "_CURVE_EVERY_S", 0.0)
    monkeypatch.setattr(Axes, "frame", lambda axes, *given: ends.append(given))
    told = progress.TrainingProgress("Stage 1", 660)
    for step in (300, 301):
        told(StepLoss(step, {"denoising": 0.1, "attention_map": 0.2}), training())
    assert set(ends[-2:]) == {("301", "302 steps")}


def training(resumed_after=0, micro_batch=8, batch_size=8, recomputes="off"):
    optimizer = OptimizerConfig(learning_rate=1e-3)
    config = StageConfig(stage=2, steps=500, batch_size=batch_size, optimizer=optimizer)
    state = {"micro_batch": micro_batch, "recomputes": recomputes}
    return SimpleNamespace(config=config, resumed_after=resumed_after, **state)


def run(status, seconds, first=0, **state):
    """Steps from `first`, each ending so many seconds after the one before."""
    for number, second in enumerate(seconds):
        status.clock += second
        loss = StepLoss(first + number, {"denoising": 0.12134, "attention_map": 0.0021})
        status.after_step(loss, training(**state))


@pytest.fixture
def status(shown):
    from attndreambooth.nodes.host.ui.plan import NodePlan, StagePlan
    from attndreambooth.nodes.host.ui.status import TrainingStatus

    def make(trouble=str):
        def clock():
            return made.clock

        made: Any = TrainingStatus.__new__(TrainingStatus)
        made.clock = 1000.0
        made.__init__(NodePlan([StagePlan("Stage 3", 500)], clock), trouble, clock)
        return made

    return make


def test_the_line_tells_step_loss_pace_and_the_time_left(status, shown):
    run(status(), [60.0] + [0.5] * 19)  # the first step is slow and does not count
    assert shown[0] == ("step 1/500\nloss 0.1213 + 0.00210", "7")
    assert shown[-1] == ("step 20/500  2.00 it/s  4 min 0 s left\nloss 0.1213 + 0.00210", "7")


def test_the_pace_is_that_of_the_last_half_minute(status, shown):
    run(status(), [0.1] * 100 + [10.0] * 5)
    assert "  10.0 s/it  1 h 5 min left" in shown[-1][0]


def test_losses_that_come_together_are_not_a_fast_pace(status, shown):
    made = status()
    for first in range(0, 60, 6):  # six steps at a time, every half second, as from a card
        run(made, [0.5, 1e-6, 1e-6, 1e-6, 1e-6, 1e-6], first=first)
        assert (first >= 12) == ("  12.00 it/s" in shown[-1][0])
        assert (first < 12) == (" it/s" not in shown[-1][0])


def test_it_comes_at_most_twice_a_second_and_at_the_end(status, shown):
    run(status(), [0.1] * 100)
    assert 19 <= len(shown) <= 21
    shown.clear()
    run(status(), [0.1, 0.1], first=498)
    assert [text.splitlines()[0].split("  ")[0] for text, _ in shown] == [
        "step 499/500",
        "step 500/500",
    ]
    assert " left" not in shown[-1][0]


@pytest.mark.parametrize(("told", "after", "at"), [(40, 40, 41), (39, 40, 41), (499, 500, 500)])
def test_it_resumes_at_the_step_that_is_made_next(status, shown, told, after, at):
    """Whether or not it is told of the step before first, for what is drawn after that."""
    run(status(), [0.1], first=told, resumed_after=after)
    assert shown[0][0].splitlines()[1] == f"resumed at step {at}"


def test_resume_and_out_of_memory_are_told_at_once_and_stay(status, shown):
    made = status()
    run(made, [0.1] * 3, first=40, resumed_after=40)
    assert shown[0][0].startswith("step 41/500\nresumed at step 41\n")
    shown.clear()
    run(made, [0.1] * 8, first=43, micro_batch=4)
    out = "out of memory: micro-batch 8 -> 4"
    assert shown[0][0].startswith("step 44/500")
    for text, _ in shown:
        assert text.splitlines()[1:-1] == ["resumed at step 41", out]
    run(made, [0.1], first=51, micro_batch=4, recomputes="full")
    told = shown[-1][0].splitlines()[1:-1]
    assert told[2:] == ["out of memory: gradient_checkpointing -> full"]


def test_trouble_is_told_while_it_lasts(status, shown):
    trouble = [""]
    made = status(lambda: trouble[0])
    run(made, [0.1])
    trouble[0] = "no checkpoint"
    run(made, [0.1], first=1)
    assert shown[-1][0].splitlines()[1] == "no checkpoint"
    trouble[0] = ""
    run(made, [0.1], first=2)
    assert len(shown) == 3 and shown[-1][0].count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (158, "2 min 38 s"),
        (3599.9, "1 h 0 min"),
        (3900, "1 h 5 min"),
    ],
)
def test_a_duration_is_for_people(host, seconds, text):
    from attndreambooth.nodes.host.ui.status import duration

    assert duration(seconds) == text


def test_a_text_without_a_page_that_asked_goes_to_no_page(host, shown):
    from attndreambooth.nodes.host.ui.status import show_text

    sys.modules["server"].PromptServer.instance.client_id = None
    assert show_text("x") is False
    assert shown == []


def test_a_host_without_texts_or_without_a_listener_trains_all_the_same(host, monkeypatch):
    from attndreambooth.nodes.host.ui.status import show_text

    def broken(text, node, client):
        raise RuntimeError("nobody listens")

    monkeypatch.delitem(sys.modules, "server", raising=False)
    assert show_text("x") is False
    for instance in (
        SimpleNamespace(last_node_id="7", client_id="a"),
        SimpleNamespace(last_node_id=None, client_id="a", send_progress_text=lambda *_: None),
        SimpleNamespace(last_node_id="7", client_id="a", send_progress_text=broken),
    ):
        server = SimpleNamespace(PromptServer=SimpleNamespace(instance=instance))
        monkeypatch.setitem(sys.modules, "server", server)
        assert show_text("x") is False


def test_the_page_sees_a_text_as_it_is(host, monkeypatch):
    """It takes it for HTML, Nodes 2.0 for Markdown: no tag is left in it, no sign of Markdown, and
    a line ends as a line does there."""
    from attndreambooth.nodes.host.ui.status import show_text

    sent = []
    instance = SimpleNamespace(
        send_progress_text=lambda *given: sent.append(given), last_node_id="7", client_id="a"
    )
    server = SimpleNamespace(PromptServer=SimpleNamespace(instance=instance))
    monkeypatch.setitem(sys.modules, "server", server)
    text = "write: <my_dog*> dog & `cat`\n<img src=x onerror=alert(1)>\\_[a](b)"
    assert show_text(text)
    [(html, _, _)] = sent
    assert not re.search(r"[<>*_`\\\[]", html)
    first, second = html.split("\n")
    assert first.endswith("  ") and not second.endswith(" ")
    assert unescape(f"{first[:-2]}\n{second}") == text
