"""Photos come into Load Concept Dataset by button, drop and paste, and Load Concept shows what is
saved, in both renderers."""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from support.frontend import keep_screenshot
from support.graph import Graph
from support.training import training

pytestmark = [pytest.mark.host, pytest.mark.browser]

BOX, PICTURES = ".attndb-box", ".attndb-box .attndb-pictures > .attndb-picture"
SENT = """({files, how}) => {
    const data = new DataTransfer();
    for (const {name, mimeType, text} of files) {
        const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
        data.items.add(new File([bytes], name, {type: mimeType}));
    }
    const node = app.graph._nodes[0], sure = {bubbles: true, cancelable: true};
    const drag = (target, more) => ['dragover', 'drop'].forEach(kind => target.dispatchEvent(
        new DragEvent(kind, {...sure, dataTransfer: data, ...more})));
    if (how === 'paste') {
        document.dispatchEvent(new ClipboardEvent('paste', {...sure, clipboardData: data}));
    } else if (how === 'drop on the title') {
        const title = document.querySelector(`[data-node-id="${node.id}"]`);
        const [x, y] = app.canvas.convertOffsetToCanvas([node.pos[0] + 90, node.pos[1] - 10]);
        const area = app.canvas.canvas.getBoundingClientRect();
        const place = {clientX: x + area.left, clientY: y + area.top};
        drag(title ?? app.canvas.canvas, place);
    } else drag(document.querySelector('.attndb-box'), {});
}"""


def photo(name: str, seed: int, kind: str = "JPEG") -> dict:
    """A picture as the page's file chooser takes it."""
    grain = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grain).resize((240, 160), Image.Resampling.BICUBIC).save(buffer, kind)
    return {"name": name, "mimeType": f"image/{kind.lower()}", "buffer": buffer.getvalue()}


@pytest.fixture
def page(front_end, server, renderer):
    """The page with one of its renderers, and input/ as it was afterwards."""
    there = set((server.base / "input").iterdir())
    yield front_end.page
    for path in set((server.base / "input").iterdir()) - there:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def show(front_end, node_type: str, **widgets) -> None:
    """One node in the middle of the page."""
    graph = Graph()
    graph.add(node_type, **widgets)
    front_end.load_prompt(graph.prompt)
    front_end.page.evaluate("""() => {
        app.graph._nodes[0].pos = [100, 120];
        Object.assign(app.canvas.ds, {scale: 1, offset: [300, 100]});
        app.canvas.setDirty(true, true);
    }""")
    front_end.page.wait_for_timeout(500)


def dataset(front_end, category: str) -> None:
    words = {"category": category, "placeholder": "", "template": "a photo of a {}"}
    kept = {"skip_broken": False, "private": False, "captions": "template", "masks": "none"}
    folder = {"folder": "(typed path)", "path": ""}
    show(front_end, "AttnDBLoadConceptDataset", **folder, **words, **kept)


def wait_for(page, said: str, pictures: int) -> None:
    """Until the box says so, and has shown so many pictures."""
    arrived = """([said, count]) => {
        const shown = [...document.querySelectorAll('.attndb-box img')];
        return document.querySelector('.attndb-says').textContent.includes(said)
            && shown.length === count && shown.every(image => image.naturalWidth > 0);
    }"""
    try:
        page.wait_for_function(arrived, arg=[said, pictures], timeout=30_000)
    except Exception as error:
        raise AssertionError(page.locator(BOX).inner_html()) from error


def choose(page, files) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Add photos").click()
    chooser.value.set_files(files)


def send(page, files: list[dict], how: str) -> None:
    encoded = [{**f, "text": base64.b64encode(f["buffer"]).decode()} for f in files]
    asked = [{k: v for k, v in f.items() if k != "buffer"} for f in encoded]
    page.evaluate("() => app.canvas.selectItems([app.graph._nodes[0]])")
    page.wait_for_timeout(500)  # the page pastes into the node that it drew last
    page.evaluate(SENT, {"files": asked, "how": how})


def widgets(front_end) -> dict:
    return front_end.page.evaluate(
        "() => Object.fromEntries(app.graph._nodes[0].widgets.map(w => [w.name, w.value]))"
    )


