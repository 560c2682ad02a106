"""What `dev.py test` runs for its arguments, and what a run on a card leaves."""

from __future__ import annotations

import importlib
import json
import subprocess

import pytest

from attndreambooth.devkit import suite, touched


@pytest.fixture
def several_cores(monkeypatch):
    machine(monkeypatch)


def machine(monkeypatch, cores: int = 8, gigabytes: float = 32) -> None:
    known = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": int(gigabytes * 1e9 / 4096)}
    monkeypatch.setattr(suite.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(suite.os, "sysconf", known.__getitem__, raising=False)


@pytest.mark.parametrize(
    ("cores", "gigabytes", "workers"), [(8, 32, "3"), (2, 16, "3"), (2, 8, "2"), (8, 4, "2")]
)
def test_the_whole_suite_is_shared_by_workers_of_one_thread(monkeypatch, cores, gigabytes, workers):
    machine(monkeypatch, cores, gigabytes)
    plan = suite.plan(["-x"])
    shared = ["-n", workers, "--dist", "loadgroup", "--no-loadscope-reorder"]
    assert plan.arguments == [*shared, "-x"]
    assert plan.environ["OMP_NUM_THREADS"] == "1" and plan.types


def test_one_core_has_one_process(monkeypatch):
    machine(monkeypatch, cores=1)
    assert suite.plan(["-x"]).arguments == ["-x"]


@pytest.mark.parametrize("named", [["tests/nodes"], ["-k", "lora"], ["-s"]])
def test_what_is_named_runs_in_one_process(several_cores, named):
    assert suite.plan(named) == suite.Plan(named)


def quick(monkeypatch, *files: str) -> list[str]:
    """The tests that `--quick` runs after a change of these files."""
    monkeypatch.setattr(suite.touched, "touched_files", lambda: list(files))
    plan = suite.plan(["--quick"])
    assert not plan.types and "not slow and not host and not browser" in plan.arguments
    assert "--no-loadscope-reorder" in plan.arguments
    assert float(plan.environ[suite.SECONDS]) < 90
    return [text for text in plan.arguments if text.startswith("tests/")]


def test_quick_takes_what_is_nearest_to_a_change_first(several_cores, monkeypatch):
    tests = quick(monkeypatch, "attndb/data/augmentation.py")
    assert tests[0] == "tests/structure"
    direct = tests.index("tests/attndb/data/test_augmentation_parts.py")
    same_room = tests.index("tests/attndb/data/test_tokens.py")
    assert direct < same_room
    far = "tests/nodes/test_export.py"  # may lie beyond the most files that are taken
    assert far not in tests or same_room < tests.index(far)


def test_quick_runs_a_changed_test_and_no_other(several_cores, monkeypatch):
    changed = "tests/attndb/data/test_mask.py"
    assert quick(monkeypatch, changed, "LICENSE") == ["tests/structure", changed]


def test_quick_knows_the_programs_without_a_server_and_the_documents(several_cores, monkeypatch):
    assert "tests/nodes/test_headless_evaluate.py" in quick(monkeypatch, "headless/evaluate.py")
    assert quick(monkeypatch, "README.md") == ["tests/structure", "tests/house/test_docs.py"]


def test_quick_finds_the_tests_of_a_node_by_its_id_and_those_of_a_page(several_cores, monkeypatch):
    tests = quick(monkeypatch, "nodes/export.py")
    assert tests.index("tests/nodes/test_export.py") < tests.index("tests/nodes/test_dataset.py")
    page = "web/docs/AttnDBExportToDiffusers.md"
    assert quick(monkeypatch, page) == ["tests/structure", "tests/nodes/test_help_pages.py"]


def test_quick_finds_the_tests_behind_what_tests_share(several_cores, monkeypatch):
    assert "tests/nodes/test_export.py" in quick(monkeypatch, "tests/support/stages.py")
    assert "tests/nodes/test_export.py" in quick(monkeypatch, "tests/nodes/conftest.py")


def test_quick_runs_a_fixed_core_where_nothing_was_touched(several_cores, monkeypatch):
    assert quick(monkeypatch) == ["tests/structure", *suite.CORE]
    assert all((suite.ROOT / path).exists() for path in suite.CORE)


def test_quick_takes_so_many_files_and_no_more(several_cores, monkeypatch):
    assert len(quick(monkeypatch, "devkit/pack.py")) == 1 + suite.QUICK_FILES


def test_touched_is_what_was_committed_since_main_changed_or_made_new(tmp_path):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    def write(*names):
        for name in names:
            (tmp_path / name).write_text(name)
            git("add", name)
        git("commit", "-m", "x")

    git("init", "-b", "main")
    write("old.py", "changed.py", "removed.py")
    assert touched.touched_files(tmp_path) == []
    git("checkout", "-b", "work")
    write("committed.py")
    (tmp_path / "changed.py").write_text("other")
    (tmp_path / "new.py").write_text("new")
    (tmp_path / "removed.py").unlink()
    found = ["changed.py", "committed.py", "new.py", "removed.py"]
    assert touched.touched_files(tmp_path) == found


def test_without_git_nothing_was_touched(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert touched.touched_files(tmp_path) == []


def test_a_test_beyond_the_time_is_left_out(monkeypatch, request):
    monkeypatch.setenv(suite.SECONDS, "-1")
    [setup] = [p for p in request.config.pluginmanager.get_plugins() if hasattr(p, "_SERVERS")]
    with pytest.raises(pytest.skip.Exception, match="left out"):
        setup.pytest_runtest_setup(request.node)


@pytest.mark.parametrize(
    ("arguments", "ran"),
    [
        (["--device", "cuda"], "on_card"),
        (["--device=cuda", "--piece", "core"], "on_card"),
        (["--device", "cpu"], "tests"),
        (["-k", "cuda"], "tests"),
    ],
)
def test_a_card_is_asked_for_by_the_device_alone(monkeypatch, arguments, ran):
    monkeypatch.syspath_prepend(suite.ROOT)
    dev, done = importlib.import_module("dev"), []
    monkeypatch.setattr(dev.suite, "run_on_card", lambda *_: done.append("on_card") or 0)
    monkeypatch.setattr(dev, "setup", lambda _: {})
    monkeypatch.setattr(dev, "run_tests", lambda *_: done.append("tests") or 0)
    assert (dev.main(["test", *arguments]), done) == (0, [ran])


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


def test_browser_runs_the_pages_tests_and_keeps_their_pictures(monkeypatch, tmp_path):
    monkeypatch.setenv(suite.SHOTS, str(tmp_path / "shots"))
    plan = suite.plan(["--browser"])
    assert plan.arguments == ["tests/browser"]
    assert plan.environ == {suite.SHOTS: str(tmp_path / "shots")}
    assert (tmp_path / "shots").is_dir()
    named = suite.plan(["--browser", "tests/browser/test_help.py", "-x"])
    assert named.arguments == ["tests/browser/test_help.py", "-x"]
    assert suite.plan(["--browser", "-k", "photos"]).arguments == ["tests/browser", "-k", "photos"]
