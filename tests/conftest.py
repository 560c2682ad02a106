"""Fixtures of the whole suite. The repository root is kept off `sys.path`, where its `nodes/` would
be mistaken for the host's `nodes` module (devkit/pack.py)."""

import functools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.server import HostServer

from attndreambooth.devkit.pack import host_on_path, on_cpu, without_root
from attndreambooth.devkit.suite import SECONDS

sys.path[:] = without_root(sys.path)  # `python -m pytest` puts the current folder first
os.environ.setdefault("HF_HUB_OFFLINE", "1")


_SERVERS = {"server": "server", "front_end": "server", "faulty": "faulty"}
"""By fixture: the group of tests that one worker runs, since they share a server."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why; keep together what shares something."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        groups = {group for name, group in _SERVERS.items() if name in names}
        group = min(groups) if groups else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
        if item.get_closest_marker("cuda") is not None and not _cuda():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        if item.get_closest_marker("cpu") is not None and not on_cpu():
            item.add_marker(pytest.mark.skip(reason="is about the CPU"))


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
    """One real server with the pack installed, for all tests that do not harm it."""
    with HostServer(tmp_path_factory.mktemp("host")) as running:
        yield running
