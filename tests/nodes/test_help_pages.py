"""Every help page's tables say what the node's schema says."""

from __future__ import annotations

import os

import pytest
from PIL import Image

from attndreambooth.devkit.help_pages import BEGIN, END, tables, with_tables
from attndreambooth.devkit.pack import ROOT

PAGES = ROOT / "web" / "docs"


@pytest.fixture(scope="module")
def schemas(host) -> dict:
    """The nodes' schemas by id."""
    from attndreambooth.nodes import all_nodes

    found = [node.define_schema() for node in all_nodes()]
    return {schema.node_id: schema for schema in found}


def test_the_tables_of_every_help_page_are_those_of_the_schema(schemas):
    for name, schema in schemas.items():
        path = PAGES / f"{name}.md"
        page = path.read_text(encoding="utf-8")
        expected = with_tables(page, schema)
        if os.environ.get("ATTNDB_WRITE_HELP"):
            path.write_text(expected, encoding="utf-8", newline="\n")
        else:
            assert page == expected, f"{name}: set ATTNDB_WRITE_HELP=1 and run this test"


def test_every_help_page_is_of_a_node_and_bears_its_name(schemas):
    assert {path.stem for path in PAGES.glob("*.md")} == set(schemas)
    for name, schema in schemas.items():
        first = (PAGES / f"{name}.md").read_text(encoding="utf-8").splitlines()[0]
        assert first == f"# {schema.display_name}"


def test_every_help_page_has_typical_values_errors_and_a_picture_of_the_node_as_it_is(schemas):
    """The picture's file names the inputs that the node had when it was taken."""
    for name, schema in schemas.items():
        page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
        assert f"![{schema.display_name} in a graph](pictures/{name}.png)" in page, name
        assert "**Typical**" in page and ("**Errors**" in page or "## Errors" in page), name
        with Image.open(PAGES / "pictures" / f"{name}.png") as picture:
            shown = set(picture.text["inputs"].split())
        ours = {item.id for item in schema.inputs}
        grown = {slot.split(".")[0] for slot in shown}  # encoders.encoder_0, method.steps
        assert grown == ours, f"{name}: python tests/browser/node_pictures.py {name}"


def test_a_page_that_says_another_default_is_seen(schemas):
    schema = schemas["AttnDBStage1LearnEmbedding"]
    page = f"# Stage 1\n\n{BEGIN}\n{tables(schema)}\n{END}\n\nMore.\n"
    assert with_tables(page, schema) == page
    wrong = page.replace("Default: 60.", "Default: 61.")
    assert wrong != page
    assert with_tables(wrong, schema) == page


def test_a_page_without_a_place_for_the_tables_is_refused(schemas):
    with pytest.raises(ValueError, match="no <!-- from the schema -->"):
        with_tables("# Stage 1\n", schemas["AttnDBStage1LearnEmbedding"])
