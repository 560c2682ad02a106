"""Every node's help page as the page's own panel shows it."""

from __future__ import annotations

import pytest
from support.frontend import keep_screenshot
from support.graph import Graph

from attndreambooth.devkit.pack import ROOT

pytestmark = [pytest.mark.host, pytest.mark.browser]

PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))
PANEL = ".node-help-content"
MEASURED = """(panel) => {
    const right = panel.getBoundingClientRect().right + 1;
    const wide = [...panel.querySelectorAll('table, img, p, li')].filter(each =>
        each.getBoundingClientRect().right > right || each.scrollWidth > each.clientWidth + 1);
    return {
        title: panel.querySelector('h1')?.textContent,
        tables: panel.querySelectorAll('table').length,
        pictures: [...panel.querySelectorAll('img')].map(image => image.naturalWidth),
        wide: wide.map(each => each.textContent.slice(0, 60)),
        raw: /\\*\\*|\\]\\(|&lt;/.test(panel.innerText),
    };
}"""
LOADED = """(title) => {
    const panel = document.querySelector('.node-help-content');
    return panel?.querySelector('h1')?.textContent === title
        && [...panel.querySelectorAll('img')].every(image => image.complete);
}"""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_help_page_is_whole_in_the_panel(front_end, path):
    graph = Graph()
    graph.add(path.stem)
    front_end.load_prompt(graph.prompt)
    page, title = front_end.page, path.read_text(encoding="utf-8").splitlines()[0][2:]
    page.evaluate("() => app.canvas.selectItems([app.graph._nodes[0]])")
    page.get_by_test_id("info-button").first.dispatch_event("click")  # it may float outside
    page.wait_for_function(LOADED, arg=title, timeout=20_000)
    found = page.locator(PANEL).first.evaluate(MEASURED)
    keep_screenshot(front_end, f"help-{path.stem}")
    page.get_by_label("Toggle properties panel").first.click()
    page.locator(PANEL).wait_for(state="detached")
    assert found["title"] == title
    assert found["tables"] >= 1
    assert len(found["pictures"]) == 1 and found["pictures"][0] > 200
    assert found["wide"] == [] and not found["raw"]
