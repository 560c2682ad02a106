"""Texts of several prompts: a line is a prompt."""

from __future__ import annotations

from collections.abc import Iterable


def asked_lines(texts: str | Iterable[str]) -> list[str]:
    """The lines of a text, or of several, without empty ones and those that begin with #."""
    given = [texts] if isinstance(texts, str) else texts
    lines = (line.strip() for text in given for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
