"""The real front end in a real browser: load, save, look at and run graphs as a user does."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attndreambooth.devkit.suite import SHOTS
from support.server import JOB_SECONDS

START_MS = 240_000
MARGIN = 60  # pixels of canvas around a graph in its picture
HEADER = 40  # a node's title bar lies above its position
SEARCH = "input[aria-controls=results-list]"  # the field of the search for nodes
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ELSEWHERE = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)
QUIET = (
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.OnboardingCoachmarks.Seen": ["appMode"],
    "Comfy.Workflow.ShowMissingModelsWarning": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.UseNewMenu": "Top",
    "Comfy.EnableTooltips": False,
}


def find_chromium() -> Path | None:
    """A Chromium, Chrome or Edge: ATTNDB_CHROMIUM, else on PATH, else where it usually lies."""
    named = os.environ.get("ATTNDB_CHROMIUM", "").strip()
    if named:
        return Path(named)
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        found = next((path for path in ELSEWHERE if Path(path).is_file()), None)
    return Path(found) if found else None


class FrontEnd:
    """One browser page that shows ComfyUI. `errors` collects what it complained of.

    The first `start_errors` of them are from its start. `showing` is for whoever opens a graph to
    note which, so that the next one need not: None after anything else was opened.
    """

    def __init__(self, page: Any):
        self.page = page
        self.errors: list[str] = []
        self.start_errors = 0
        self.vue = False
        self.showing: object = None
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        page.on("console", self._on_console)
        page.on("response", self._on_response)

    def _on_console(self, message: Any) -> None:
        quiet = message.text.startswith("Failed to load resource") or (
            "huggingface.co" in message.text  # the default graph's models, looked for in vain
        )
        if message.type == "error" and not quiet:
            self.errors.append(f"console: {message.text}")

    def _on_response(self, response: Any) -> None:
        if response.status >= 500 or (response.status == 404 and "/extensions/" in response.url):
            self.errors.append(f"{response.status}: {response.url}")

    def open(self, address: str) -> None:
        """Show the front end of the server at `host:port`, with nothing in front of the graph."""
        self.page.request.post(f"http://{address}/settings", data=SETTINGS)
        self.page.goto(f"http://{address}/", wait_until="domcontentloaded", timeout=START_MS)
        ready = "() => window.app?.graph && window.LiteGraph?.registered_node_types?.KSampler"
        self.page.wait_for_function(ready, timeout=START_MS)
        self.page.wait_for_timeout(500)
        # What the page says about its own start and its default graph's models is not about us.
        self.errors = [error for error in self.errors if "attndreambooth" in error.lower()]
        self.start_errors = len(self.errors)

    @property
    def is_empty(self) -> bool:
        """Whether it shows nothing: not opened, or left."""
        return self.page.url == "about:blank"

    def leave(self) -> None:
        """Show nothing; the next time it is classic again."""
        self.vue_nodes(False)
        self.showing = None
        self.page.goto("about:blank")

    def load(self, workflow: dict[str, Any], app: bool = False) -> None:
        """Open a saved graph, as dropping its file on the canvas does; `app`: as the form that it
        may have, else as a graph."""
        extra = {k: v for k, v in workflow.get("extra", {}).items() if app or k != "linearMode"}
        workflow = {**workflow, "extra": extra}
        self.showing = None
        self.page.evaluate("async (w) => { await app.loadGraphData(w) }", workflow)
        self._drawn()

    def load_prompt(self, prompt: dict[str, Any]) -> None:
        """Open an API-format prompt; the front end makes nodes and wires of it."""
        self.showing = None
        self.page.evaluate("async (p) => { await app.loadApiJson(p, 'prompt') }", prompt)
        self._drawn()

    def open_tab(self, workflow: dict[str, Any], name: str) -> None:
        """Open a saved graph in a tab of its own, of this name."""
        self.showing = None
        opens = "async ([w, n]) => { await app.loadGraphData(w, true, true, n) }"
        self.page.evaluate(opens, [workflow, name])
        self._drawn()

    def show_tab(self, name: str) -> None:
        """Press the tab of this name."""
        tabs = self.page.get_by_test_id("topbar-workflow-tabs")
        tabs.get_by_text(name, exact=True).first.click()
        opened = "path => app.extensionManager.workflow.activeWorkflow.path === path"
        self.page.wait_for_function(opened, arg=f"workflows/{name}.json")
        self._drawn()

    def move_and_undo(self) -> None:
        """Move a node, and take it back with Ctrl+Z: the page makes all nodes anew."""
        self.page.evaluate(MOVE)
        before = self.page.evaluate("() => app.graph._nodes[0].pos[0]")
        self.page.keyboard.press("Control+z")
        self.page.wait_for_function("x => app.graph._nodes[0].pos[0] !== x", arg=before)
        self._drawn()

    def _drawn(self) -> None:
        """Wait until the page has drawn what it was given, however slow, and a moment more."""
        self.page.evaluate(DRAWN)
        self.page.wait_for_timeout(100)

    def missing_nodes(self, workflow: dict[str, Any]) -> list[str]:
        """Types of nodes in a saved graph that the front end does not know."""
        types = sorted({node["type"] for node in workflow["nodes"]})
        return self.page.evaluate(
            "(types) => types.filter(t => !(t in LiteGraph.registered_node_types))", types
        )

    def object_info(self) -> dict[str, Any]:
        """Every node that the page's server knows."""
        return self.page.evaluate("async () => await (await fetch('/object_info')).json()")

    def graph(self) -> dict[str, Any]:
        """The open graph as the front end would save it."""
        return self.page.evaluate("() => app.graph.serialize()")

    def prompt(self) -> dict[str, dict[str, Any]]:
        """The API prompt that the front end would post for the open graph."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def search(self, words: str) -> list[str]:
        """Names of the nodes that the page's search offers for some words, best first; it is opened
        by a double click on the empty canvas, as a user does."""
        self.showing = None
        self.page.evaluate("() => app.graph.clear()")
        field = self.page.locator(SEARCH)
        if not field.count():
            self._double_click_until(field)
        field.fill(words)
        self.page.wait_for_timeout(500)
        offered = self.page.locator("#results-list [role=option]")
        names = [text.splitlines()[0].strip() for text in offered.all_inner_texts()]
        return names

    def close_search(self) -> None:
        """By Escape; an open one would take what is pressed on the page."""
        field = self.page.locator(SEARCH)
        if field.count():
            field.press("Escape")
            field.wait_for(state="detached")

    def _double_click_until(self, shown: Any, times: int = 12) -> None:
        """On the empty canvas. A page that is busy loses a double click: then again, as a user."""
        from playwright.sync_api import TimeoutError as PlaywrightTimeout

        size = self.page.viewport_size
        for _ in range(times - 1):
            self.page.mouse.dblclick(size["width"] // 2, size["height"] // 2)
            with contextlib.suppress(PlaywrightTimeout):
                shown.wait_for(timeout=5000)
                return
        self.page.mouse.dblclick(size["width"] // 2, size["height"] // 2)
        shown.wait_for()

    def run(self, timeout: float = JOB_SECONDS) -> None:
        """Press Run, and wait until the queue is empty again."""
        self.page.evaluate("async () => { await app.queuePrompt(0, 1) }")
        for _ in range(int(timeout * 2)):
            self.page.wait_for_timeout(500)
            if self.page.evaluate(IDLE):
                self.page.wait_for_timeout(1500)
                return
        raise TimeoutError(f"the queue is not empty after {timeout} s")

    def vue_nodes(self, on: bool) -> None:
        """Switch between Nodes 2.0 (drawn as HTML) and the classic canvas, which it begins with."""
        if on != self.vue:
            self.page.evaluate(SET_RENDERER, on)
            self.page.wait_for_timeout(1000)
            self.vue, self.showing = on, None

    def start(self) -> None:
        """Press Run, and do not wait."""
        self.page.evaluate("async () => { await app.queuePrompt(0, 1) }")

    def cancel(self) -> None:
        """Cancel what runs and what waits, and wait until the queue is empty."""
        self.page.evaluate(CANCEL)
        self.page.wait_for_function(IDLE, timeout=120_000, polling=500)

    def wait_for_text(self, text: str, seconds: float) -> None:
        """Wait until a node shows a text that begins so under itself."""
        shown = """(text) => app.graph._nodes.some(n => (n.widgets ?? []).some(
            w => typeof w.value === 'string' && w.type === 'progressText'
                 && w.value.startsWith(text)))"""
        self.page.wait_for_function(shown, arg=text, timeout=seconds * 1000, polling=500)

    def boxes(self, vue: bool) -> list[tuple[int, float, float, float, float]]:
        """Boxes (id, left, top, right, bottom) of all nodes as they are drawn at this moment."""
        found = self.page.evaluate(VUE_BOXES if vue else CANVAS_BOXES)
        return [(int(i), float(x), float(y), float(r), float(b)) for i, x, y, r, b in found]

    def settled_boxes(self, vue: bool) -> list[tuple[int, float, float, float, float]]:
        """The boxes once they have stood still for half a second, in which the page was drawn each
        time that they were looked at, however slow it is.

        Raises TimeoutError if they still move after a minute.
        """
        still, last = 0, self.boxes(vue)
        for _ in range(600):
            self._drawn()
            now = self.boxes(vue)
            still, last = (still + 1 if now == last and now else 0), now
            if still == 4:
                return last
        raise TimeoutError("the nodes of the page do not come to rest")

    def fit(self) -> None:
        """Show the whole graph."""
        self.page.evaluate("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        self.page.wait_for_timeout(600)  # it glides there

    def picture(self, path: Path, width: int = 1800) -> None:
        """Save a picture (JPEG or PNG by its name) of the whole graph, fitted, without menus."""
        box = self.page.evaluate(BOUNDING_BOX)
        scale = min(1.5, width / (box[2] + 2 * MARGIN))
        size = [round((side + 2 * MARGIN) * scale) for side in box[2:]]
        self.page.set_viewport_size({"width": max(size[0], 400), "height": max(size[1], 300)})
        self.page.wait_for_timeout(500)
        self.page.add_style_tag(content=ONLY_THE_GRAPH)
        offset = [MARGIN - box[0], MARGIN - box[1]]
        self.page.evaluate(SHOW, {"scale": scale, "offset": offset})
        self.page.wait_for_timeout(1200)
        kind = "png" if path.suffix == ".png" else "jpeg"
        options: dict[str, Any] = {} if kind == "png" else {"quality": 88}
        self.page.screenshot(path=str(path), type=kind, **options)


def keep_screenshot(front_end: FrontEnd, name: str, whole: bool = False) -> None:
    """A picture of the page in the folder ATTNDB_SHOTS, for whoever wants to look; `whole`: with
    all of the graph."""
    if folder := os.environ.get(SHOTS):
        if whole:
            front_end.fit()
        kind = "nodes-2.0" if front_end.vue else "classic"
        front_end.page.screenshot(path=f"{folder}/{name}-{kind}.png")


IDLE = """async () => {
    const queue = await (await fetch('/queue')).json();
    return queue.queue_running.length + queue.queue_pending.length === 0;
}"""
MOVE = """() => {
    app.graph._nodes[0].pos = app.graph._nodes[0].pos.map(x => x + 100);
    const changes = app.extensionManager.workflow.activeWorkflow.changeTracker;
    (changes.captureCanvasState ?? changes.checkState).call(changes);
}"""
DRAWN = """async () => {  // what is to be laid out has been, twice
    for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
}"""
CANCEL = """async () => {
    await fetch('/queue', {method: 'POST', body: JSON.stringify({clear: true})});
    await fetch('/interrupt', {method: 'POST', body: '{}'});
}"""
SET_RENDERER = """async (on) => {
    await app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on);
}"""
# A node's size may lag behind what its widgets want.
CANVAS_BOXES = f"""() => app.graph._nodes.map(n => {{
    const height = Math.max(n.size[1], n.computeSize()[1]);
    return [n.id, n.pos[0], n.pos[1] - {HEADER - 10}, n.pos[0] + n.size[0], n.pos[1] + height];
}})"""
# The search shows the nodes that it offers, too; those have no number.
VUE_BOXES = """() => [...document.querySelectorAll('[data-node-id]')].filter(
    e => /^[0-9]+$/.test(e.dataset.nodeId)).map(e => {
    const box = e.getBoundingClientRect(), scale = app.canvas.ds.scale;
    return [e.dataset.nodeId, ...[box.left, box.top, box.right, box.bottom].map(x => x / scale)];
})"""
BOUNDING_BOX = f"""() => {{
    const boxes = [
        ...app.graph._nodes.map(n => [...n.pos, ...n.size]).map(
            ([x, y, w, h]) => [x, y - {HEADER}, w, h + {HEADER}]),
        ...app.graph._groups.map(g => [...g.pos, ...g.size]),
    ];
    const left = Math.min(...boxes.map(b => b[0])), top = Math.min(...boxes.map(b => b[1]));
    const right = Math.max(...boxes.map(b => b[0] + b[2]));
    const bottom = Math.max(...boxes.map(b => b[1] + b[3]));
    return [left, top, right - left, bottom - top];
}}"""
SHOW = """({scale, offset}) => {
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = offset;
    app.graph._nodes.forEach(node => { node.has_errors = false });  // a model not on this machine
    app.canvas.deselectAll?.();
    app.canvas.setDirty(true, true);
}"""
ONLY_THE_GRAPH = """
    .workflow-tabs-container, .z-999, .p-toast, .p-dialog-mask, .comfy-menu
    { visibility: hidden !important; }
    .z-999 *, .workflow-tabs-container * { visibility: hidden !important; }
"""


@contextlib.contextmanager
def browser_page(chromium: Path) -> Iterator[Any]:
    """A fresh page of a headless browser with no history."""
    from playwright.sync_api import sync_playwright

    sandbox = [] if not hasattr(os, "geteuid") or os.geteuid() else ["--no-sandbox"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(chromium), args=[*QUIET, *sandbox], headless=True
        )
        try:
            yield browser.new_page(viewport={"width": 1800, "height": 1000})
        finally:
            browser.close()
