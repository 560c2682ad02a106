"""The tables of the nodes' help pages, made from the nodes' schemas.

`ATTNDB_WRITE_HELP=1 python -m pytest tests/nodes/test_help_pages.py` writes them into web/docs.
"""

from __future__ import annotations

from typing import Any

BEGIN, END = "<!-- from the schema -->", "<!-- end -->"


def with_tables(page: str, schema: Any) -> str:
    """A help page with its tables made anew from the node's schema; ValueError without a place for
    them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{tables(schema)}\n{END}{after}"


def tables(schema: Any) -> str:
    """Inputs, with their defaults, and outputs as Markdown tables of two columns: the page's panel
    is narrow."""
    parts = []
    if schema.inputs:
        rows = [row for item in schema.inputs for row in _rows(item)]
        parts.append(_table(("Input", "Meaning"), rows))
    if schema.outputs:
        rows = [(out.display_name or out.id, out.tooltip) for out in schema.outputs]
        parts.append(_table(("Output", "Meaning"), rows))
    return "\n\n".join(parts)


def _rows(item: Any) -> list[tuple[str, str]]:
    """An input, and for one with settings of each choice (DynamicCombo) these below it."""
    choices = [o for o in getattr(item, "options", None) or [] if hasattr(o, "inputs")]
    if not choices:
        return [(_name(item), _meaning(item.tooltip, _default(item)))]
    inner = [
        (f"{choice.key}: {_name(own)}", _meaning(own.tooltip, _default(own)))
        for choice in choices
        for own in choice.inputs
    ]
    return [(_name(item), _meaning(item.tooltip, f"`{choices[0].key}`")), *inner]


def _meaning(tooltip: str, default: str) -> str:
    return f"{tooltip} Default: {default}." if default else tooltip


def _name(item: Any) -> str:
    extra = [
        word
        for word, said in (
            ("optional", getattr(item, "optional", False)),
            ("advanced", getattr(item, "advanced", False)),
        )
        if said
    ]
    return item.id + (f" ({', '.join(extra)})" if extra else "")


def _default(item: Any) -> str:
    value = getattr(item, "default", None)
    options = getattr(item, "options", None)
    if value is None and isinstance(options, list) and options:
        value = (
            options[0] if item.id not in ("folder", "name", "embedding") else None
        )  # what is on this disk
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if value == "":
        return "empty"
    return "`" + str(value).replace("\n", " / ") + "`" if isinstance(value, str) else str(value)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [" ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;") for cell in row]
        lines.append("| " + " | ".join(cells).rstrip() + " |")
    return "\n".join(lines)
