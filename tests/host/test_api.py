"""The example of docs/api.md against a real server: its graph, its program, what it says comes."""

from __future__ import annotations

import json
import re
import shutil
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from support.workflow import ui_workflow_to_api

from attndreambooth.devkit.pack import ROOT
from attndreambooth.micro.concepts import CONCEPTS

pytestmark = [pytest.mark.host, pytest.mark.slow]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


@pytest.fixture
def example(alone) -> Any:
    """The page's program, for this server."""
    names: dict[str, Any] = {"__name__": "teach"}
    exec(compile(blocks("python")[0], "docs/api.md", "exec"), names)  # noqa: S102
    names["SERVER"] = alone.address
    return SimpleNamespace(**names)


@pytest.fixture
def prompt() -> dict[str, Any]:
    return json.loads(blocks("json")[0])


def test_the_pages_graph_is_the_shipped_workflow(alone, prompt):
    path = ROOT / "workflows" / "Teach a subject (toy model).json"
    workflow = json.loads(path.read_text(encoding="utf-8"))
    assert prompt == ui_workflow_to_api(workflow, alone.object_info())


def test_a_job_is_cancelled_goes_on_and_ends_its_stages(alone, example, prompt):
    told: list[str] = []

    def stopping(node: str, text: str) -> None:
        told.append(text)
        if node == example.TRAINS and text.startswith("step "):
            example.cancel()

    assert example.teach(prompt, stopping)[0] == "execution_interrupted"
    assert any(text.startswith("encoding photo crop ") for text in told)
    assert re.match(r"kept at step \d+ of 520; run again to go on", told[-1])

    told.clear()

    def ending(node: str, text: str) -> None:
        told.append(text)
        if node == example.TRAINS and text.startswith("step "):
            example.end_stage()

    event, (concepts, pictures) = example.teach(prompt, ending)
    assert event == "execution_success"
    assert any("resumed at step " in text for text in told)
    last = next(text for text in told if "; write: " in text)
    assert re.match(r"done in .*; write: <my-robot> robot\nkept in output/attndb/", last)
    assert all(f"Stage {number} of 3 was ended at step" in last for number in (1, 2, 3))
    assert concepts == json.loads(blocks("json")[1])["attndb"]
    assert all((alone.base / "models" / file).is_file() for file in concepts[0]["files"])
    assert len(pictures) == prompt["11"]["inputs"]["batch_size"]
    assert all(alone.view(picture).startswith(b"\x89PNG") for picture in pictures)

    again, (named, _) = example.teach(prompt, lambda node, text: None)
    assert (again, named) == ("execution_success", concepts), "from the host's cache"


def test_photos_are_uploaded_and_trained_on(alone, example, prompt, tmp_path):
    photos = [Image.fromarray(drawn.picture) for drawn, _ in CONCEPTS["ringed-cat"].photos()]
    paths = [tmp_path / f"photo-{number}.png" for number in range(len(photos))]
    for path, photo in zip(paths, photos, strict=True):
        photo.save(path)
    example.upload(paths, "my-cat")
    assert len(list((alone.base / "input" / "my-cat").iterdir())) == len(paths)
    asked = example.of_photos(prompt, "my-cat", "cat", "<my-cat>")
    for key in ("8", "9", "10", "11", "12", "13", "14"):  # what draws is drawn above
        del asked[key]
    asked["7"]["inputs"]["name"] = "my-cat"
    ending = SimpleNamespace(ended=0)

    def end(node: str, text: str) -> None:
        ending.ended += text.startswith("step ")
        example.end_stage()

    event, (concepts, _) = example.teach(asked, end)
    assert event == "execution_success" and ending.ended >= 3
    assert [concept["trigger"] for concept in concepts] == ["<my-cat> cat"]


def test_a_graph_that_is_wrong_is_refused_with_what_is(example, prompt):
    prompt["6"]["inputs"]["preset"] = "papre"
    with pytest.raises(SystemExit, match="papre"):
        example.teach(prompt, print)


def test_an_error_names_the_node_and_the_remedy(alone, example, prompt):
    shutil.rmtree(alone.base / "input" / "nothing", ignore_errors=True)
    (alone.base / "input" / "nothing").mkdir()
    asked = example.of_photos(prompt, "(typed path)", "cat", "<my-cat>")
    asked["3"]["inputs"]["path"] = "nothing"
    event, message = example.teach(asked, lambda node, text: None)
    assert event == "execution_error" and "Load Concept Dataset" in message
