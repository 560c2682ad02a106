"""What `dev.py test` runs for its arguments, and what a run on a card leaves."""

from __future__ import annotations

import json

import pytest

from attndreambooth.devkit import suite


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(suite.os, "cpu_count", lambda: 8)


def test_the_whole_suite_is_shared_by_two_workers_of_one_thread(two_cores):
    plan = suite.plan(["-x"])
    assert plan.arguments == ["-n", "2", "--dist", "loadgroup", "-x"]
    assert plan.environ["OMP_NUM_THREADS"] == "1" and plan.types


@pytest.mark.parametrize("named", [["tests/nodes"], ["-k", "lora"], ["-s"]])
def test_what_is_named_runs_in_one_process(two_cores, named):
    assert suite.plan(named) == suite.Plan(named)


def test_quick_is_core_and_nodes_without_a_server(two_cores):
    plan = suite.plan(["--quick"])
    assert not plan.types and "--quick" not in plan.arguments
    folders = [text for text in plan.arguments if text.startswith("tests/")]
    assert folders == ["tests/attndb", "tests/nodes", "tests/structure", "tests/house"]
    assert "not slow and not host and not browser" in plan.arguments


def test_every_piece_on_a_card_leaves_a_json_and_a_failed_one_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(suite, "REPORTS", tmp_path)
    seen = []

    def call(command, **how):
        seen.append(how["env"][suite.DEVICE])
        [report] = [text.partition("=")[2] for text in command if "junitxml" in text]
        with open(report, "w") as handle:
            handle.write(
                '<testsuites><testsuite tests="2" failures="1" errors="0" skipped="0">'
                '<testcase classname="a" name="good"><properties>'
                '<property name="peak" value="7"/></properties></testcase>'
                '<testcase classname="a" name="bad"><failure message="no"/></testcase>'
                "</testsuite></testsuites>"
            )
        return 1

    monkeypatch.setattr(suite.subprocess, "call", call)
    assert suite.run_on_card(["--device", "cuda", "--piece", "core"], {}) == 1
    found = json.loads((tmp_path / "core.json").read_text())
    assert (found["tests"], found["failures"], seen) == (2, 1, ["cuda"])
    assert found["failed"] == {"a::bad": "no"}
    assert found["measured"] == {"a::good": {"peak": "7"}}


def test_every_piece_names_tests_that_are_there():
    for paths in suite.CUDA.values():
        assert all((suite.ROOT / path).exists() for path in paths)
