"""Shipped graphs for a real server on a small machine; one short stage stands for all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

from attndreambooth.attndb.config.presets import PRESETS
from attndreambooth.devkit.pack import ROOT
from support.outcome import Outcome
from support.server import HostServer
from support.workflow import default_of, ui_workflow_to_api

STAGE = "AttnDBStage3TrainUNet"
OPTIONS = "AttnDBTrainingOptions"
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
        for key, node in list(self.prompt.items()):
            if node["class_type"] in ("EmptyLatentImage", "ImageScale", PREVIEW):
                node["inputs"] |= {"width": side, "height": side}
            if node["class_type"] in ("KSampler", PREVIEW):
                node["inputs"]["steps"] = 2
            if node["class_type"] == "AttnDBAllStages":
                self._one_stage(key, known, side)

    def _one_stage(self, key: str, known: dict[str, Any], side: int) -> None:
        """The last stage of the node's preset, as thin a change as there, instead of all three."""
        asked = self.prompt[key]["inputs"]
        last = PRESETS[asked["preset"]]()[-1]
        wires = {name: value for name, value in asked.items() if isinstance(value, list)}
        if last.lora_rank:
            options = {**_defaults(known[OPTIONS]), "lora_rank": last.lora_rank}
            self.prompt["options"] = {"class_type": OPTIONS, "inputs": options}
            wires["options"] = ["options", 0]
        cut = {"steps": 2, "batch_size": 2, "resolution": side}
        rate = {"learning_rate": last.optimizer.learning_rate}
        inputs = {**_defaults(known[STAGE]), **rate, **wires, **cut}
        self.prompt[key].update(class_type=STAGE, inputs=inputs)

    def ids(self, kind: str) -> list[str]:
        return [key for key, node in self.prompt.items() if node["class_type"] == kind]

    def run(self) -> Outcome:
        return self.server.run(self.prompt)


def _defaults(info: dict[str, Any]) -> dict[str, Any]:
    """What the front end would put into the widgets that a node has to have."""
    widgets = info["input"]["required"]
    return {name: default_of(spec) for name, spec in widgets.items()}


def rank_in(file: Path) -> int:
    """Of the low-rank changes in a weights file, where wide enough; 0: none is there."""
    with safe_open(file, "np") as tensors:
        keys = [key for key in tensors.keys() if "lora_down" in key]
        return max((tensors.get_slice(key).get_shape()[0] for key in keys), default=0)
