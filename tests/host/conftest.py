"""Servers that some tests share: one for the trainings that are made to fail, which no test leaves
broken, and one on which nothing else is trained."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.bad_embeddings import spoil
from support.disk import small_disk
from support.server import HostServer
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


@pytest.fixture(scope="session")
def bad_embeddings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A server's folder with bad files among its embeddings, and their names; none on Windows."""
    base = tmp_path_factory.mktemp("alone")
    embeddings = base / "models" / "embeddings"
    embeddings.mkdir(parents=True)
    return base, spoil(embeddings) if hasattr(os, "mkfifo") else []


@pytest.fixture(scope="session")
def alone(bad_embeddings: tuple[Path, list[str]]) -> Iterator[HostServer]:
    """Nobody else trains a shipped graph, or takes its names, on this server; it starts among bad
    files."""
    with HostServer(bad_embeddings[0]) as server:
        yield server
