"""The front end of the shared server, in one browser for all browser tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.frontend import FrontEnd, browser_page, find_chromium
from support.server import HostServer

NEXT = pytest.StashKey[pytest.Item | None]()
"""The test that runs after the one that ends."""


@pytest.fixture(scope="session")
def _page(server: HostServer) -> Iterator[FrontEnd]:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium on this machine (install one, or set ATTNDB_CHROMIUM)")
    with browser_page(chromium) as page:
        yield FrontEnd(page)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    item.session.stash[NEXT] = nextitem


@pytest.fixture(params=[False, True], ids=["classic", "nodes-2.0"])
def renderer(request) -> bool:
    """Which of its two renderers the front end has: whether it is Nodes 2.0."""
    return request.param


@pytest.fixture
def front_end(_page: FrontEnd, server: HostServer, request) -> Iterator[FrontEnd]:
    """The open front end, classic unless the test asks for a `renderer`; its `errors` are of this
    test, and of its start if they are ours. Empty after the last test in the page: it would go on
    drawing what the server tells it of other tests' trainings, which took a fifth of a core."""
    if _page.is_empty:
        _page.open(server.address)
    vue = "renderer" in request.fixturenames and request.getfixturevalue("renderer")
    _page.vue_nodes(vue)  # nothing where the last test had the same one
    del _page.errors[_page.start_errors :]
    yield _page
    after = request.session.stash.get(NEXT, None)
    if after is None or after.path.parent != request.path.parent:
        _page.leave()
