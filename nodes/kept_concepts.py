"""The node that loads what a training kept on the way."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..attndb.artifacts.concept import TrainedConcept
from ..attndb.artifacts.concept_files import load_concept
from ..attndb.artifacts.training_path import TrainingPath, training_path
from ..attndb.config.choices import require_choice
from .concept import CATEGORY
from .errors import naming_node
from .host.kept_concepts import kept_on_the_way, kept_state
from .host.linked import LinkedFiles
from .host.paths import find_concept
from .socket_types import Concept

LAST, ALL = "last", "all"
_loaded = LinkedFiles(kept_state)


class LoadKeptConcepts(io.ComfyNode):
    """The concepts that were kept on the way to one, and that one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBLoadKeptConcepts",
            display_name="Load Kept Concepts",
            category=CATEGORY,
            description="Loads the concepts that the training of a concept kept on the way "
            "(checkpoint_concepts in Training Options), so that Evaluate Concept or Compare "
            "Concepts says which step was best.",
            search_aliases=[
                *("checkpoints", "intermediate checkpoints", "best checkpoint", "which step"),
                *("epochs", "save every n steps", "xy plot", "overfitting"),
            ],
            inputs=[
                Concept.Input(
                    "concept",
                    tooltip="What was trained: from Train Concept, a stage, or Load Concept. Of a "
                    "training that was stopped: its newest kept concept, by Load Concept.",
                ),
                io.Combo.Input(
                    "stages",
                    options=[LAST, ALL],
                    default=LAST,
                    tooltip="last: those of the stage that was trained last. all: those of the "
                    "stages before it, too.",
                ),
                io.Int.Input(
                    "most",
                    default=6,
                    min=2,
                    max=12,
                    tooltip="How many are loaded at most, with the concept itself: each is as "
                    "large in memory as its files are (whole weights of SD 1.5: 1.7 GB). Of more, "
                    "those at even distances.",
                ),
            ],
            outputs=[
                Concept.Output(
                    "concepts",
                    is_output_list=True,
                    tooltip="The kept ones in the order of their steps, and at the end the concept "
                    "itself: to Evaluate Concept or Compare Concepts, on one socket.",
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> str:
        """Changes when what was kept for the concepts on the wire does."""
        return _loaded.state()

    @classmethod
    @naming_node
    def execute(cls, concept: TrainedConcept, stages: str, most: int) -> io.NodeOutput:
        require_choice("stages", stages, (LAST, ALL))
        path = training_path(concept.placeholder, concept.category, concept.record)
        if not path.stages:
            raise ValueError(
                f"the concept {concept.placeholder} does not say how it was trained, so nothing "
                "was kept on the way to it: connect one that was trained here"
            )
        with _loaded.reading(path, stages == ALL):
            names = kept_on_the_way(path, all_stages=stages == ALL)
            if not names:
                raise ValueError(_nothing_kept(concept, path))
            kept = [load_concept(*find_concept(name)) for name in _spread(names, most - 1)]
        return io.NodeOutput([*kept, concept])


def _spread(names: list[str], most: int) -> list[str]:
    """Of more than `most` those at even distances, the first among them."""
    shown = min(len(names), most)
    return [names[i * len(names) // shown] for i in range(shown)]


def _nothing_kept(concept: TrainedConcept, path: TrainingPath) -> str:
    return (
        f"no concept is kept in models/embeddings/attndb on the way to {concept.trigger} ("
        f"{path.steps} steps in its last stage). Set checkpoint_concepts in Training Options to "
        "fewer steps than that, and train again: a training that is finished is answered from its "
        "run folder in output/attndb, which the text under its node names. Delete that first, or "
        "change the seed"
    )


NODES: list[type[io.ComfyNode]] = [LoadKeptConcepts]
