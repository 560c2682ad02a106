"""Fixtures of the whole suite. The repository root is kept off `sys.path`, where its `nodes/` would
be mistaken for the host's `nodes` module (devkit/pack.py)."""

import functools
import gc
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.failures import FailuresAsTheyCome
from support.server import HostServer

from attndreambooth.devkit.host_path import host_on_path, on_cpu
from attndreambooth.devkit.pack import without_root
from attndreambooth.devkit.suite import SECONDS

sys.path[:] = without_root(sys.path)  # `python -m pytest` puts the current folder first
os.environ.setdefault("HF_HUB_OFFLINE", "1")


_SERVERS = {"front_end": "page", "server": "server", "faulty": "faulty", "alone": "alone"}
"""By fixture: the group of tests that one worker runs, since they share a server; those in the page
have one of their own, so that they and the others wait for theirs at the same time."""


@pytest.hookimpl(trylast=True)  # after the reporter is there
def pytest_configure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        config.pluginmanager.register(FailuresAsTheyCome(reporter))


def pytest_make_parametrize_id(val: object) -> str | None:
    """A long text is not its test's name: of the name pytest makes an environment variable, and
    Windows takes none of more than 32,767 characters."""
    if isinstance(val, str | bytes) and len(val) > 200:
        return f"{val[:20]!r} and {len(val) - 20} more"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why; keep together what shares something."""
    of_file: dict[str, set[str]] = {}
    for item in items:
        of_file.setdefault(_file(item), set()).update(_servers(item))
    for item in items:
        groups = _servers(item)
        shared = of_file[_file(item)]
        if "page" in shared:  # all of a file about the page
            groups = ["page"]
        elif not groups and len(shared) == 1:  # fixtures of its file are there, too
            groups = list(shared)
        item.add_marker(pytest.mark.xdist_group(groups[0] if groups else _file(item)))
        if item.get_closest_marker("cuda") is not None and (on_cpu() or not _cuda()):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        if item.get_closest_marker("cpu") is not None and not on_cpu():
            item.add_marker(pytest.mark.skip(reason="is about the CPU"))

    if SECONDS not in os.environ:  # the quick part has the nearest first
        items.sort(key=functools.partial(_turn, slow={_file(i) for i in items if _is_slow(i)}))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Thousands of tests and what they import stay to the end: no collection need look at them."""
    gc.collect()
    gc.freeze()


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _servers(item: pytest.Item) -> list[str]:
    """The groups of the servers that it uses, the first decides; nothing without one."""
    names = getattr(item, "fixturenames", ())
    return [group for name, group in _SERVERS.items() if name in names]


def _is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


def _turn(item: pytest.Item, slow: set[str]) -> int:
    """What takes long begins first, so that no worker has it alone at the end."""
    mark = item.get_closest_marker("xdist_group")
    group = mark.args[0] if mark is not None else ""
    return 0 if group in _SERVERS.values() else 1 if _file(item) in slow else 2


@functools.cache
def _began() -> float:
    return time.monotonic()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """`dev.py test --quick` has its time, and then leaves the rest out."""
    limit = float(os.environ.get(SECONDS, "inf"))
    if time.monotonic() - _began() > limit:
        pytest.skip(f"left out: the {limit:g} s of --quick are over")


@functools.cache
def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def host() -> Path:
    """The host's modules are importable in this process; gives the host's folder."""
    return host_on_path()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostServer]:
    """One real server with the pack installed, for all tests that do not harm it; another pack of
    it replaces attention."""
    shared = HostServer(tmp_path_factory.mktemp("host"))
    other = Path(__file__).parent / "support" / "foreign_attention.py"
    shutil.copy2(other, shared.base / "custom_nodes")
    with shared as running:
        yield running
