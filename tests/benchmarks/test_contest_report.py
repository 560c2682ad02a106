"""The report of the contest: what it shows, of what, and that it is drawn once."""

import numpy as np
from PIL import Image
from support.rows import a_row

from attndreambooth.attndb.evaluation.report import report_html
from attndreambooth.benchmarks import evaluate
from attndreambooth.benchmarks.contest import report
from attndreambooth.benchmarks.contest.contestant import all_contestants, recipes
from attndreambooth.benchmarks.contest.pictures import (
    SHOWN,
    keep_pictures,
    shown_prompts,
    strip_path,
)
from attndreambooth.benchmarks.contest.report import both_sides, contest_report, sheets
from attndreambooth.benchmarks.contest.table import ORACLE, Asked, Table
from attndreambooth.micro.prompts import PROMPTS


def test_a_strip_of_pictures_lies_beside_the_row(tmp_path):
    row, pictures = a_row("ours", "a", 0.2), np.zeros((2 * len(PROMPTS), 8, 8, 3), np.uint8)
    for place, number in enumerate(SHOWN):
        pictures[2 * number] = 30 * place
    keep_pictures(tmp_path, row, pictures, images=2)
    with Image.open(strip_path(tmp_path, row)) as strip:
        assert strip.size == (8 * len(SHOWN), 8)
        found = np.asarray(strip.convert("L"))[4, 4::8]
    np.testing.assert_allclose(found, 30 * np.arange(len(SHOWN)), atol=6)
    assert {prompt.kind for prompt in shown_prompts()} == {p.kind for p in PROMPTS}


def test_the_report_shows_tables_pictures_and_settings(tmp_path):
    ours = all_contestants(recipes())[:2]
    rows = [a_row(c.name, "hatted-robot", 0.2) for c in ours] + [a_row(ORACLE, "hatted-robot", 0.9)]
    pictures = np.full((len(PROMPTS), 128, 128, 3), 90, np.uint8)
    for row in rows[:2]:
        keep_pictures(tmp_path, row, pictures, images=1)
    drawn = both_sides(rows), sheets(rows, tmp_path).values()
    made = contest_report(rows, ours, drawn, "said before")
    page = report_html(made)
    assert all(text in page for text in ("said before", ours[1].name, "0.900", "What the scores"))
    for method, pairs in ((c.name, c.pairs) for c in ours):
        assert method in page and f"{pairs[0][0]} x {pairs[0][1]:g}" in page
    (sheet,) = next(section for section in made.sections if section.title == "Pictures").pictures
    assert sheet[1].height > 3 * 128, "photos and two methods"
    shown = page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert "http" not in shown


def test_what_the_report_and_its_files_show_is_drawn_once(tmp_path, monkeypatch):
    ours = all_contestants(recipes())[:2]
    rows = [a_row(c.name, "hatted-robot", 0.2) for c in ours]
    for row in rows:
        keep_pictures(tmp_path, row, np.full((len(PROMPTS), 32, 32, 3), 90, np.uint8), images=1)
    drawn = []
    for name in ("_sheet", "scatter"):
        plain = getattr(report, name)
        monkeypatch.setattr(report, name, lambda *a, n=name, p=plain: drawn.append(n) or p(*a))
    monkeypatch.setattr(evaluate, "asked_by", lambda *_: Asked())
    monkeypatch.setattr(Table, "found", lambda *_: rows)
    folder = tmp_path / "report"
    asked = ["--only-print", "--rows", str(tmp_path), "--report", str(folder)]
    assert evaluate.main([*asked, "--methods", *(c.name for c in ours)]) == 0
    assert sorted(drawn) == ["_sheet", "scatter"]
    files = {"report.html", "report.png", "scores.png", "sheet-hatted-robot.png"}
    assert {file.name for file in folder.iterdir()} == files
