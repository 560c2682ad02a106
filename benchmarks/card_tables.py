"""Tables of a card: what `benchmarks/gpu.py --json` wrote, as Markdown for docs/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .markdown import markdown

COLUMNS = (
    "stage",
    "what",
    "precision",
    "step, s",
    "first step, s",
    "times as fast as published fp32",
    "as published bf16",
    "memory, GB",
    "estimated, GB",
    "TFLOP/s",
    "of the ceiling",
)


def tables(found: Mapping[str, Any]) -> str:
    """Circumstances, a table of steps and one of whole recipes; what was not run is left out."""
    ceilings = ", ".join(f"{name} {value:.0f}" for name, value in found["matmul_tflops"].items())
    parts = [
        f"{found['device']}, torch {found['torch']}, {found['date']}: {found['size']}, "
        f"{found['resolution']} px, batch {found['batch']}. Plain matrix products reach {ceilings} "
        f"TFLOP/s.{'' if found['complete'] else ' Not all rows were run.'}"
    ]
    if found["rows"]:
        parts.append(markdown([COLUMNS, *map(_step, found["rows"])]))
    if found["recipes"]:
        head = ("recipe", "stages 1 / 2 / 3, s", "all, s", "crops a photo")
        parts.append(markdown([head, *map(_recipe, found["recipes"])]))
    return "\n\n".join(parts)


def _step(row: Mapping[str, Any]) -> list[str]:
    if row.get("note"):
        seen = [row["note"], *[""] * 4, _number(row.get("estimated_mb"), 1e-3), "", ""]
    else:
        seen = [
            _number(row["time_s"], digits=3),
            _number(row["first_step_s"]),
            _number(row.get("ratio_published_fp32")),
            _number(row.get("ratio_published_bf16")),
            _number(row["memory_mb"], 1e-3),
            _number(row.get("estimated_mb"), 1e-3),
            _number(row.get("tflops")),
            f"{row['share_of_ceiling']:.0%}",
        ]
    return [str(row["stage"]), row["what"], row["precision"], *seen]


def _recipe(row: Mapping[str, Any]) -> list[str]:
    if row.get("note"):
        return [row["recipe"], row["note"], "", str(row["latent_pool"])]
    stages = " / ".join(_number(seconds) for seconds in row["stage_seconds"])
    return [row["recipe"], stages, _number(row["seconds"]), str(row["latent_pool"])]


def _number(value: float | None, scale: float = 1.0, digits: int = 1) -> str:
    return "" if value is None else f"{value * scale:.{digits}f}"
