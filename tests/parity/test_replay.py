"""Recorded runs replay through the pack's own training code; an altered recording does not."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support.recording import ADAMW, STAGES, record

from attndreambooth.devkit.pack import ROOT
from attndreambooth.devkit.tiny_model import CLIP_CONFIG, UNET_CONFIG

REPLAY = ROOT / "tests" / "parity" / "replay.py"
SHARED = Path(os.environ.get("ATTNDB_PARITY", ROOT.parent / "shared" / "parity"))
BOUNDS = {"loss": 1e-4, "attn_loss": 1e-3, "embedding": 1e-4}


def replay(path: Path) -> tuple[int, dict]:
    """Exit code and report of `python tests/parity/replay.py FILE`, run as a user would."""
    done = subprocess.run([sys.executable, str(REPLAY), str(path)], capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 1, done.stdout + done.stderr
    return done.returncode, json.loads(lines[0])


def assert_close(report: dict) -> None:
    """Every bound, checked here and not by the script's own verdict."""
    for stage in ("stage1", "stage2", "stage3"):
        assert report[stage]["loss"] <= BOUNDS["loss"], report
        assert report[stage]["attn_loss"] <= BOUNDS["attn_loss"], report
    assert report["stage1"]["embedding"] <= BOUNDS["embedding"], report
    for stage in ("stage2", "stage3"):
        assert report[stage]["cosine"] >= 0.999, report
        assert abs(report[stage]["norm_ratio"] - 1) <= 0.01, report


@pytest.mark.parametrize("name", ["official_a.safetensors", "official_b.safetensors"])
def test_the_recorded_reference_runs_replay(module, name):
    if not (SHARED / name).is_file():
        pytest.skip(f"no {SHARED / name}: put the recorded runs there, or set ATTNDB_PARITY")
    digest = hashlib.sha256((SHARED / name).read_bytes()).hexdigest()
    assert f"| `{digest}` |" in (REPLAY.parent / "README.md").read_text(encoding="utf-8")
    report = module.replay(SHARED / name)
    assert_close(report)
    assert module.passes(report)


@pytest.fixture(scope="module")
def module():
    """The replay script as a module: faster than a process for every variant."""
    sys.path.insert(0, str(REPLAY.parent))
    try:
        import replay
    finally:
        sys.path.remove(str(REPLAY.parent))
    return replay


