"""printable: what users and file systems name, safe in a message, a log line or JSON."""

from __future__ import annotations

LONGEST = 4000
"""Characters of a whole message."""


def printable(text: object, longest: int = LONGEST) -> str:
    """The text on one line, with escapes (`\\n`, `\\x1b`, `\\udcfc`) for what is no visible
    character: line ends, terminal codes, text direction, and surrogates, which stand for the bytes
    of a file name that is not UTF-8 and cannot be encoded. Cut in the middle beyond `longest`.
    """
    escaped = "".join(c if c.isprintable() else _escape(c) for c in str(text))
    if len(escaped) <= longest:
        return escaped
    half = longest // 2
    return f"{escaped[:half]} ... ({len(escaped) - 2 * half} characters) ... {escaped[-half:]}"


def quoted(text: object, longest: int = 100) -> str:
    """`printable` in quotes, short: for a value in the middle of a message."""
    shown = printable(text, longest)
    return f'"{shown}"' if "'" in shown else f"'{shown}'"


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
