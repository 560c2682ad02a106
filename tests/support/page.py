"""A page of a server of its own, for programs that make files in it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.frontend import FrontEnd, browser_page, find_chromium
from support.server import HostServer


@contextmanager
def opened_page() -> Iterator[FrontEnd]:
    """SystemExit with the remedy where there is no browser."""
    chromium = find_chromium()
    if chromium is None:
        raise SystemExit("no Chromium found: install one, or set ATTNDB_CHROMIUM to its program")
    with (
        tempfile.TemporaryDirectory() as base,
        HostServer(Path(base)) as server,
        browser_page(chromium) as page,
    ):
        front_end = FrontEnd(page)
        front_end.open(server.address)
        yield front_end
