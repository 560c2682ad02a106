"""Nodes that show where each word of a prompt looks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from comfy_api.v0_0_2 import io

from ..attndb.attention.capture import Capture
from ..attndb.attention.prompt_words import split_queries
from ..attndb.attention.word_maps import LAYER_GROUPS, MapSelection
from ..attndb.config.choices import require_choice
from ..attndb.viz.heatmaps import NORMALIZATIONS
from ..attndb.viz.map_figure import MapFigure
from .compare import CATEGORY, Maps, cell_size_widget, heatmap_style
from .errors import naming_node
from .host.capture.capture import capture_model
from .host.capture.prompt import encode, prompt_words

log = logging.getLogger(__name__)

CaptureHandle = io.Custom("ATTNDB_CAPTURE")
MASK_OUTPUTS = ("soft", "otsu")


class CaptureAttention(io.ComfyNode):
    """A MODEL that remembers where the words of one prompt look."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBCaptureAttention",
            display_name="Capture Attention",
            category=CATEGORY,
            description=(
                "Records where each word of a prompt looks while any sampler draws. The picture "
                "stays the same. Put it last before the sampler, and show the result with "
                "Attention Maps."
            ),
            search_aliases=["heatmap", "cross attention", "daam", "attention map"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The MODEL that is going to draw. It stays as it is."
                ),
                io.Clip.Input("clip", tooltip="The CLIP that encodes the prompt."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The prompt to look at: the same text that the sampler gets. Sampled "
                    "through CLIP Text Encode or through the CONDITIONING output here.",
                ),
                io.String.Input(
                    "words",
                    default="",
                    tooltip="Words to record, separated by commas: cat, guinea pig, <my-sloth>, "
                    "a#2 (the second a). Empty records every word of the prompt.",
                ),
                io.Int.Input(
                    "time_slices",
                    default=10,
                    min=1,
                    max=50,
                    advanced=True,
                    tooltip="Into how many parts the noise schedule is cut, so that Attention "
                    "Maps can show a window of it. Memory grows with it.",
                ),
                io.Boolean.Input(
                    "keep_heads",
                    default=False,
                    advanced=True,
                    tooltip="Keep each attention head apart, so that Attention Maps can show one. "
                    "Needs 5 to 20 times the memory.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="Draws as before, and records."),
                CaptureHandle.Output(
                    display_name="capture", tooltip="What is recorded; for Attention Maps."
                ),
                io.Conditioning.Output(
                    display_name="CONDITIONING",
                    tooltip="The prompt encoded, exactly as CLIP Text Encode does it.",
                ),
            ],
        )

    @classmethod
    @naming_node
    def execute(
        cls, model: Any, clip: Any, text: str, words: str, time_slices: int, keep_heads: bool
    ) -> io.NodeOutput:
        chosen = prompt_words(clip, text).choose(split_queries(words))
        capture = Capture(prompt=text, words=chosen, slices=time_slices, keep_heads=keep_heads)
        conditioning = encode(clip, text)
        captured = capture_model(model, capture, conditioning)
        return io.NodeOutput(captured, capture, conditioning)


