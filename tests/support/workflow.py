"""A workflow as the front end saves it, turned into the prompt that the front end would post."""

from __future__ import annotations

from typing import Any

WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
NOT_RUN = ("Note", "MarkdownNote")
NEVER, BYPASS = 2, 4  # LiteGraph's node modes: muted, and passed through


class WorkflowError(ValueError):
    """The workflow cannot be turned into a prompt; names the node."""


def is_ui_workflow(content: dict[str, Any]) -> bool:
    """Whether a JSON file is a saved graph (positions and all) rather than an API prompt."""
    return isinstance(content.get("nodes"), list)


def ui_workflow_to_api(
    workflow: dict[str, Any], object_info: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """The API prompt of a saved graph.

    object_info: the server's answer to /object_info; gives names and order of the widgets.
    Raises WorkflowError for a node that the server lacks, and for subgraphs, which are not read.
    """
    if workflow.get("definitions", {}).get("subgraphs"):
        raise WorkflowError("workflows with subgraphs are not supported here")
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: (link[1], link[2]) for link in map(_as_list, workflow["links"])}

    def source(link: int | None) -> list[Any] | None:
        """The output that a link comes from in the end, past reroutes and bypassed nodes."""
        if link is None or link not in links:
            return None
        origin, slot = links[link]
        node = nodes[origin]
        if node.get("mode") == NEVER:
            return None
        if node["type"] == "Reroute":
            return source(node["inputs"][0].get("link"))
        if node.get("mode") == BYPASS:
            return source(stand_in(node, slot))
        if node["type"] == "PrimitiveNode":
            return [None, node["widgets_values"][0]]
        return [str(origin), slot]

    prompt: dict[str, dict[str, Any]] = {}
    for key, node in nodes.items():
        if node["type"] in (*NOT_RUN, "Reroute", "PrimitiveNode"):
            continue
        if node.get("mode") in (NEVER, BYPASS):
            continue
        if node["type"] not in object_info:
            raise WorkflowError(f"node {key}: the server has no node {node['type']!r}")
        inputs = _widget_values(node, object_info[node["type"]])
        for socket in node.get("inputs", []):
            found = source(socket.get("link"))
            if found is not None:
                inputs[socket["name"]] = found[1] if found[0] is None else found
        prompt[str(key)] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def _as_list(link: Any) -> list[Any]:
    """A link, which newer front ends write as an object, as [id, origin, slot, ...]."""
    if isinstance(link, dict):
        return [link["id"], link["origin_id"], link["origin_slot"]]
    return link


def stand_in(node: dict[str, Any], slot: int) -> Any:
    """The input link that takes the place of an output of a bypassed node: of the same type."""
    wanted = node["outputs"][slot]["type"]
    inputs = node.get("inputs", [])
    order = [*inputs[slot : slot + 1], *inputs]
    return next((i.get("link") for i in order if i["type"] in (wanted, "*")), None)


def widget_names(node: dict[str, Any], info: dict[str, Any]) -> list[str | None]:
    """Names of a node's widgets in the order of `widgets_values`; None is not sent to the server.

    None stands for what the front end adds: "control after generate", and the upload button.
    """
    converted = {
        socket["widget"]["name"] for socket in node.get("inputs", []) if socket.get("widget")
    }
    names: list[str | None] = []
    for group in ("required", "optional"):
        for name in info.get("input_order", {}).get(group, info["input"].get(group, {})):
            spec = info["input"][group][name]
            kind, options = spec[0], (spec[1] if len(spec) > 1 else {}) or {}
            is_widget = isinstance(kind, list) or kind in WIDGET_TYPES or name in converted
            if not is_widget or options.get("forceInput"):
                continue
            names.append(name)
            seeds = name in ("seed", "noise_seed") and kind == "INT"
            if options.get("control_after_generate", seeds):
                names.append(None)
            if any(options.get(k) for k in ("image_upload", "audio_upload", "video_upload")):
                names.append(None)
    return names


def _widget_values(node: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    values = node.get("widgets_values") or []
    if isinstance(values, dict):
        return {k: v for k, v in values.items() if any(k in g for g in info["input"].values())}
    names = widget_names(node, info)
    given = {name: value for name, value in zip(names, values, strict=False) if name is not None}
    # An older file lacks the newest widgets, which the front end then shows with their defaults.
    newer = {name for name in names[len(values) :] if name is not None}
    specs = info["input"].get("required", {}) | info["input"].get("optional", {})
    return given | {name: _default(specs[name]) for name in newer}


def _default(spec: list[Any]) -> Any:
    """What the front end puts into a widget that a file says nothing about."""
    kind, options = spec[0], (spec[1] if len(spec) > 1 else {}) or {}
    if "default" in options:
        return options["default"]
    choices = kind if isinstance(kind, list) else options.get("options") or []
    return choices[0] if choices else {"BOOLEAN": False, "STRING": ""}.get(kind, 0)
