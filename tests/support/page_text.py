"""A text under a node as the page shows it."""

from __future__ import annotations

from html import unescape


def as_seen(sent: str) -> str:
    """Of what is sent: it is HTML, with the line ends of Markdown."""
    return unescape(sent).replace("  \n", "\n")
