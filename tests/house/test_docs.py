"""What the documents say of the tree is there, and the figure has the paper's numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from attndreambooth.attndb.config.presets import PRESETS
from attndreambooth.devkit.pack import ROOT
from attndreambooth.devkit.sources import SHIPPED, python_files

DOCUMENTS = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "micro" / "weights" / "attndb-micro.md"),
    ROOT / "tests" / "parity" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
SOURCES = [
    *python_files(*SHIPPED, "devkit", "demo", "benchmarks", "tests"),
    *(ROOT / "__init__.py", ROOT / "dev.py"),
]
PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))
NAMED = re.compile(
    r"(?<![\w/])((?:attndb|benchmarks|demo|devkit|docs|headless|micro|nodes|tests|web|workflows)"
    r"/[\w./-]+\.(?:py|md|json|png|jpg|safetensors))"
)
SENTENCE = re.compile(r"(?<=[.!?;])[\"*)]*\s+|:\s")
LONGEST = 30  # words; a sentence has fewer
ODD = re.compile(
    r"\bparted by commas|\bmend(?:s|ed)?\b|processor (?:time|seconds)|\bcards?\b", re.I
)
"""What the field calls: separated by commas, fix, CPU time, GPU."""
OTHER_CARDS = re.compile(r"\[card\]|model\s+card|(?:workflow's|second's|its) card", re.I)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
ANCHOR = re.compile(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)")
COMMAND = re.compile(
    r"(?:python|torchrun[^`\n]*?)\s+(?:dev\.py\s+(?P<dev>[\w-]+)|-m\s+(?P<own>attndb)\s+\w+"
    r"|(?P<file>[\w/]+\.py))(?P<rest>[^`#\n]*(?:\n[^`#\n]+(?=`))?)"
)
CITED = re.compile(r"(?<![\w/])docs/(\w+\.md)\b(?:, (?=[A-Z])(.{,60}))?")
"""A page that code names, and what follows: after a comma and with a capital letter, a heading."""
SCRIPT = re.compile(r'"([\w-]+)": \("([\w/]+\.py)"')


@pytest.mark.parametrize("path", [*DOCUMENTS, *PAGES], ids=lambda path: path.stem)
def test_files_that_a_document_names_are_there(path):
    text = path.read_text(encoding="utf-8")
    linked = [target.replace("%20", " ") for target in LINK.findall(text)]
    linked = [target.replace("%28", "(").replace("%29", ")") for target in linked]
    missing = [target for target in linked if not (path.parent / target).exists()]
    named = [name for name in NAMED.findall(text) if not re.search(r"/(NAME|ID)\.", name)]
    missing += [name for name in named if not (ROOT / name).exists()]
    assert missing == []


def _anchors(path: Path) -> set[str]:
    """What the headings of a page are linked by."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    heads = (re.sub(r"[^\w\- ]", "", head.lower()) for head in re.findall(r"^#+ (.*)", text, re.M))
    return {head.strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", [*DOCUMENTS, *PAGES], ids=lambda path: path.stem)
def test_an_anchor_that_a_document_links_to_is_a_heading_there(path):
    found = ANCHOR.findall(path.read_text(encoding="utf-8"))
    pages = [(path.parent / target if target else path, anchor) for target, anchor in found]
    assert [anchor for page, anchor in pages if anchor not in _anchors(page)] == []


def _cited_in_vain(source: str) -> list[str]:
    """Pages of docs/ that a source names and that are not there, or have no such heading."""
    wrong = []
    for page, follows in CITED.findall(" ".join(source.replace("#", " ").split())):
        path = ROOT / "docs" / page
        if not path.is_file():
            wrong.append(page)
        elif follows:
            heads = re.findall(r"^#+ (.*)", path.read_text(encoding="utf-8"), re.M)
            if not any(re.match(rf"{re.escape(head)}(?!\w)", follows) for head in heads):
                wrong.append(f"{page}, {follows}")
    return wrong


def test_a_page_or_heading_that_code_names_is_there():
    wrong = {
        path.relative_to(ROOT).as_posix(): found
        for path in SOURCES
        if (found := _cited_in_vain(path.read_text(encoding="utf-8")))
    }
    assert wrong == {}


def test_a_page_or_heading_that_is_not_there_is_seen():
    folder = "docs/"
    assert _cited_in_vain(f'"""As {folder}formulas.md, The\n    regulariser, says."""') == []
    assert _cited_in_vain(f"# {folder}formulas.md, The\n# three stages: steps") == []
    assert _cited_in_vain(f"({folder}formula.md)") == ["formula.md"]
    assert len(_cited_in_vain(f"({folder}formulas.md, The four stages)")) == 1


def _program(command: re.Match[str]) -> list[Path]:
    """Where the options of a command are: its file, and what lies below that one's folder."""
    if command["own"]:
        return [ROOT / "attndb" / "__main__.py", *(ROOT / "headless").glob("*.py")]
    scripts = dict(SCRIPT.findall((ROOT / "dev.py").read_text(encoding="utf-8")))
    program = ROOT / (command["file"] or scripts.get(command["dev"], "devkit/suite.py"))
    own = [program, *program.parent.glob("*/*.py")]
    return [*own, ROOT / "dev.py"] if command["dev"] else own


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_a_command_that_a_document_names_has_these_options(path):
    missing = []
    for command in COMMAND.finditer(path.read_text(encoding="utf-8")):
        known = "".join(source.read_text(encoding="utf-8") for source in _program(command))
        options = re.findall(r"(?<![\w-])--[a-z][\w-]*", command["rest"].partition(" -- ")[0])
        missing += [f"{command[0]}: {option}" for option in options if f'"{option}"' not in known]
    assert missing == []


def test_presets_are_named_where_users_choose_one():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    [row] = [line for line in lines if line.startswith("| Train Concept |")]
    assert set(re.findall(r"[*]([\w-]+)[*]", row)) == set(PRESETS)
    lines = (ROOT / "docs" / "headless.md").read_text(encoding="utf-8").splitlines()
    [row] = [line for line in lines if line.startswith("| `preset` |")]
    assert set(re.findall(r"`([\w-]+)`", row)) == {"preset", *PRESETS}


def test_a_test_that_a_document_names_by_its_file_alone_is_there():
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    for path in DOCUMENTS:
        named = re.findall(r"\btest_\w+\.py", path.read_text(encoding="utf-8"))
        assert set(named) <= there, path.name


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_a_sentence_is_short(name):
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.S)
    blocks = re.split(r"\n\s*\n|\n(?=[-|#>]|\d+\.)", re.sub(r"\]\([^)]*\)", "]", text))
    parts = [part for block in blocks for part in block.split("|")]
    sentences = [sentence for part in parts for sentence in SENTENCE.split(part)]
    assert [s for s in sentences if len(re.findall(r"\S*\w\S*", s)) >= LONGEST] == []


