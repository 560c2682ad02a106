"""The tables of docs/evaluation.md say what the committed rows say."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.rows import a_row

from attndreambooth.benchmarks import document, evaluate
from attndreambooth.benchmarks.contest import table
from attndreambooth.benchmarks.contest.contestant import all_contestants, recipes
from attndreambooth.benchmarks.contest.documented import (
    COMPARED,
    PARTS,
    compared,
    of_weights,
    places,
    put,
)
from attndreambooth.benchmarks.contest.rows import COMMITTED
from attndreambooth.benchmarks.contest.table import Asked, Table, documented_asked
from attndreambooth.benchmarks.document import PAGE, committed, written
from attndreambooth.micro.concepts import EVALUATION
from attndreambooth.micro.weight_files import JUDGES, MODEL, card_hashes


def test_the_page_says_what_the_rows_say():
    text = PAGE.read_text(encoding="utf-8")
    assert text == written(text), "run: python benchmarks/document.py"
    assert text.count("<!-- rows: ") == text.count("<!-- end -->") == 5


def test_a_mean_of_the_page_is_that_of_the_files():
    """By the files alone, of one method."""
    own = [json.loads(path.read_text()) for path in COMMITTED.glob("dreambooth--*--many-*.json")]
    asked = {row.asked for row in committed("many") if row.method == "DreamBooth"}
    values = [row["values"]["joint"] for row in own if {row["asked"]} == asked]
    [line] = [
        line
        for line in PAGE.read_text("utf-8").splitlines()
        if line.startswith("| DreamBooth | 2,4")
    ]
    assert len(values) == 12 and line.split(" | ")[5].startswith(f"{sum(values) / 12:.3f} [")


def test_rows_of_other_weights_are_called_that():
    old, new = ({MODEL: digit * 64, JUDGES: "c" * 64} for digit in "ab")
    assert of_weights(old, old) == "The rows are of the weights that the pack has (`aaaaaaaaaaaa`)."
    said = of_weights(old, new)
    assert said.startswith("**The rows are of earlier weights of the embedded model**")
    assert f"(`{MODEL}` was `aaaaaaaaaaaa`, now `bbbbbbbbbbbb`)" in said
    said = of_weights(old, {**old, JUDGES: "d" * 64})
    assert said.startswith("**The rows were scored by earlier judges**")
    assert f"(`{JUDGES}` was `cccccccccccc`, now `dddddddddddd`)" in said and MODEL not in said


def test_the_documented_rows_are_of_the_weights_that_are_noted():
    """All of them were asked for with these; with any other nothing would be found."""
    assert {row.places for row in committed("many")} == {"many"}
    asked = documented_asked()
    assert set(asked.weights) == set(card_hashes())
    asked = replace(asked, weights={**asked.weights, MODEL: "0" * 64})
    assert Table(asked, COMMITTED).found(all_contestants(recipes()), EVALUATION) == []


def test_the_page_goes_over_to_the_weights_and_pictures_that_are_usual_now(tmp_path, monkeypatch):
    page, noted = tmp_path / "page.md", tmp_path / "asked.json"
    page.write_text("<!-- rows: weights -->\n<!-- end -->", encoding="utf-8")
    earlier = {"images": 1, "weights": {**card_hashes(), MODEL: "0" * 64}}
    noted.write_text(json.dumps(earlier), encoding="utf-8")
    monkeypatch.setattr(document, "PAGE", page)
    for module in (document, table):
        monkeypatch.setattr(module, "DOCUMENTED", noted)
    assert document.main([]) == 0 and documented_asked().images == 1
    assert "earlier weights" in page.read_text("utf-8")
    assert document.main(["--now"]) == 0
    assert documented_asked() == Asked(precision="fp32")
    assert "are of the weights that the pack has" in page.read_text("utf-8")


def test_the_documented_rows_are_printed_whatever_weights_the_pack_has(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "asked_by", lambda *_: Asked(weights={MODEL: "0" * 64}))
    file = tmp_path / "figures.json"
    assert evaluate.main(["--documented", "--json", str(file)]) == 0
    made, rows = json.loads(file.read_text(encoding="utf-8")), committed("many")
    assert (made["images"], made["seed"], made["photos"]) == (documented_asked().images, 0, "many")
    assert {row["method"] for row in made["rows"]} == set(COMPARED)
    assert made["concepts"] == sorted({row.concept for row in rows})


def test_the_best_comes_first_ours_is_bold_and_what_chance_hardly_gives_is_starred():
    ours = [a_row("AttnDreamBooth", str(i), 0.5) for i in range(6)]
    alike = [a_row("NeTI", str(i), 0.5 + (-1) ** i * 0.01) for i in range(6)]
    better = [a_row("OFT", str(i), 0.6) for i in range(6)]
    names = {"NeTI": "NeTI", "AttnDreamBooth": "ours", "OFT": "OFT", "ViCo": "not there"}
    _, _, first, second, third = compared([*alike, *ours, *better], names).splitlines()
    assert first == "| OFT | 8 | 0.600 | 0.610 | 0.620 | 0.630 [0.63, 0.63] | +0.100 * |"
    bold, plain = sorted((second, third), key=lambda line: "**" not in line)
    assert bold == "| ours | 8 | 0.500 | 0.510 | 0.520 | **0.530** [0.53, 0.53] |  |"
    assert plain.startswith("| NeTI | 8 | 0.500 |") and plain.endswith("| +0.000 |")


def test_parts_keep_their_order():
    rows = [a_row(name, "a", 0.1 * i) for i, name in enumerate(reversed(PARTS))]
    lines = compared(rows, PARTS, ordered=False).splitlines()[2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == list(PARTS.values())


def test_places_are_compared_on_the_concepts_that_all_have():
    two = [a_row("DreamBooth", c, 0.2) for c in "ab"] + [a_row("TI+DB", "a", 0.4)]
    many = [a_row("DreamBooth", "a", 0.3), a_row("TI+DB", "a", 0.5), a_row("DreamBooth", "b", 0.9)]
    assert places(many, two).splitlines()[2:] == [
        "| DreamBooth | 0.200 / 0.300 | 0.210 / 0.310 | 0.220 / 0.320 | 0.230 / 0.330 |",
        "| TI+DB | 0.400 / 0.500 | 0.410 / 0.510 | 0.420 / 0.520 | 0.430 / 0.530 |",
    ]


def test_what_is_between_the_marks_is_replaced_and_nothing_else():
    text = "a\n<!-- rows: x -->\nold\n<!-- end -->\nb\n<!-- rows: y -->\n<!-- end -->"
    made = put(text, {"x": "X", "y": "Y"})
    assert made == (
        "a\n<!-- rows: x -->\n\nX\n\n<!-- end -->\nb\n<!-- rows: y -->\n\nY\n\n<!-- end -->"
    )
    assert put(made, {"x": "X", "y": "Y"}) == made
    with pytest.raises(ValueError, match="rows: y: there is no such table; there are x"):
        put(text, {"x": "X"})