VARIANTS = {
    "one vector, the published weights": {
        "stages": {
            1: {"lr": 1e-3, "reg_mean_weight": 0.1, "reg_var_weight": 0.0},
            2: {"lr": 2e-5, "reg_mean_weight": 2.0, "reg_var_weight": 5.0},
            3: {"lr": 2e-6, "reg_mean_weight": 2.0, "reg_var_weight": 5.0},
        }
    },
    "v-prediction": {"prediction_type": "v_prediction"},
    "three vectors, one sample": {
        "n_vectors": 3,
        "initialize_token": "small wooden doll",
        "batch_size": 1,
    },
    "convolutional projections, eight heads": {
        "unet_config": {
            **UNET_CONFIG,
            "use_linear_in_transformer": False,
            "num_heads": 8,
            "num_head_channels": -1,
        },
        "batch_size": 3,
    },
    "three levels, two blocks, deeper transformers, a wide text encoder": {
        "unet_config": {
            **UNET_CONFIG,
            "channel_mult": [1, 2, 2],
            "num_res_blocks": [2, 2, 2],
            "transformer_depth": [1, 1, 2, 2, 0, 0],
            "transformer_depth_output": [1, 1, 1, 2, 2, 2, 0, 0, 0],
            "transformer_depth_middle": 2,
            "context_dim": 48,
        },
        "clip_config": {
            **CLIP_CONFIG,
            "hidden_size": 48,
            "num_attention_heads": 3,
            "num_hidden_layers": 3,
            "hidden_act": "gelu",
        },
        "side": 16,
    },
    "prompts that differ within a batch": {
        "prompts": ("a photo of a {} doll", "{} robot", "an old painting of the {} cat at night"),
        "batch_size": 5,
    },
    "another optimiser, other lengths": {
        "optimizer": {**ADAMW, "betas": [0.8, 0.95], "weight_decay": 0.1, "eps": 1e-6},
        "steps": (1, 4, 3),
    },
    "no regularisation": {
        "stages": {
            k: {**v, "reg_mean_weight": 0.0, "reg_var_weight": 0.0} for k, v in STAGES.items()
        }
    },
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_an_independent_training_loop_replays(module, tmp_path, variant):
    report = module.replay(record(tmp_path / "own.safetensors", **variant))
    assert_close(report)
    assert module.passes(report)


def test_the_recording_measures_something(recording):
    with safe_open(str(recording), "pt") as handle:
        for stage in (1, 2, 3):
            attn, total = (handle.get_tensor(f"stage{stage}.{k}") for k in ("attn_loss", "loss"))
            assert (attn > 1e-3 * total).all()
            assert (attn < total).all()


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return record(tmp_path_factory.mktemp("recording") / "own.safetensors")


def changed(path: Path, target: Path, tensors=None, **metadata) -> Path:
    """A copy of a recording in which something is different."""
    with safe_open(str(path), "pt") as handle:
        kept = {key: handle.get_tensor(key) for key in handle.keys()}
        information = {**handle.metadata(), **metadata}
    for key, change in (tensors or {}).items():
        kept[key] = change(kept[key]).contiguous()
    save_file(kept, str(target), information)
    return target


TAMPERED = {
    "a loss": {"tensors": {"stage2.loss": lambda t: t * (1 + 3e-4)}},
    "the last attention loss": {
        "tensors": {"stage3.attn_loss": lambda t: torch.cat([t[:-1], t[-1:] * 1.003])}
    },
    "the embedding": {"tensors": {"stage1.learned_embedding": lambda t: t + 3e-4}},
    "a weight change": {
        "tensors": {"stage2.delta.middle_block.1.transformer_blocks.0.attn2.to_v.weight": torch.neg}
    },
    "the size of all changes": {"tensors": {"stage3.delta_norms": lambda t: 1.02 * t}},
    "the noise": {"tensors": {"stage1.noise": lambda t: t.flip(0)}},
    "the base weights": {"tensors": {"unet.out.2.weight": lambda t: 1.05 * t}},
    "the prediction type": {"prediction_type": "v_prediction"},
    "the rate": {"stage3": json.dumps({**STAGES[3], "lr": 4e-6})},
    "the regulariser": {"stage2": json.dumps({**STAGES[2], "reg_mean_weight": 210.0})},
    "a NaN": {"tensors": {"stage3.loss": lambda t: t * float("nan")}},
}


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED.keys())
def test_an_altered_recording_does_not_pass(module, recording, tmp_path, change):
    report = module.replay(changed(recording, tmp_path / "tampered.safetensors", **change))
    assert not module.passes(report), report


def test_the_command_says_so_with_its_exit_code(module, recording, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["replay.py", str(recording)])
    assert module.main() == 0
    report = json.loads(capsys.readouterr().out)
    assert report["pass"] is True
    assert_close(report)
    code, report = replay(changed(recording, tmp_path / "bad.safetensors", **TAMPERED["a loss"]))
    assert (code, report["pass"]) == (1, False)
    assert report["stage2"]["loss"] == pytest.approx(3e-4, rel=0.05)


def test_an_unknown_recording_is_refused_and_not_guessed_at(module, recording, tmp_path):
    for name, entry in {
        "prediction_type": "sample",
        "optimizer": json.dumps({**ADAMW, "name": "Adam"}),
        "schedule": json.dumps({"beta_schedule": "squaredcos_cap_v2"}),
    }.items():
        with pytest.raises(SystemExit, match=r"(sample|'Adam'|squaredcos).* not replayed"):
            module.replay(changed(recording, tmp_path / f"{name}.safetensors", **{name: entry}))