def test_the_tree_of_contributing_names_every_room():
    tree = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("```")[1]
    line_of = {line.split()[0]: line for line in tree.splitlines() if line[:1].isalpha()}
    for place in ("attndb", "nodes/host"):
        rooms = {path.parent.name for path in (ROOT / place).glob("*/__init__.py")}
        assert [room for room in sorted(rooms) if room not in line_of[f"{place}/"]] == []


@pytest.mark.parametrize("path", [*DOCUMENTS, *PAGES], ids=lambda path: path.stem)
def test_what_users_read_has_the_words_of_the_field(path):
    if path.stem != "CONTRIBUTING":  # its cards are those of workflows
        assert ODD.findall(OTHER_CARDS.sub("", path.read_text(encoding="utf-8"))) == []


def test_the_figure_of_the_three_stages_has_the_presets_numbers():
    figure = (ROOT / "docs" / "how_it_works.svg").read_text(encoding="utf-8")
    said = re.findall(r"(\d+) steps, rate (\S+), batch (\d+)<", figure)
    tied = re.findall(r">weights ([\d.]+) / ([\d.]+)<", figure)
    paper = PRESETS["paper"]()
    assert [(int(steps), float(rate), int(batch)) for steps, rate, batch in said] == [
        (stage.steps, stage.optimizer.learning_rate, stage.batch_size) for stage in paper
    ]
    ours = [(s.regularization.mean_weight, s.regularization.variance_weight) for s in paper]
    assert [(float(mean), float(variance)) for mean, variance in tied] == ours


@pytest.mark.host
def test_the_readme_names_every_node(host):
    from attndreambooth.nodes import all_nodes

    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Nodes")[2]
    table = table.partition("## Workflows")[0]
    titles = [node.define_schema().display_name.removesuffix(" (demo)") for node in all_nodes()]
    assert [title for title in titles if title not in table] == []


def test_the_readme_names_every_workflow():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    names = [path.stem for path in (ROOT / "workflows").glob("*.json")]
    assert [name for name in names if f"[{name}](" not in text] == []
