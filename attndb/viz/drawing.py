"""Drawing: the part of PIL's ImageDraw that figures are drawn with."""

from __future__ import annotations

from typing import Any, Protocol


class Drawing(Protocol):
    """PIL's ImageDraw is one, and svg.SvgDrawing."""

    def line(self, xy: Any, fill: Any = None, width: int = 1) -> None:
        """A line through points."""
        ...

    def ellipse(self, xy: Any, fill: Any = None) -> None:
        """A filled ellipse in a box."""
        ...

    def text(
        self, xy: Any, text: str, fill: Any = None, font: Any = None, anchor: Any = None
    ) -> None:
        """Text from its top left, or from where the anchor (PIL's) says."""
        ...

    def textlength(self, text: str, font: Any = None) -> float:
        """Its width in pixels."""
        ...
