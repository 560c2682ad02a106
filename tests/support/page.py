"""A page of a server of its own, for programs that make files in it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from support.frontend import FrontEnd, browser_page, find_chromium
from support.server import HostServer


@contextmanager
def opened_page(filled: Callable[[Path], object] = lambda base: None) -> Iterator[FrontEnd]:
    """`filled` is given the server's folder before its start. SystemExit with the remedy where
    there is no browser."""
    chromium = find_chromium()
    if chromium is None:
        raise SystemExit("no Chromium found: install one, or set ATTNDB_CHROMIUM to its program")
    with tempfile.TemporaryDirectory() as base:
        server = HostServer(Path(base))
        filled(server.base)
        with server, browser_page(chromium) as page:
            front_end = FrontEnd(page)
            front_end.open(server.address)
            yield front_end
