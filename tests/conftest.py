"""Fixtures of the whole suite. The repository root is kept off `sys.path`, where its `nodes/` would
be mistaken for the host's `nodes` module (devkit/pack.py)."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.server import HostServer

from attndreambooth.devkit.pack import host_on_path, without_root

sys.path[:] = without_root(sys.path)  # `python -m pytest` puts the current folder first
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why."""
    cuda = None
    for item in items:
        if item.get_closest_marker("cuda") is not None:
            if cuda is None:
                import torch

                cuda = torch.cuda.is_available()
            if not cuda:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def host() -> Path:
    """The host's modules are importable in this process, on the CPU; gives the host's folder."""
    return host_on_path()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostServer]:
    """One real server with the pack installed, for all tests that do not harm it."""
    with HostServer(tmp_path_factory.mktemp("host")) as running:
        yield running
