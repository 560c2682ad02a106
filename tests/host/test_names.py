"""Names of files and values of widgets that cannot be written: the server's queue goes on."""

from __future__ import annotations

import os
import sys
import time

import pytest
from PIL import Image
from support.graph import Graph
from support.outcome import ExecutionFailed, PromptRejected
from support.server import HostServer

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names of any bytes"),
]

GOOD = "good photos"
LATIN, CODES = b"M\xfcller.txt", b"\x1b[31mred\nline.txt"


@pytest.fixture(scope="module")
def folders(server: HostServer) -> HostServer:
    """Folders of photos, some with a file beside them whose name is no UTF-8 or holds codes."""
    root = server.base / "input"
    beside = {"latin": LATIN, "codes": CODES, "picture": LATIN.replace(b"txt", b"png")}
    for name, file in {GOOD: b"", **beside}.items():
        folder = root / name
        folder.mkdir()
        Image.new("RGB", (64, 64), "red").save(folder / "a.png")
        if file:
            with open(os.path.join(os.fsencode(folder), file), "wb") as opened:
                opened.write(b"no picture")
    os.mkdir(os.path.join(os.fsencode(root), b"caf\xe9"))
    Image.new("RGB", (64, 64), "red").save(os.path.join(os.fsencode(root), b"caf\xe9", b"a.png"))
    return server


def show(path: str, **changes) -> dict:
    """The photos of a folder, shown."""
    graph = Graph()
    values = {
        "folder": "(typed path)",
        "path": path,
        "category": "dog",
        "placeholder": "<my-dog>",
        "template": "a photo of a {}",
        "skip_broken": False,
    }
    data = graph.add("AttnDBLoadConceptDataset", **{**values, **changes})
    graph.add("PreviewImage", images=data[1])
    return graph.prompt


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"path": "latin"}, "M\\udcfcller.txt is not an image"),
        ({"path": "picture"}, "M\\udcfcller.png is not an image"),
        ({"path": "codes"}, "\\x1b[31mred\\nline.txt is not an image"),
        ({"path": "no\ud800where"}, "no\\ud800where"),
        ({"folder": "no\udcffwhere"}, "no\\udcffwhere"),
        ({"path": "two\nlines"}, "two\\nlines"),
        ({"category": "d\ud800g", "path": GOOD}, "d\\ud800g"),
        ({"placeholder": "<\x1b[2J>", "path": GOOD}, "\\x1b[2J"),
        ({"template": "\ud800 {}", "path": GOOD}, "\\ud800"),
    ],
)
def test_it_is_told_escaped_and_the_queue_goes_on(folders, changes, told):
    values = {"path": "", **changes}
    with pytest.raises((ExecutionFailed, PromptRejected)) as caught:
        folders.run(show(**values), timeout=60)
    message = str(caught.value).split("---")[0]
    assert told in message and "Load Concept Dataset" in message
    message.encode()
    assert folders.run(show(GOOD), timeout=60).outputs


@pytest.mark.parametrize("path", ["latin", "codes", "picture"])
def test_skipped_it_is_logged_escaped(folders, path):
    # a picture of another size for each run: the answer is not a remembered one
    side = 60 + len(path)
    Image.new("RGB", (side, side)).save(folders.base / "input" / path / "a.png")
    assert folders.run(show(path, skip_broken=True), timeout=60).outputs
    assert "\x1b[31mred" not in folders.log()
    assert "skipped: " in folders.log()


def test_a_folder_that_cannot_be_named_is_no_choice_and_the_list_of_nodes_is_quick(folders):
    pictures = [folders.base / "input" / f"{number}.png" for number in range(3000)]
    for picture in pictures:
        picture.touch()
    start = time.monotonic()
    info = folders.get("/object_info/AttnDBLoadConceptDataset")
    assert time.monotonic() - start < 30
    for picture in pictures:
        picture.unlink()
    options = str(info["AttnDBLoadConceptDataset"]["input"]["required"]["folder"])
    assert GOOD in options and "caf" not in options
