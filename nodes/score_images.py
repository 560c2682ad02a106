"""The node that scores pictures that were made anywhere."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from comfy_api.v0_0_2 import io, ui
from torch import Tensor

from ..attndb.config.lines import asked_lines
from ..attndb.evaluation.prompts import context, whole
from ..attndb.evaluation.score_table import score_table
from ..attndb.evaluation.scores import IDENTITY, TEXT, Sample, score
from .errors import naming_node
from .evaluate_concept import encoder_sockets, given_encoders, reference_of, rgb
from .prompt_set import CATEGORY
from .socket_types import Scores as ScoresSocket
from .wires import one_value, separate_images, separate_masks


class ScoreImages(io.ComfyNode):
    """Pictures against photos and prompts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBScoreImages",
            display_name="Score Images",
            category=CATEGORY,
            description="Scores any pictures: how much they look like the photos of the subject "
            "(identity), how much they say what the prompt says (text), and whether they look more "
            "like it than others of its category do.",
            search_aliases=[
                *("clip score", "clip-i", "clip-t", "dino score", "image similarity"),
                *("identity", "text alignment", "metrics", "evaluate"),
            ],
            inputs=[
                encoder_sockets(),
                io.Image.Input("images", tooltip="The pictures to score, of any sizes."),
                io.Image.Input("photos", tooltip="The subject's photos, of any sizes."),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    tooltip="What the pictures were asked for: one line for all, or one in a line "
                    "for each. {} becomes the category; without {} it is compared as it is, so "
                    "leave the placeholder out. Weights say nothing: (red:1.3) is red. Lines that "
                    "begin with # are left out. Empty: no score of text.",
                ),
                io.String.Input(
                    "category",
                    default="",
                    tooltip="The plain word for the subject, for {} of the prompt, e.g. dog.",
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="1 where the subject is in each picture, for identity on the "
                    "foreground. Needs photo_masks, too.",
                ),
                io.Mask.Input(
                    "photo_masks",
                    optional=True,
                    tooltip="1 where the subject is on each photo. Needs masks, too.",
                ),
                io.Image.Input(
                    "distractors",
                    optional=True,
                    tooltip="Pictures of others of the category in the same scene, e.g. drawn "
                    "without the concept: 'present' is measured against them.",
                ),
                io.String.Input(
                    "label", default="pictures", tooltip="Name of the row.", advanced=True
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="table", tooltip="The scores as a table in Markdown."
                ),
                ScoresSocket.Output(display_name="scores", tooltip="To Training Report."),
                io.Float.Output(
                    display_name="identity", tooltip="Mean cosine with the photos, first encoder."
                ),
                io.Float.Output(
                    display_name="text",
                    tooltip="Mean cosine with the prompts; 0 where it was not measured.",
                ),
            ],
            is_input_list=True,
            is_output_node=True,
        )

    @classmethod
    @naming_node
    def execute(
        cls,
        encoders: Mapping[str, Any],
        images: Any,
        photos: Any,
        prompt: Any,
        category: Any,
        label: Any,
        masks: Any = None,
        photo_masks: Any = None,
        distractors: Any = None,
    ) -> io.NodeOutput:
        given = given_encoders(encoders)
        reference = reference_of(photos, photo_masks)
        pictures = [rgb(torch.from_numpy(picture)) for picture in separate_images(images)]
        own = [torch.from_numpy(mask) for mask in separate_masks(masks)]
        if own and len(own) != len(pictures):
            raise ValueError(
                f"{len(own)} masks for {len(pictures)} images: connect a mask for each, or none"
            )
        if bool(own) != bool(reference.masks):
            raise ValueError(
                "masks and photo_masks belong together: the foreground is cut out of both, or of "
                "neither"
            )
        prompts = asked_of(prompt, len(pictures), one_value("category", category).strip())
        samples = [
            Sample(picture=picture, text=text, context=rest, mask=own[n] if own else None)
            for n, (picture, (text, rest)) in enumerate(zip(pictures, prompts, strict=True))
        ]
        other = [] if distractors is None else separate_images(distractors)
        others: dict[Hashable, list[Tensor]] = {None: [rgb(torch.from_numpy(o)) for o in other]}
        row = score(one_value("label", label) or "pictures", samples, reference, given, others)
        table = score_table([row])
        return io.NodeOutput(
            table,
            (row,),
            row.value(IDENTITY),
            row.value(TEXT) or 0.0,
            ui=ui.PreviewText(table),
        )


def asked_of(given: Any, pictures: int, category: str) -> list[tuple[str, str]]:
    """What each picture was asked for, whole and beside the subject. ValueError if the lines are
    neither one nor as many as the pictures, or if {} has no category."""
    lines = asked_lines(given)
    if not lines:
        return [("", "")] * pictures
    if len(lines) not in (1, pictures):
        raise ValueError(
            f"prompt has {len(lines)} lines for {pictures} images: write one for all, or one for "
            "each"
        )
    if any("{}" in line for line in lines) and not category:
        raise ValueError("category is empty: type the plain word that {} stands for, e.g. dog")
    found = [(whole(line, category), context(line) if "{}" in line else "") for line in lines]
    return found * pictures if len(found) == 1 else found


NODES: list[Any] = [ScoreImages]
