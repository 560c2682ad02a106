"""The node that gives prompts to evaluate a concept with."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..attndb.config.choices import require_choice
from ..attndb.evaluation.prompts import SETS, prompt_lines
from .errors import naming_node
from .host.linked import LinkedFiles
from .host.prompt_file import prompt_file_state, read_prompt_file

CATEGORY = "AttnDreamBooth/evaluation"
TYPED, FILE = "my own", "text file"
_linked = LinkedFiles(prompt_file_state)


class PromptSet(io.ComfyNode):
    """Prompts, one in a line."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBPromptSet",
            display_name="Prompt Set",
            category=CATEGORY,
            description="Prompts to evaluate a concept with, one in a line; {} stands for the "
            "subject. Short ones, complex ones, those of the toy model, your own, or a text file.",
            search_aliases=["prompts", "prompt list", "evaluation prompts", "test prompts"],
            inputs=[
                io.Combo.Input(
                    "prompts",
                    options=[*SETS, TYPED, FILE],
                    default=next(iter(SETS)),
                    tooltip="Which prompts. short: 24 of one clause. complex: 4 of several. toy "
                    "model: in the words that the embedded model knows.",
                ),
                io.String.Input(
                    "text",
                    default="a photo of a {}",
                    multiline=True,
                    tooltip="Your own prompts, one in a line, each with {} once. Only for "
                    f"'{TYPED}'. Lines that begin with # are left out.",
                ),
                io.String.Input(
                    "file",
                    default="",
                    tooltip="A .txt file below ComfyUI's input folder, one prompt in a line. Only "
                    f"for '{FILE}'.",
                    advanced=True,
                ),
                io.Int.Input(
                    "count",
                    default=0,
                    min=0,
                    max=200,
                    tooltip="So many of them, evenly spread over the list, to be done sooner. 0: "
                    "all.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "prompts",
                    tooltip="One prompt in a line: to Evaluate Concept, Compare Concepts or Score "
                    "Images.",
                ),
                io.Int.Output("count", tooltip="How many they are."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, prompts: object = None, file: object = None, **_: object) -> str:
        """Changes when the text file does. What comes over a wire is None here."""
        if prompts is not None and prompts != FILE:
            return ""
        return _linked.state() if None in (prompts, file) else prompt_file_state(file)

    @classmethod
    @naming_node
    def execute(cls, prompts: str, text: str, file: str, count: int) -> io.NodeOutput:
        require_choice("prompts", prompts, (*SETS, TYPED, FILE))
        if prompts == FILE:
            with _linked.reading(file):
                lines = prompt_lines(read_prompt_file(file))
        elif prompts == TYPED:
            lines = prompt_lines(text)
        else:
            lines = SETS[prompts]
        if 0 < count < len(lines):
            lines = tuple(lines[number * len(lines) // count] for number in range(count))
        return io.NodeOutput("\n".join(lines), len(lines))


NODES: list[Any] = [PromptSet]
