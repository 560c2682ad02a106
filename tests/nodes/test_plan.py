"""What a node says of all its stages: the time that is left, and what it says when it ends."""

from __future__ import annotations

import pytest
from support.clock import Clock

from attndreambooth.attndb.config.presets import paper


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def plan(host, clock):
    """Three stages of 10, 20 and 30 steps; a step of the last takes twice as long."""
    from attndreambooth.nodes.host.ui.plan import NodePlan, StagePlan

    stages = [StagePlan("Stage 1 of 3", 10), StagePlan("Stage 2 of 3", 20)]
    return NodePlan([*stages, StagePlan("Stage 3 of 3", 30, 2.0)], clock)


def test_the_time_left_is_that_of_all_stages_with_what_each_takes_before_its_first_step(
    plan, clock
):
    plan.begin(0)
    clock.now = 5.0  # loading and encoding
    plan.step(1, None)
    assert plan.left() is None
    plan.step(4, 2.0)
    # 6 steps at 0.5 s; 5 s and 20 steps at 0.5 s; 5 s and 30 steps at 1 s.
    assert plan.left() == pytest.approx(3 + 5 + 10 + 5 + 30)
    plan.begin(1)
    assert (plan.done, plan.total, plan.title) == (10, 60, "Stage 2 of 3")
    assert plan.left(first=7.0) == pytest.approx(7 + 10 + 5 + 30)
    clock.now = 20.0
    plan.step(1, None)  # 15 s before its first step: from now on 10 s are expected
    assert plan.left() == pytest.approx(19 * 0.5 + 10 + 30)


def test_the_time_left_comes_to_nothing_at_the_end(plan):
    plan.begin(2)
    plan.step(30, 1.0)
    assert plan.left() == 0.0
    assert plan.done == plan.total


def test_a_dearer_stage_tells_the_pace_of_a_cheaper_one(host, clock):
    from attndreambooth.nodes.host.ui.plan import NodePlan, StagePlan

    plan = NodePlan([StagePlan("dear", 1, 4.0), StagePlan("cheap", 6, 2.0)], clock)
    plan.step(1, 1.0)
    assert plan.left() == pytest.approx(6 * 0.5)


def test_the_published_stages_are_planned_with_their_steps_and_batches(host):
    from attndreambooth.nodes.host.ui.plan import plan_of

    plan = plan_of(["1", "2", "3"], paper())
    assert [stage.steps for stage in plan.stages] == [60, 100, 500]
    assert plan.stages[2].cost == pytest.approx(1.5 * plan.stages[1].cost)


def test_the_lines_tell_steps_of_all_and_the_time_left_of_all(plan, clock):
    from attndreambooth.nodes.host.ui.status import encoding_line, step_line

    assert encoding_line(plan, 1, 40, None) == "encoding photo crop 1/40"
    assert encoding_line(plan, 2, 40, 38.0) == "encoding photo crop 2/40  38 s until step 1"
    plan.begin(1)
    plan.step(5, 2.0)
    assert step_line(plan, 2.0) == "step 15/60  2.00 it/s  38 s left"
    plan.begin(2)
    assert encoding_line(plan, 2, 40, 38.0) == "encoding photo crop 2/40  1 min 8 s left"


def test_after_cancel_the_node_says_what_is_kept_and_how_to_go_on(plan):
    from attndreambooth.nodes.host.ui.status import stopped_text

    assert stopped_text(plan) == "stopped before a step was made; run again to go on"
    plan.begin(1)
    plan.step(5, 2.0)
    assert stopped_text(plan) == "kept at step 15 of 60; run again to go on"
    assert stopped_text(plan, failed=True) == (
        "stopped by an error at step 15 of 60; what was done is kept"
    )
    plan.trouble = lambda: "the disk is full"
    assert stopped_text(plan) == "stopped at step 15 of 60\nthe disk is full"


def test_at_the_end_the_node_says_the_words_and_where_the_work_lies(plan, clock):
    from attndreambooth.nodes.host.ui.status import finished_text

    plan.folder = "output/attndb/my-dog-stage3-0123"
    kept = "kept in output/attndb/my-dog-stage3-0123; Save Concept makes files of it"
    assert finished_text(plan, "<my-dog> dog") == f"finished before; write: <my-dog> dog\n{kept}"
    plan.step(30, 1.0)
    clock.now = 65.0
    assert finished_text(plan, "<my-dog> dog") == (
        f"done in 1 min 5 s; write: <my-dog> dog\n{kept}"
    )
    plan.not_kept = "no room"
    assert finished_text(plan, "<my-dog> dog").endswith("\nno room")
