"""Replays a recorded run of the reference implementation through this project's training code.

    python tests/parity/replay.py FILE

FILE is a safetensors file of recorded stages (base weights, the batches that each step was fed, the
losses and weight changes that came out). tests/parity/README.md says what is in it, which there are
and how to make one. The batches are trained on with attndb/training/trainer.py on ComfyUI's own
U-Net and text encoder; one JSON line says how far the outcome is from the recording. Exit code 0
only when every bound holds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "devkit"))
from pack import load_pack

load_pack()
from attndreambooth.attndb.artifacts.weight_delta import dense
from attndreambooth.devkit.host_path import host_on_path

host_on_path()

import comfy.ops
import torch
from comfy.sd1_clip import SDClipModel
from safetensors import safe_open
from torch import Tensor

from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.regularization import Regularization
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.data.batch import Batch
from attndreambooth.attndb.data.tokens import TokenizedPrompt
from attndreambooth.attndb.models.noise_schedule import (
    Diffusion,
    PredictionType,
    scaled_linear_alphas_cumprod,
)
from attndreambooth.attndb.training.training import StageResult
from attndreambooth.devkit.training import train_stage
from attndreambooth.nodes.host.model.private_model import PrivateModel
from attndreambooth.nodes.host.model.private_unet import private_unet
from attndreambooth.nodes.host.model.text_encoder import TextEncoder

BOUNDS = {
    "loss": 1e-4,
    "attn_loss": 1e-3,
    "embedding": 1e-4,
    "cosine": 0.999,
    "norm": 0.01,
}
PREDICTION_TYPES: dict[str, PredictionType] = {
    "epsilon": "epsilon",
    "v_prediction": "v",
    "v": "v",
}
FIRST_NEW_ID = 49408
ENDS = 49407


class Recording:
    """A file of recorded stages."""

    def __init__(self, path: Path) -> None:
        with safe_open(str(path), "pt") as handle:
            self.tensors = {key: handle.get_tensor(key) for key in handle.keys()}
            self.metadata = handle.metadata()

    def json(self, key: str) -> dict:
        """A structured metadata entry."""
        return json.loads(self.metadata[key])

    def part(self, prefix: str) -> dict[str, Tensor]:
        """All tensors below a prefix, the prefix taken off."""
        return {k[len(prefix) :]: v for k, v in self.tensors.items() if k.startswith(prefix)}

    def prompt(self, ids: Tensor) -> TokenizedPrompt:
        """Recorded ids; those from 49408 on are the new token's vectors, the category follows."""
        tokens = tuple(None if i >= FIRST_NEW_ID else int(i) for i in ids.tolist())
        last = max(i for i, token in enumerate(tokens) if token is None)
        return TokenizedPrompt(self.metadata["prompt"], tokens, last + 1)

    def batch(self, stage: int, step: int) -> Batch:
        """What one step was fed."""
        part = {
            key: self.tensors[f"stage{stage}.{key}"][step]
            for key in ("latents", "noise", "timesteps", "input_ids")
        }
        return Batch(
            part["latents"].float(),
            part["noise"].float(),
            part["timesteps"].long(),
            tuple(self.prompt(ids) for ids in part["input_ids"]),
        )

    def config(self, stage: int) -> StageConfig:
        """The stage's settings as recorded."""
        own, optimizer = self.json(f"stage{stage}"), self.json("optimizer")
        if optimizer["name"] != "AdamW":
            raise SystemExit(f"optimizer {optimizer['name']!r} is not replayed, only AdamW")
        return StageConfig(
            stage=stage,
            steps=len(self.tensors[f"stage{stage}.loss"]),
            batch_size=int(self.metadata["batch_size"]),
            optimizer=OptimizerConfig(
                learning_rate=own["lr"],
                betas=tuple(optimizer["betas"]),
                eps=optimizer["eps"],
                weight_decay=optimizer["weight_decay"],
            ),
            regularization=Regularization(
                mean_weight=own["reg_mean_weight"], variance_weight=own["reg_var_weight"]
            ),
            precision="fp32",
        )


class Batches:
    """A recorded stage as a batch source."""

    def __init__(self, recording: Recording, stage: int) -> None:
        self._recording, self._stage = recording, stage

    def __getitem__(self, step: int) -> Batch:
        return self._recording.batch(self._stage, step)


def text_encoder(recording: Recording) -> TextEncoder:
    """ComfyUI's CLIP text model with the recorded weights."""
    config = {"eos_token_id": ENDS, **recording.json("clip_config")}
    model = SDClipModel(
        textmodel_json_config=config,
        dtype=torch.float32,
        layer="last",
        model_options={"custom_operations": comfy.ops.disable_weight_init},
    )
    missing, unexpected = model.transformer.load_state_dict(
        {k: v.float() for k, v in recording.part("text_encoder.").items()}, strict=False
    )
    lacking = [key for key in missing if "text_projection" not in key]
    alien = [key for key in unexpected if "position_ids" not in key]
    if lacking or alien:
        raise SystemExit(f"text encoder weights do not fit: missing {lacking}, unknown {alien}")
    return TextEncoder(model.requires_grad_(False))


