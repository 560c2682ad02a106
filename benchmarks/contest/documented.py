"""The tables of the documentation that are made of rows: between `<!-- rows: NAME -->` and the next
`<!-- end -->` of a Markdown file stands what the committed rows say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ...micro.weight_files import DIGITS, MODEL
from ..markdown import markdown
from .contestant import OUR_TITLE
from .rows import Row
from .standings import LEVEL, SCORES, Difference, differences, on_common_concepts, standings
from .table import BASE, ORACLE

_OURS = f"**{OUR_TITLE}** (preset *micro*)"
COMPARED = {
    ORACLE: "true renderings",
    OUR_TITLE: _OURS,
    **{name: name for name in ("DreamBooth", "TI+DB", "ViCo", "OFT", "Custom Diffusion", "NeTI")},
    **{name: name for name in ("Textual Inversion", BASE)},
}
"""Row -> what it is called there."""
SHORTER = {
    OUR_TITLE: _OURS,
    "DreamBooth LoRA": "DreamBooth LoRA, rank 8",
    "turbo": f"{OUR_TITLE}, *turbo*",
    "fast": f"{OUR_TITLE}, *fast*",
    f"{OUR_TITLE} LoRA": f"{OUR_TITLE} LoRA, rank 8 (preset *micro-lora*)",
}
PARTS = {
    OUR_TITLE: "whole",
    **{f"without {part}": f"without {part}" for part in ("stage 1", "stage 2", "stage 3")},
    "without the regulariser": "without the regulariser",
}
PLACES = (OUR_TITLE, "DreamBooth", "TI+DB", "without the regulariser")
SHOWN = SCORES[:4]
_TABLE = re.compile(r"(<!-- rows: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def documented(many: Sequence[Row], two: Sequence[Row]) -> dict[str, str]:
    """Name of a table -> the table, of the rows of many places and of two."""
    return {
        "compared": compared(many, COMPARED),
        "shorter": compared(many, SHORTER, first=OUR_TITLE),
        "parts": compared(many, PARTS, first=OUR_TITLE, whole="the whole", ordered=False),
        "places": places(many, two),
    }


def compared(
    rows: Sequence[Row],
    names: Mapping[str, str],
    *,
    first: str = "",
    whole: str = OUR_TITLE,
    ordered: bool = True,
) -> str:
    """Means over concepts of these rows, the best joint score first, and the difference of it to
    ours, starred where chance gives one as large in 5 % of cases or less."""
    own = [row for row in rows if row.method in names]
    found, minus = standings(own), differences(own, OUR_TITLE)
    lines: list[tuple[str, ...]] = [
        ("", "samples", *SHOWN[:3], "joint, 95 %", f"joint minus {whole}")
    ]
    methods = [name for name in names if name in found]
    if ordered:
        methods.sort(key=lambda name: (name != first, -found[name]["joint"].mean))
    for method in methods:
        samples = next(row.samples for row in own if row.method == method)
        means, joint = [f"{found[method][s].mean:.3f}" for s in SHOWN[:3]], found[method]["joint"]
        mean = f"**{joint.mean:.3f}**" if method == OUR_TITLE else f"{joint.mean:.3f}"
        spread = f"{mean} [{joint.low:.2f}, {joint.high:.2f}]"
        off = _starred(minus[method]["joint"]) if method in minus else ""
        lines.append((names[method], f"{samples:,}" if samples else "", *means, spread, off))
    return markdown(lines)


def places(many: Sequence[Row], two: Sequence[Row]) -> str:
    """Photos from two places, behind the slash from many, of the concepts that all methods have."""
    lines: list[tuple[str, ...]] = [("", *SHOWN)]
    here = on_common_concepts([row for row in two if row.method in PLACES])
    concepts = {row.concept for row in here}
    there = [row for row in many if row.method in PLACES and row.concept in concepts]
    mine, others = standings(here), standings(there)
    for method in PLACES:
        if method in mine and method in others:
            pairs = ((mine[method][s].mean, others[method][s].mean) for s in SHOWN)
            lines.append((method, *(f"{a:.3f} / {b:.3f}" for a, b in pairs)))
    return markdown(lines)


def of_weights(rows: Mapping[str, str], shipped: Mapping[str, str]) -> str:
    """Which weights made the rows; what has other ones now is said."""
    mine, now = ({name: h[:DIGITS] for name, h in w.items()} for w in (rows, shipped))
    changed = [name for name in shipped if rows.get(name) != shipped[name]]
    if not changed:
        return f"The rows are of the weights that the pack has (`{now[MODEL]}`)."
    others = " and ".join(f"`{name}` was `{mine.get(name)}`, now `{now[name]}`" for name in changed)
    if MODEL not in changed:
        return (
            "**The rows were scored by earlier judges** or an earlier micro CLIP of the embedded "
            f"model ({others}); the model that drew them is the one that the pack has. Rows with "
            "the present ones are being made."
        )
    return (
        f"**The rows are of earlier weights of the embedded model** ({others}): their "
        "tables and figures, the remarks on them, and the searches say nothing of the "
        "[present ones](../micro/weights/attndb-micro.md). Rows of those are being made."
    )


def _starred(value: Difference) -> str:
    return f"{value.mean:+.3f}" + (" *" if value.chance <= LEVEL else "")


def put(text: str, tables: Mapping[str, str]) -> str:
    """The text with its tables as they are now. ValueError for one that nobody makes."""

    def new(found: re.Match[str]) -> str:
        head, name, _, end = found.groups()
        if name not in tables:
            raise ValueError(f"rows: {name}: there is no such table; there are {', '.join(tables)}")
        return f"{head}\n{tables[name]}\n\n{end}"

    return _TABLE.sub(new, text)
