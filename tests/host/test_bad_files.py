"""Files of anybody in models/embeddings cost themselves a log line, never a node."""

from __future__ import annotations

import pytest

from attndreambooth.devkit.pack import ROOT

pytestmark = [pytest.mark.host, pytest.mark.slow]


def test_bad_files_among_the_embeddings_take_no_node_away(alone, bad_embeddings):
    _, bad = bad_embeddings
    if not bad:
        pytest.skip("there are no pipes with names here")
    info = alone.object_info()
    log = alone.log()
    assert alone.object_info().keys() == info.keys()
    ours = {page.stem for page in (ROOT / "web" / "docs").glob("*.md")}  # a page for every node
    assert ours <= info.keys() and len(ours) > 15
    [options] = [
        info["AttnDBLoadConcept"]["input"]["required"]["name"][1].get("options")
        or info["AttnDBLoadConcept"]["input"]["required"]["name"][0]
    ]
    saved = {path.stem for path in (alone.base / "models" / "loras").iterdir()}
    assert set(options) == {"good"} | saved  # by the tests that train there
    for name in bad:
        assert f"{name}.safetensors' is passed over" in log
