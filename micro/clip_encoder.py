"""The micro CLIP as an encoder of pictures and texts for scores of any graph."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .clip import ClipScores
from .shipped import load_micro_clip
from .stock import to_model_range
from .text import SHORT, CaptionEncoder
from .weight_files import CLIP, card_hashes
from .world import SIZE

NAME = "micro CLIP"


class MicroClipEncoder:
    """Vectors of 128 of pictures (Y, X, 3) in 0..1, brought to 128 x 128 px, and of sentences."""

    name, batch, reads_text = NAME, 64, True

    def __init__(self, scores: ClipScores) -> None:
        self._model, self._captions = scores.model, scores.captions
        self.key = f"{NAME} {card_hashes().get(CLIP, '')}"

    @torch.no_grad()
    def images(self, pictures: Sequence[Tensor]) -> Tensor:
        """Vectors (N, 128)."""
        small = torch.stack([_small(picture) for picture in pictures])
        return self._model.images(to_model_range(small))

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Vectors (N, 128); words that the toy model does not know are one unknown word."""
        plain = [text.lower().replace(",", " ").replace(".", " ") for text in texts]
        return self._model.texts(self._captions(plain)[:, :SHORT])


def _small(picture: Tensor) -> Tensor:
    """(128, 128, 3) uint8."""
    pixels = picture[..., :3].float().cpu().expand(-1, -1, 3)
    if pixels.shape[:2] != (SIZE, SIZE):
        moved = pixels.permute(2, 0, 1)[None]
        scaled = F.interpolate(moved, (SIZE, SIZE), mode="bilinear", antialias=True)
        pixels = scaled[0].permute(1, 2, 0)
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8)


def micro_clip_encoder(tokenizer) -> MicroClipEncoder:
    """The shipped one. `tokenizer`: a transformers CLIPTokenizer."""
    return MicroClipEncoder(load_micro_clip(CaptionEncoder(tokenizer)))
