"""Node that lays pictures and maps of several models side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.v0_0_2 import io

from ..attndb.attention.prompt_words import split_queries
from ..attndb.viz.heatmaps import NORMALIZATIONS, HeatmapStyle
from ..attndb.viz.map_figure import MapFigure, comparison
from .errors import naming_node
from .wires import filled_lines

Maps = io.Custom("ATTNDB_MAPS")
CATEGORY = "AttnDreamBooth/attention"
_COMPARED = 8


def cell_size_widget(of: str) -> io.Input:
    """How large each picture of a grid or figure is."""
    return io.Int.Input(
        "cell_size",
        default=256,
        min=64,
        max=1024,
        step=8,
        advanced=True,
        tooltip=f"Longer side of each picture in the {of}, in pixels.",
    )


def figure_widgets(*, advanced: bool) -> list[io.Input]:
    """How the maps of a figure are drawn. The size is always advanced."""
    return [
        io.Combo.Input(
            "normalization",
            options=list(reversed(NORMALIZATIONS)),
            default=NORMALIZATIONS[-1],
            tooltip="shared: one scale for all maps, to compare strengths. per word: each "
            "map from its own least to its own most.",
            advanced=advanced,
        ),
        io.Float.Input(
            "opacity",
            default=0.65,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="How strongly the heat covers the picture.",
            advanced=advanced,
        ),
        cell_size_widget("figure"),
    ]


def heatmap_style(widgets: Mapping[str, Any]) -> HeatmapStyle:
    """What the widgets say of how the maps are drawn."""
    return HeatmapStyle(
        cell=widgets["cell_size"],
        opacity=widgets["opacity"],
        normalization=widgets["normalization"],
        columns=widgets.get("columns", 0),
    )


class CompareAttention(io.ComfyNode):
    """Pictures over their maps, side by side."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBCompareAttention",
            display_name="Compare Attention",
            category=CATEGORY,
            description=(
                "The paper's figure: the same prompt and seed before training and after each "
                "stage, or with several concepts, picture over map. Connect an Attention Maps "
                "node for each."
            ),
            search_aliases=["heatmap", "comparison", "compare stages", "compare concepts", "grid"],
            inputs=[
                *(
                    Maps.Input(
                        f"maps_{number}",
                        optional=number > 1,
                        tooltip=f"Column {number}: the maps output of an Attention Maps node.",
                    )
                    for number in range(1, _COMPARED + 1)
                ),
                io.String.Input(
                    "labels",
                    default="before training\nafter stage 1\nafter stage 2\nafter stage 3",
                    multiline=True,
                    tooltip="Names of the columns, one in a line. With more lines than columns "
                    "maps_4 has line 4, and so on.",
                ),
                io.String.Input(
                    "words",
                    default="",
                    tooltip="Words to compare, separated by commas, a row of maps for each. A word "
                    "that one prompt lacks is left out there. Empty takes the words of the last "
                    "column.",
                ),
                *figure_widgets(advanced=False),
            ],
            outputs=[io.Image.Output(display_name="IMAGE", tooltip="The columns side by side.")],
        )

    @classmethod
    @naming_node
    def execute(
        cls,
        labels: str,
        words: str,
        **others: Any,
    ) -> io.NodeOutput:
        numbered: list[MapFigure | None]
        numbered = [others.get(f"maps_{number}") for number in range(1, _COMPARED + 1)]
        places = [place for place, figure in enumerate(numbered) if figure is not None]
        figures = [figure for figure in numbered if figure is not None]
        shown = split_queries(words) or [word.label for word in figures[-1].maps.words]
        names = filled_lines(labels)
        if len(names) > len(figures):  # a name for each socket, also of those that have nothing
            names = [*names, *(str(n) for n in range(len(names) + 1, _COMPARED + 1))]
            names = [names[place] for place in places]
        picture = comparison(figures, names, shown, heatmap_style(others))
        return io.NodeOutput(picture)


NODES: list[type[io.ComfyNode]] = [CompareAttention]