def test_photos_come_by_button_drop_and_paste_into_one_new_folder(front_end, page, server):
    folder = server.base / "input" / "cat"
    dataset(front_end, "cat")
    choose(page, [photo("b.jpg", 1), photo("a.png", 2, "PNG")])
    wait_for(page, "2 photos in cat", 2)
    assert widgets(front_end)["folder"] == "cat"
    send(page, [photo("c.jpg", 3), photo("d.jpg", 4)], "drop")
    wait_for(page, "4 photos in cat", 4)
    send(page, [photo("e.jpg", 5)], "drop on the title")
    wait_for(page, "5 photos in cat", 5)
    send(page, [photo("f.png", 6, "PNG")], "paste")
    wait_for(page, "6 photos in cat", 6)
    names = ["a.png", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert (folder / "b.jpg").read_bytes() == photo("b.jpg", 1)["buffer"]
    assert len(front_end.graph()["nodes"]) == 1, "no Load Image node for what was pasted or dropped"
    sent = front_end.prompt()["1"]["inputs"]
    assert sent["folder"] == "cat" and "photo_upload" not in sent
    keep_screenshot(front_end, "photos")
    assert front_end.errors == []


def test_the_same_category_again_gets_a_folder_of_its_own(front_end, page, server):
    for number, name in enumerate(("dog", "dog-2")):
        dataset(front_end, "dog")
        choose(page, [photo("same.jpg", number)])
        wait_for(page, f"1 photo in {name}", 1)
    chosen = front_end.page.evaluate(
        "() => app.graph._nodes[0].widgets.find(w => w.name === 'folder').options.values"
    )
    assert chosen[0] == "(typed path)" and {"dog", "dog-2"} <= set(chosen)


def test_what_is_no_photo_is_refused_by_name_and_the_rest_is_taken(
    front_end, page, server, tmp_path
):
    large = tmp_path / "large.jpg"
    large.touch()
    os.truncate(large, 200 << 20)
    broken = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture"}
    notes = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"}
    dataset(front_end, "bird")
    choose(page, [broken, notes, photo("good.jpg", 1)])
    wait_for(page, "broken.png: cannot be read as a picture; notes.txt: no picture", 1)
    choose(page, [str(large)])
    wait_for(page, "large.jpg: 200 MB, and this server takes 100 MB", 1)
    choose(page, [photo("good.jpg", 2), photo("good.jpg", 1)])  # the first is another of that name
    wait_for(page, "2 photos in bird", 2)
    keep_screenshot(front_end, "photos_refused")
    folder = server.base / "input" / "bird"
    assert sorted(path.name for path in folder.iterdir()) == ["good (1).jpg", "good.jpg"]
    assert (folder / "good.jpg").read_bytes() == photo("good.jpg", 1)["buffer"]
    assert front_end.errors == []


def test_a_chosen_folder_shows_what_is_in_it_and_which_photo_cannot_be_read(
    front_end, page, server
):
    folder = server.base / "input" / "shown"
    folder.mkdir()
    (folder / "2.jpg").write_bytes(photo("2.jpg", 1)["buffer"])
    (folder / "10.jpg").write_bytes(photo("10.jpg", 2)["buffer"][:200])
    asked = []
    page.on("request", listen := lambda request: asked.append(request.url))
    show(front_end, "AttnDBLoadConceptDataset", folder="shown", path="", category="cup")
    wait_for(page, "10.jpg is", 1)
    page.remove_listener("request", listen)
    assert len([url for url in asked if "/attndreambooth/photos?" in url]) == 1
    assert page.locator(PICTURES).count() == 2
    assert page.locator(f"{PICTURES}.attndb-broken").count() == 1
    assert front_end.errors == []


def test_load_concept_shows_saved_concepts_and_finds_a_new_one_after_a_run(front_end, page, server):
    for number in (1, 2):
        (server.base / "models/embeddings" / f"shown-{number}.safetensors").unlink(missing_ok=True)
    save(server, "shown-1", 1)
    show(front_end, "AttnDBLoadConcept", name="shown-1")
    page.wait_for_selector("[data-concept='shown-1'][aria-pressed='true'] img")
    assert page.locator("[data-concept='shown-2']").count() == 0
    save(server, "shown-2", 2)
    page.evaluate("() => window.dispatchEvent(new Event('focus'))")
    page.locator("[data-concept='shown-2']").click()
    page.wait_for_selector("[data-concept='shown-2'][aria-pressed='true']")
    assert widgets(front_end)["name"] == "shown-2"
    assert front_end.prompt()["1"]["inputs"] == {"name": "shown-2"}
    assert "write: <my-robot> robot" in page.locator(BOX).inner_text()
    keep_screenshot(front_end, "concepts")
    assert front_end.errors == []


def tell(text: str, route, _request) -> None:
    route.fulfill(body=text, content_type="application/json")


def test_many_saved_concepts_make_the_node_no_taller(front_end, page, renderer):
    said = {"trigger": "<my-robot> robot", "version": "1"}
    heights = []
    for count in (1, 20):
        answer = {"concepts": [{"name": f"many-{n}", **said} for n in range(count)]}
        told = functools.partial(tell, json.dumps(answer))
        page.route("**/attndreambooth/concepts", told)
        show(front_end, "AttnDBLoadConcept", name="many-0")
        page.wait_for_function(
            f"() => document.querySelectorAll('.attndb-card').length === {count}"
        )
        [(_, _, top, _, bottom)] = front_end.settled_boxes(renderer)
        heights.append(bottom - top)
        page.unroute("**/attndreambooth/concepts")
    assert heights[0] == pytest.approx(heights[1], abs=1)


def save(server, name: str, seed: int) -> None:
    """A concept of the embedded model after one step, with its first photo's thumbnail."""
    graph = Graph()
    training(graph, save=name, steps=1, seed=seed)
    server.run(graph.prompt)