def initial_vectors(recording: Recording, text: TextEncoder) -> Tensor:
    """The rows that the new token started from: one per vector, of `initialize_token`'s ids."""
    from transformers import CLIPTokenizer

    folder = Path(sys.modules["comfy.sd1_clip"].__file__).parent / "sd1_tokenizer"
    tokenizer = CLIPTokenizer.from_pretrained(str(folder))
    ids = tokenizer(recording.metadata["initialize_token"])["input_ids"][1:-1]
    count = int(recording.metadata["n_vectors"])
    if len(ids) < count:
        ids = ids + ids[-1:] * (count - len(ids))
    return text.rows(tuple(ids[:count]))


def relative(ours: list[float], recorded: Tensor) -> float:
    """Largest relative error."""
    recorded = recorded.double()
    gaps = (torch.tensor(ours, dtype=torch.float64) - recorded).abs()
    return float((gaps / recorded.abs().clamp_min(1e-12)).max())


def weight_change(ours: dict[str, Tensor], recorded: dict[str, Tensor]) -> dict[str, float]:
    """Cosine and norm ratio of the change, all recorded parameters as one vector."""
    lost = sorted(set(recorded) - set(ours))
    if lost:
        raise SystemExit(f"the stage did not train what the recording changed: {lost[:3]}")
    a = torch.cat([ours[key].double().flatten() for key in sorted(recorded)])
    b = torch.cat([recorded[key].double().flatten() for key in sorted(recorded)])
    return {
        "cosine": float(torch.nn.functional.cosine_similarity(a, b, dim=0)),
        "norm_ratio": float(a.norm() / b.norm()),
    }


def replay(path: Path) -> dict[str, dict[str, float]]:
    """Trains all recorded stages and measures them against the recording."""
    recording = Recording(path)
    schedule = recording.json("schedule")
    if schedule["beta_schedule"] != "scaled_linear":
        raise SystemExit(f"beta schedule {schedule['beta_schedule']!r} is not replayed")
    predicted = recording.metadata["prediction_type"]
    if predicted not in PREDICTION_TYPES:
        raise SystemExit(f"prediction type {predicted!r} is not replayed")
    diffusion = Diffusion(
        alphas_cumprod=scaled_linear_alphas_cumprod(
            schedule["num_train_timesteps"], schedule["beta_start"], schedule["beta_end"]
        ),
        prediction_type=PREDICTION_TYPES[predicted],
    )
    text = text_encoder(recording)
    device = torch.device("cpu")
    own = {k: value.to(torch.float32, copy=True) for k, value in recording.part("unet.").items()}
    unet = private_unet(recording.json("unet_config"), own, device)
    backend = PrivateModel(unet, {"clip_l": text}, diffusion, device)
    vectors = initial_vectors(recording, text)
    report: dict[str, dict[str, float]] = {}
    for stage in (1, 2, 3):
        if f"stage{stage}.loss" not in recording.tensors:
            continue
        result = train_stage(backend, Batches(recording, stage), recording.config(stage), vectors)
        report[f"stage{stage}"] = measure(recording, stage, result)
        if stage == 1:
            vectors = recording.tensors["stage1.learned_embedding"].float()
    return report


def measure(recording: Recording, stage: int, result: StageResult) -> dict[str, float]:
    """Distance of one stage's outcome from the recording."""
    found = {
        "loss": relative(
            [loss.total for loss in result.losses], recording.tensors[f"stage{stage}.loss"]
        ),
        "attn_loss": relative(
            [loss.shares["attention_map"] for loss in result.losses],
            recording.tensors[f"stage{stage}.attn_loss"],
        ),
    }
    if stage == 1:
        learned = recording.tensors["stage1.learned_embedding"].float()
        found["embedding"] = float((result.vectors - learned).abs().max())
        return found
    found.update(weight_change(result.delta, recording.part(f"stage{stage}.delta.")))
    norms = recording.tensors.get(f"stage{stage}.delta_norms")
    if norms is not None:
        ours = torch.stack(
            [dense(result.delta[key]).double().norm() for key in sorted(result.delta)]
        )
        found["all_norms_ratio"] = float(ours.norm() / norms.double().norm())
    return found


def passes(report: dict[str, dict[str, float]]) -> bool:
    """Whether every bound holds; NaN never does."""
    checks = [bool(report)]
    for found in report.values():
        for key in ("loss", "attn_loss", "embedding"):
            if key in found:
                checks.append(found[key] <= BOUNDS[key])
        if "cosine" in found:
            checks.append(found["cosine"] >= BOUNDS["cosine"])
        for key in ("norm_ratio", "all_norms_ratio"):
            if key in found:
                checks.append(abs(found[key] - 1.0) <= BOUNDS["norm"])
    return all(checks)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("file", type=Path, help="recorded run (safetensors)")
    path = parser.parse_args().file
    if not path.is_file():
        raise SystemExit(f"{path}: no such file")
    report = replay(path)
    sys.stdout.write(json.dumps({"file": path.name, **report, "pass": passes(report)}) + "\n")
    return 0 if passes(report) else 1


if __name__ == "__main__":
    sys.exit(main())
