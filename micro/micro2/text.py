"""Prompts of attndb-micro 2: its words, and its text encoder (the text half of CLIP, small)."""

from pathlib import Path
from typing import Any

from ..text import TEXT_CONFIG as _FIRST
from ..text import CaptionEncoder as _CaptionEncoder
from ..text import TextEncoder as _TextEncoder
from ..text import Vocabulary
from .world.captions import caption_words

__all__ = [
    "SHORT",
    "TEXT_CONFIG",
    "CaptionEncoder",
    "TextEncoder",
    "Vocabulary",
    "host_captions",
]

TEXT_CONFIG = _FIRST | {
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_attention_heads": 6,
    "projection_dim": 192,
}
SHORT = 40  # tokens that hold every training caption


class CaptionEncoder(_CaptionEncoder):
    """Captions of the world to rows of the compact token table."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer, caption_words())


def host_captions() -> CaptionEncoder:
    """The vocabulary of the world in the ids of CLIP's tokenizer, which ComfyUI brings."""
    import comfy.sd1_clip
    from transformers import CLIPTokenizer

    folder = Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer"
    return CaptionEncoder(CLIPTokenizer.from_pretrained(folder))


class TextEncoder(_TextEncoder):
    """Rows (B, T <= 77) -> context (B, T, 192)."""

    def __init__(self, rows: int) -> None:
        super().__init__(rows, TEXT_CONFIG)
