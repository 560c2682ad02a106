"""Prompts of attndb-micro: which CLIP tokens it knows, and the text encoder that reads them.

The encoder is the text half of CLIP, small; parameter names are those of the transformers library
and of ComfyUI's ``CLIPTextModel``, so the weights load there once the table is expanded to CLIP's
49,408 rows.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .world.captions import caption_words

START, END, LENGTH, CLIP_ROWS = 49406, 49407, 77, 49408
SHORT = 40  # tokens that hold every training caption
UNKNOWN_ROW = 0  # of the compact table: every token that is not in the vocabulary

TEXT_CONFIG: dict[str, Any] = {
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_attention_heads": 6,
    "num_hidden_layers": 3,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": LENGTH,
    "num_positions": LENGTH,
    "vocab_size": CLIP_ROWS,
    "projection_dim": 192,
    "eos_token_id": END,
}


class Vocabulary:
    """CLIP token ids that the model knows, in the order of the rows of its compact table."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = (
            tokens  # row r + 1 of the table belongs to tokens[r]; row 0 is the unknown row
        )
        self._row = {token: row + 1 for row, token in enumerate(tokens)}

    @property
    def rows(self) -> int:
        return len(self.tokens) + 1

    def row(self, token: int) -> int:
        return self._row.get(token, UNKNOWN_ROW)

    def expand(self, table: Tensor) -> Tensor:
        """(49408, width) table of the host from the compact (rows, width) one."""
        full = table[UNKNOWN_ROW].expand(CLIP_ROWS, -1).clone()
        full[self.tokens] = table[1:]
        return full


class CaptionEncoder:
    """Captions of the world to rows of the compact table, without running a tokenizer per step."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer`: a transformers CLIPTokenizer."""
        ids = {word: tokenizer(word)["input_ids"][1:-1] for word in caption_words()}
        known = sorted({token for tokens in ids.values() for token in tokens})
        self.vocabulary = Vocabulary([START, END, *known])
        self._rows = {
            word: [self.vocabulary.row(token) for token in tokens] for word, tokens in ids.items()
        }

    def __call__(self, captions: list[str]) -> Tensor:
        """(B, 77) rows."""
        start, end = self.vocabulary.row(START), self.vocabulary.row(END)
        out = torch.full((len(captions), LENGTH), end, dtype=torch.long)
        for i, caption in enumerate(captions):
            rows = [start]
            for word in caption.split():
                rows += self._rows.get(word, [UNKNOWN_ROW])
            out[i, : len(rows)] = torch.tensor(rows[: LENGTH - 1])
        return out


def host_captions() -> CaptionEncoder:
    """The vocabulary of the world in the ids of CLIP's tokenizer, which ComfyUI brings."""
    import comfy.sd1_clip
    from transformers import CLIPTokenizer

    folder = Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer"
    return CaptionEncoder(CLIPTokenizer.from_pretrained(folder))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(later, -torch.inf)
        out = scores.softmax(dim=-1).to(v.dtype) @ v
        return self.out_proj(out.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))


class _Layer(nn.Module):
    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attn, self.mlp = _Attention(width, heads), _Mlp(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class TextEncoder(nn.Module):
    """Rows (B, T <= 77) -> context (B, T, width): the last layer, normalised, as in SD 1.x."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        width, inner = TEXT_CONFIG["hidden_size"], TEXT_CONFIG["intermediate_size"]
        self.width = width
        heads, depth = TEXT_CONFIG["num_attention_heads"], TEXT_CONFIG["num_hidden_layers"]
        layers = [_Layer(width, inner, heads) for _ in range(depth)]
        words, places = nn.Embedding(rows, width), nn.Embedding(LENGTH, width)
        self.text_model = nn.ModuleDict(
            {
                "embeddings": nn.ModuleDict(
                    {"token_embedding": words, "position_embedding": places}
                ),
                "encoder": nn.ModuleDict({"layers": nn.ModuleList(layers)}),
                "final_layer_norm": nn.LayerNorm(width),
            }
        )
        nn.init.normal_(words.weight, std=0.3)
        nn.init.normal_(places.weight, std=0.1)

    def forward(self, rows: Tensor) -> Tensor:
        model: Any = self.text_model  # by the names that the host's encoder has
        embeddings = model["embeddings"]
        positions = embeddings["position_embedding"].weight[: rows.shape[1]]
        x = embeddings["token_embedding"](rows) + positions
        for layer in model["encoder"]["layers"]:
            x = layer(x)
        return model["final_layer_norm"](x)
