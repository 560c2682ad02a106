"""Shipped graphs for a real server on a small machine; one short stage stands for all."""

from __future__ import annotations

import json
from typing import Any

from attndreambooth.devkit.pack import ROOT
from support.outcome import Outcome
from support.server import HostServer
from support.workflow import default_of, ui_workflow_to_api

STAGE = "AttnDBStage3TrainUNet"
PREVIEW = "AttnDBTrainingPreview"


class Shipped:
    """A graph's prompt, its trainings and drawings cut short; `side`: of its pictures in pixels, if
    not as shipped."""

    def __init__(self, server: HostServer, name: str, side: int | None = None) -> None:
        known = server.object_info()
        text = (ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8")
        self.server, self.prompt = server, ui_workflow_to_api(json.loads(text), known)
        if side is None:
            side = self.prompt[self.ids("EmptyLatentImage")[0]]["inputs"]["width"]
        assert isinstance(side, int)
        for node in self.prompt.values():
            if node["class_type"] in ("EmptyLatentImage", "ImageScale", PREVIEW):
                node["inputs"] |= {"width": side, "height": side}
            if node["class_type"] in ("KSampler", PREVIEW):
                node["inputs"]["steps"] = 2
            if node["class_type"] == "AttnDBAllStages":
                inputs = _one_stage(node["inputs"], known[STAGE], side)
                node.update(class_type=STAGE, inputs=inputs)

    def ids(self, kind: str) -> list[str]:
        return [key for key, node in self.prompt.items() if node["class_type"] == kind]

    def run(self) -> Outcome:
        return self.server.run(self.prompt)


def _one_stage(asked: dict[str, Any], info: dict[str, Any], side: int) -> dict[str, Any]:
    """The inputs of a stage with the wires of Train Concept; `side`: of the pictures, in pixels."""
    widgets = info["input"]["required"]
    wires = {name: value for name, value in asked.items() if isinstance(value, list)}
    given = {name: default_of(spec) for name, spec in widgets.items() if name not in wires}
    return {**given, **wires, "steps": 2, "batch_size": 2, "resolution": side}
