"""What a prompt made, or how it failed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


class HostError(RuntimeError):
    """The server could not be started, or answered what it should not; carries its log's tail."""


class PromptRejected(HostError):
    """The server refused a prompt before running it; `errors` is its answer (JSON)."""

    def __init__(self, answer: dict[str, Any], log: str):
        self.errors = answer
        super().__init__(f"prompt rejected: {json.dumps(answer, indent=1)}\n{log}")


class ExecutionFailed(HostError):
    """A node raised; `node_id`, `node_type`, `kind` (exception type) and `message` say what."""

    def __init__(self, data: dict[str, Any], log: str):
        self.node_id = str(data.get("node_id"))
        self.node_type = str(data.get("node_type"))
        self.kind = str(data.get("exception_type"))
        self.message = str(data.get("exception_message")).strip()
        trace = "".join(data.get("traceback") or [])
        super().__init__(f"{self.node_type} #{self.node_id}: {self.message}\n{trace}\n{log}")


class Interrupted(HostError):
    """The prompt was cancelled; `node_id` is where."""

    def __init__(self, data: dict[str, Any], log: str):
        self.node_id = str(data.get("node_id"))
        super().__init__(f"interrupted at node {self.node_id}\n{log}")


@dataclass
class Outcome:
    """What one prompt did."""

    prompt_id: str
    outputs: dict[str, dict[str, Any]]
    """By node id, as /history gives them: `outputs["9"]["images"]`."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """Websocket messages in order, `{"type", "data"}`; pictures have type "binary"."""

    def executed(self) -> set[str]:
        """Ids of the nodes that really ran (were not cached)."""
        found = (e["data"].get("node") for e in self.events if e["type"] == "executing")
        return {str(node) for node in found if node is not None}

    def cached(self) -> set[str]:
        """Ids of the nodes whose results the server still had."""
        found = [e["data"]["nodes"] for e in self.events if e["type"] == "execution_cached"]
        return {str(node) for nodes in found for node in nodes}

    def texts(self) -> list[str]:
        """What was shown under the running nodes, in order."""
        return [e["data"]["text"] for e in self.events if e["data"].get("text") is not None]

    def pictures(self) -> list[bytes]:
        """Previews, as image files."""
        return [e["data"]["image"] for e in self.events if e["data"].get("image") is not None]
