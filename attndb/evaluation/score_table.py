"""ScoreTable: rows of scores as Markdown, and which row is best."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from ..config.printable import printable
from .scores import IDENTITY, METRICS, SHARES, TEXT, Scores

BOTH = "identity and text"
BEST_BY = (BOTH, IDENTITY, TEXT)
"""What the best row may be chosen by."""
ATTENTION = "maps agree"
_ATTENTION_MEANS = "mean cosine of the attention maps of the new word and of its category"


def score_table(rows: Sequence[Scores]) -> str:
    """Markdown: a line for each row, a column for each metric that some row has, its best value
    bold, and below it what the columns mean and what has to be known of the rows."""
    columns = _columns(rows)
    marks = [_best_of(values, share) for _, values, share in columns]
    head, *body = score_rows(rows)
    lines = [f"| {' | '.join(map(_cell, head))} |", "|" + "---|" * len(head)]
    for number, cells in enumerate(body):
        label, pictures, *values = map(_cell, cells)
        shown = [
            f"**{value}**" if number in best else value
            for value, best in zip(values, marks, strict=True)
        ]
        lines.append(f"| {' | '.join([label, pictures, *shown])} |")
    return "\n".join([*lines, "", *(f"- {line}" for line in meanings_of(rows).splitlines())])


def score_rows(rows: Sequence[Scores]) -> list[tuple[str, ...]]:
    """The same as plain text: the head, then a line for each row."""
    if not rows:
        raise ValueError("there is nothing to compare: give at least one row of scores")
    columns = _columns(rows)
    table: list[tuple[str, ...]] = [("", "pictures", *(title for title, *_ in columns))]
    for number, row in enumerate(rows):
        shown = (_shown(values[number], share) for _, values, share in columns)
        table.append((row.label, str(row.pictures), *shown))
    return table


def meanings_of(rows: Sequence[Scores]) -> str:
    """What measured them, where no column names it, what the columns mean, and what has to be known
    of the rows, a line each."""
    encoders = list(dict.fromkeys(_cell(name) for row in rows for name in row.by_encoder))
    by = [f"measured by {encoders[0]}"] if len(encoders) == 1 else []
    used = dict.fromkeys(title.rpartition(": ")[2] for title, *_ in _columns(rows))
    meanings = {**METRICS, ATTENTION: _ATTENTION_MEANS}
    notes = [f"{_cell(row.label)}: {note}" for row in rows for note in row.notes]
    return "\n".join([*by, *(f"{name}: {meanings[name]}" for name in used), *notes])


def merit(row: Scores, by: str) -> float | None:
    """What rows are put in order by: a metric, or the geometric mean of identity and text, which is
    high only where both are; None where it was not measured. ValueError for another name."""
    if by not in BEST_BY:
        raise ValueError(f"best_by = {by!r}: choose {', '.join(BEST_BY)}")
    if by != BOTH:
        return row.value(by)
    return high_in_both(row.value(IDENTITY), row.value(TEXT))


def high_in_both(one: float | None, other: float | None) -> float | None:
    """The geometric mean of two scores, below zero taken for zero; None where one is missing."""
    if one is None or other is None:
        return None
    return sqrt(max(0.0, one) * max(0.0, other))


def best_row(rows: Sequence[Scores], by: str) -> int:
    """Number of the best row, the first of equal ones. ValueError if no row has the metric."""
    values = [merit(row, by) for row in rows]
    there = [number for number, value in enumerate(values) if value is not None]
    if not there:
        raise ValueError(
            f"best_by = {by!r}: no encoder gave a score of text; connect one of CLIP that reads "
            f"texts, or choose {IDENTITY!r}"
        )
    return max(there, key=lambda number: values[number] or 0.0)


def won(row: Scores, other: Scores, metric: str) -> tuple[int, int] | None:
    """In how many of how many pictures, each drawn of the same prompt with the same noise, `row` is
    above `other`; ties count for neither. None where the pictures are no pairs."""
    ours, theirs = row.each.get(metric, ()), other.each.get(metric, ())
    if not ours or len(ours) != len(theirs):
        return None
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
    return sum(a > b for a, b in pairs), len(pairs)


def _columns(rows: Sequence[Scores]) -> list[tuple[str, list[float | None], bool]]:
    """Title, a value for each row, and whether it is a share, of each column that has one."""
    encoders = list(dict.fromkeys(name for row in rows for name in row.by_encoder))
    columns = []
    for encoder in encoders:
        for metric in METRICS:
            values = [row.by_encoder.get(encoder, {}).get(metric) for row in rows]
            title = metric if len(encoders) == 1 else f"{encoder}: {metric}"
            columns.append((title, values, metric in SHARES))
    columns.append((ATTENTION, [row.attention for row in rows], False))
    return [column for column in columns if any(value is not None for value in column[1])]


def _best_of(values: Sequence[float | None], share: bool) -> set[int]:
    """Rows of the highest value as it is shown; none where all are equal or there is one."""
    shown = [_shown(value, share) for value in values]
    there = {n: value for n, value in enumerate(values) if value is not None}
    if len({shown[n] for n in there}) < 2:
        return set()
    highest = shown[max(there, key=lambda n: there[n])]
    return {n for n in there if shown[n] == highest}


def _shown(value: float | None, share: bool) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.0f}%" if share else f"{value:.3f}"


def _cell(text: str) -> str:
    return printable(text, 80).replace("|", "\\|")