class AttentionMaps(io.ComfyNode):
    """Heat maps, a mask and numbers of captured words."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBAttentionMaps",
            display_name="Attention Maps",
            category=CATEGORY,
            description=(
                "Lays the map of each word over the picture, makes a mask of one word, and "
                "measures it."
            ),
            search_aliases=["heatmap", "cross attention", "daam", "attention mask"],
            inputs=[
                CaptureHandle.Input("capture", tooltip="From Capture Attention."),
                io.Latent.Input(
                    "samples",
                    tooltip="LATENT output of the sampler that drew with the captured MODEL, not "
                    "edited. It says which pictures are meant, and that they are done.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The decoded pictures, one for each of the samples. Without them the "
                    "maps are shown alone.",
                ),
                io.String.Input(
                    "words",
                    default="",
                    tooltip="Words to show, separated by commas, out of those captured. Empty "
                    "shows all.",
                ),
                io.String.Input(
                    "word",
                    default="",
                    tooltip="The one word that the mask and the numbers are of. Empty takes the "
                    "first of the words shown.",
                ),
                io.Combo.Input(
                    "normalization",
                    options=list(NORMALIZATIONS),
                    tooltip="per word: each map from its own least to its own most. shared: one "
                    "scale for all, to compare strengths. The colour bars say the values.",
                ),
                io.Combo.Input(
                    "layers",
                    options=list(LAYER_GROUPS),
                    tooltip="Which layers are averaged: down and up (all but the coarse middle "
                    "block, as in DAAM); all; a part of the U-Net; the largest or smallest maps "
                    "(finest, coarsest); those in layer_list (listed).",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Beginning of the window of sampling that is averaged: 0 is pure "
                    "noise. Same meaning as in the stock ControlNet nodes.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="End of the window: 1 is the finished picture.",
                ),
                io.Float.Input(
                    "opacity",
                    default=0.65,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How strongly the heat covers the picture.",
                ),
                io.String.Input(
                    "other_word",
                    default="",
                    tooltip="A second word whose map is compared with the first (similarity).",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the word should look, e.g. the subject; gives the IoU. Another "
                    "size is resized to the picture's.",
                ),
                io.Combo.Input(
                    "mask_output",
                    options=list(MASK_OUTPUTS),
                    advanced=True,
                    tooltip="soft: the map from 0 to 1. otsu: 1 where the word looks, 0 elsewhere.",
                ),
                cell_size_widget("grid"),
                io.Int.Input(
                    "columns",
                    default=0,
                    min=0,
                    max=32,
                    advanced=True,
                    tooltip="Pictures in a row; 0 chooses.",
                ),
                io.Int.Input(
                    "head",
                    default=-1,
                    min=-1,
                    max=63,
                    advanced=True,
                    tooltip="One attention head (needs keep_heads); -1 averages all.",
                ),
                io.String.Input(
                    "layer_list",
                    default="",
                    advanced=True,
                    tooltip="For layers = listed: resolutions (16x24, or 16) or beginnings of "
                    "layer names (input_blocks.1.), separated by commas.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="A grid for each picture."),
                io.Mask.Output(display_name="MASK", tooltip="The map of the word, as a mask."),
                Maps.Output(display_name="maps", tooltip="For Compare Attention."),
                io.Float.Output(
                    display_name="mass", tooltip="Share of all attention that the word gets, 0..1."
                ),
                io.Float.Output(
                    display_name="entropy",
                    tooltip="How spread out the map is: 0 in one point, 1 the same everywhere.",
                ),
                io.Float.Output(
                    display_name="IoU",
                    tooltip="Overlap of the bright part (Otsu) with the mask; 0 without a mask.",
                ),
                io.Float.Output(
                    display_name="similarity",
                    tooltip="Cosine of the maps of word and other_word; 0 without other_word.",
                ),
                io.String.Output(
                    display_name="report", tooltip="The numbers of every word shown, and remarks."
                ),
            ],
        )

    @classmethod
    @naming_node
    def execute(
        cls,
        capture: Capture,
        samples: dict[str, Any],
        words: str,
        word: str,
        other_word: str,
        mask_output: str,
        image: Any = None,
        mask: Any = None,
        **widgets: Any,
    ) -> io.NodeOutput:
        require_choice("mask_output", mask_output, MASK_OUTPUTS)
        drawn, note = capture.maps(samples["samples"], _selection(widgets))
        captured = MapFigure(capture.prompt, drawn, image)
        shown = drawn.choose(split_queries(words))
        figure = MapFigure(capture.prompt, shown, image)
        subject = word.strip() or shown.words[0].label
        found = captured.measure(subject, other=other_word.strip() or None, mask=mask)
        resized = figure.resized(mask)
        if resized:
            log.info("Attention Maps: %s", resized)
        remarks = [remark for remark in (note, resized) if remark]
        return io.NodeOutput(
            figure.grids(heatmap_style(widgets)),
            captured.mask(subject, binary=mask_output == "otsu"),
            figure,
            found.mass,
            found.entropy,
            found.iou or 0.0,
            found.similarity or 0.0,
            "\n".join([figure.report(mask=mask), *remarks]),
        )


def _selection(widgets: Mapping[str, Any]) -> MapSelection:
    """What the widgets say of which maps are averaged."""
    return MapSelection(
        layers=widgets["layers"],
        layer_list=tuple(split_queries(widgets["layer_list"])),
        head=None if widgets["head"] < 0 else widgets["head"],
        start=widgets["start_percent"],
        end=widgets["end_percent"],
    )


NODES: list[type[io.ComfyNode]] = [CaptureAttention, AttentionMaps]
