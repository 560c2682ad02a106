"""The tensors of a weight file: what they are called, and the weight change that they are.

Whole changes have the stock LoRA loader's names, `diffusion_model.<path>.diff` and `.diff_b`. A
file with low-rank changes has kohya's, which other programs know, too: `<name>.lora_up.weight`,
`.lora_down.weight` and `.alpha`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from .concept import ConceptFileError
from .kohya_names import kohya_names, kohya_path
from .weight_delta import LowRank, WeightDelta, low_rank

_PREFIX = "diffusion_model."
_UP, _DOWN, _ALPHA = "lora_up.weight", "lora_down.weight", "alpha"
_WHOLE = {"diff": "weight", "diff_b": "bias"}


def weight_file_keys(delta: Mapping[str, WeightDelta], family: str) -> dict[str, Tensor]:
    """The weight change of a U-Net of this family as a file holds it."""
    stems = file_names(delta, family)
    return _keys(delta, stems, _tells_alpha(delta)) if stems else host_keys(delta)


def host_keys(delta: Mapping[str, WeightDelta]) -> dict[str, Tensor]:
    """The weight change under the host's own paths, whatever it is of."""
    return _keys(delta, {path: f"{_PREFIX}{path}" for path in _layers(delta)}, alpha=True)


def file_names(delta: Mapping[str, WeightDelta], family: str) -> dict[str, str]:
    """kohya's names of the changed layers, by path; empty where the file has the host's: nothing is
    of low rank, or a layer has no such name."""
    thin = any(isinstance(change, LowRank) for change in delta.values())
    return kohya_names(_layers(delta), family) if thin else {}


def _layers(delta: Mapping[str, WeightDelta]) -> list[str]:
    return [name.rpartition(".")[0] for name in delta]


def _keys(
    delta: Mapping[str, WeightDelta], stems: Mapping[str, str], alpha: bool
) -> dict[str, Tensor]:
    kinds = {kind: end for end, kind in _WHOLE.items()}
    named = {}
    for name, change in delta.items():
        path, _, kind = name.rpartition(".")
        assert kind in kinds, f"no stock name for parameter {name}"
        stem = stems[path]
        if isinstance(change, LowRank):
            rank, kernel = change.up.shape[1], (1,) * (len(change.shape) - 2)
            named[f"{stem}.{_UP}"] = change.up.reshape(-1, rank, *kernel)
            named[f"{stem}.{_DOWN}"] = change.down.reshape(rank, *change.shape[1:])
            if alpha:
                named[f"{stem}.{_ALPHA}"] = torch.tensor(float(rank))
        else:
            named[f"{stem}.{kinds[kind]}"] = change
    return named


def _tells_alpha(delta: Mapping[str, WeightDelta]) -> bool:
    """Whether alpha, which is the rank, is in the file: without it every program takes the rank.
    diffusers overlooks another alpha of an attention layer than most layers have."""
    ranks = {k: change.up.shape[1] for k, change in delta.items() if isinstance(change, LowRank)}
    most = Counter(ranks.values()).most_common(1)
    return all(rank == most[0][0] for name, rank in ranks.items() if ".attn" in name)


def delta_from_file_keys(tensors: Mapping[str, Tensor], file: str) -> dict[str, WeightDelta]:
    """The weight change in a file. ConceptFileError names keys it does not know, and an alpha by
    which other loaders would draw another change than this."""
    delta: dict[str, WeightDelta] = {}
    unknown = []
    for key, value in tensors.items():
        stem, end = _parts(key)
        path = stem.removeprefix(_PREFIX) if stem.startswith(_PREFIX) else kohya_path(stem)
        down = f"{stem}.{_DOWN}"
        if path is None:
            unknown.append(key)
        elif end in _WHOLE:
            delta[f"{path}.{_WHOLE[end]}"] = value
        elif end == _UP and down in tensors:
            check_factors(value, tensors[down], f"{file}: {key}")
            alpha = f"{stem}.{_ALPHA}"
            _check_alpha(tensors.get(alpha), value.shape[1], f"{file}: {alpha}")
            delta[f"{path}.weight"] = low_rank(value, tensors[down])
        elif end not in (_DOWN, _ALPHA):
            unknown.append(key)
    if unknown:
        raise ConceptFileError(
            f"{file}: {len(unknown)} unknown keys, e.g. {', '.join(unknown[:3])}. It is not a "
            "concept weight file of this pack; load it with the stock Load LoRA node instead"
        )
    return delta


def _parts(key: str) -> tuple[str, str]:
    """A key as what it is of, and what it is."""
    for end in (_UP, _DOWN):
        if key.endswith(f".{end}"):
            return key.removesuffix(f".{end}"), end
    stem, _, end = key.rpartition(".")
    return stem, end


def _check_alpha(alpha: Tensor | None, rank: int, where: str) -> None:
    """ConceptFileError unless it is the rank, as it is written, or missing: both scale nothing."""
    if alpha is None or (alpha.numel() == 1 and float(alpha) == rank):
        return
    raise ConceptFileError(
        f"{where} is {alpha.flatten()[:4].tolist()}, and was saved as {rank}: it was changed after "
        "it was saved; restore the file, or use it with the stock Load LoRA node"
    )


def check_factors(up: Tensor, down: Tensor, where: str) -> None:
    """ConceptFileError, beginning with `where`, unless two factors make one low-rank change."""
    thin = up.ndim >= 2 and down.ndim >= 2 and up.shape[1] == down.shape[0]
    if not thin or any(side != 1 for side in up.shape[2:]):
        raise ConceptFileError(
            f"{where}: factors of shapes {tuple(up.shape)} and {tuple(down.shape)} make no weight; "
            "restore the file from where it came"
        )
