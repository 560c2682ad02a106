"""A host that is too old is told so, in one line of its log."""

from __future__ import annotations

import asyncio
import importlib.util
from concurrent.futures import ThreadPoolExecutor

import pytest

from attndreambooth.devkit.hosts import OLDEST_HOST
from attndreambooth.devkit.pack import PACK, ROOT

TAKEN = [OLDEST_HOST, "0.20.1", "0.30.0", "1.0", "v0.31.0-rc1", "unknown"]


@pytest.fixture
def load(host, monkeypatch):
    """Calls the entry point as a ComfyUI of some version does."""
    from attndreambooth.nodes.host import compat

    spec = importlib.util.spec_from_file_location(
        f"{PACK}.entry", ROOT / "__init__.py", submodule_search_locations=None
    )
    entry = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(entry)

    def call(version):
        monkeypatch.setattr(compat, "host_version", lambda: version)
        with ThreadPoolExecutor() as thread:  # tests of the page leave a loop running in this one
            return thread.submit(asyncio.run, entry.comfy_entrypoint()).result()

    return call


@pytest.mark.parametrize("found", ["0.3.75", "0.16.2", "0.9"])
def test_an_older_host_is_told_what_to_do(load, found):
    with pytest.raises(ImportError, match=f"needs ComfyUI {OLDEST_HOST}.*is {found}: update"):
        load(found)


@pytest.mark.parametrize("found", TAKEN)
def test_a_tested_or_newer_one_is_taken(load, found):
    assert load(found) is not None
