"""One server for the trainings that are made to fail; no test leaves it broken."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from support.disk import small_disk
from support.training import FaultyServer


@pytest.fixture(scope="session")
def _faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyServer]:
    server = FaultyServer(tmp_path_factory.mktemp("faulty"))

    def process() -> int:
        assert server.process is not None
        return server.process.pid

    with ExitStack() as stack:
        for name in ("output", "models") if sys.platform.startswith("linux") else ():
            disk = small_disk(server.base / name, 512 << 20, process)
            server.disks[name] = stack.enter_context(disk)
        for name in ("checkpoints", "embeddings", "loras"):
            (server.base / "models" / name).mkdir(exist_ok=True)
        stack.enter_context(server)
        yield server


@pytest.fixture
def faulty(_faulty: FaultyServer) -> Iterator[FaultyServer]:
    """The server with faults and small disks, nothing trained and nothing broken."""
    yield _faulty
    _faulty.fault(None)
    for disk in _faulty.disks.values():
        disk.free()
    _faulty.forget("*")
