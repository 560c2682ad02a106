"""A workflow as the front end saves it, turned into the prompt that the front end would post."""

from __future__ import annotations

from typing import Any

WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
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


def dynamic_options(spec: list[Any], key: Any) -> dict[str, list[Any]]:
    """Of a DynamicCombo (comfy_api's io): the inputs below the option of this key, by their own
    names; those of the first option if there is no such key."""
    options = spec[1]["options"]
    chosen = next((o for o in options if o["key"] == key), options[0])
    return {name: one for group in chosen["inputs"].values() for name, one in group.items()}


def widgets_of(
    node: dict[str, Any], info: dict[str, Any]
) -> list[tuple[str | None, list[Any] | None]]:
    """Names and specs of a node's widgets in the order of `widgets_values`; a name that is None is
    not sent to the server.

    None stands for what the front end adds: "control after generate", and the upload button. A
    DynamicCombo is followed by the widgets of the option that the file says, `method.steps`.
    """
    values = node.get("widgets_values") or []
    converted = {
        socket["widget"]["name"] for socket in node.get("inputs", []) if socket.get("widget")
    }
    found: list[tuple[str | None, list[Any] | None]] = []

    def add(name: str, spec: list[Any]) -> None:
        kind, options = spec[0], (spec[1] if len(spec) > 1 else {}) or {}
        if kind == DYNAMIC_COMBO:
            key = values[len(found)] if len(found) < len(values) else None
            found.append((name, spec))
            for below, one in dynamic_options(spec, key).items():
                add(f"{name}.{below}", one)
            return
        is_widget = isinstance(kind, list) or kind in WIDGET_TYPES or name in converted
        if not is_widget or options.get("forceInput"):
            return
        found.append((name, spec))
        seeds = name in ("seed", "noise_seed") and kind == "INT"
        if options.get("control_after_generate", seeds):
            found.append((None, None))
        if any(options.get(k) for k in ("image_upload", "audio_upload", "video_upload")):
            found.append((None, None))

    for group in ("required", "optional"):
        for name in info.get("input_order", {}).get(group, info["input"].get(group, {})):
            add(name, info["input"][group][name])
    return found


def _widget_values(node: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    values = node.get("widgets_values") or []
    if isinstance(values, dict):
        return {k: v for k, v in values.items() if any(k in g for g in info["input"].values())}
    widgets = widgets_of(node, info)
    given = {name: v for (name, _), v in zip(widgets, values, strict=False) if name is not None}
    # An older file lacks the newest widgets, which the front end then shows with their defaults.
    newer = {name: spec for name, spec in widgets[len(values) :] if name is not None and spec}
    return given | {name: default_of(spec) for name, spec in newer.items()}


def default_of(spec: list[Any]) -> Any:
    """What the front end puts into a widget that a file says nothing about."""
    kind, options = spec[0], (spec[1] if len(spec) > 1 else {}) or {}
    if "default" in options:
        return options["default"]
    choices = kind if isinstance(kind, list) else options.get("options") or []
    if kind == DYNAMIC_COMBO:
        return choices[0]["key"]
    blank: dict[object, Any] = {"BOOLEAN": False, "STRING": ""}
    return choices[0] if choices else blank.get(kind, 0)
