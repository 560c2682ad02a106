"""`python dev.py train-micro`: the weight files of attndb-micro from nothing, in pieces.

Parts: `coder` (the autoencoder), `gate` (its table; the diffusion model is trained only if it
passes), `judges`, `clip`, `diffusion` (the long one), `export`. Work lies in --work, outside git;
without an autoencoder there, the shipped one is taken. Coder and diffusion go on where they were
stopped. With --start the diffusion model begins at the weights of an earlier one, for whoever has
the file and not the working folder.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a program: it goes on as a part of the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "devkit"))
    from pack import run_program

    run_program(__file__)

import argparse
import hashlib
import json
import logging
import shutil
from dataclasses import asdict
from typing import get_args

import numpy as np
import safetensors
import safetensors.torch
import torch
from PIL import Image

from ..attndb.artifacts.tensor_file import png_writer, write_whole
from ..attndb.config.choices import Precision
from ..attndb.models.precision import computes_in_bf16
from ..devkit.host_path import host_on_path
from ..devkit.pack import ROOT
from ..micro import weight_files as weights
from ..micro.autoencoder import Autoencoder
from ..micro.clip import ClipConfig, held_out_retrieval, train_micro_clip
from ..micro.gate import gate, gate_table
from ..micro.judges import JudgeConfig, held_out_accuracy, train_judges
from ..micro.latents import encoded, shown_cells
from ..micro.preview import preview
from ..micro.shipped import AUTOENCODER, full, half, load_autoencoder
from ..micro.stock import CODER, PROMPTS, coder_scene, make_scenes, rendered
from ..micro.text import host_captions
from ..micro.train_autoencoder import CoderConfig, CoderTrainer, train_coder
from ..micro.train_diffusion import DiffusionConfig, DiffusionTrainer, train_diffusion
from ..micro.world import full_caption

log = logging.getLogger(__name__)

PARTS = ("coder", "gate", "judges", "clip", "diffusion", "export")
CODER_SCENES = 6000
CODER_FILE = "autoencoder.safetensors"
"""In the working folder; it is shipped as a part of the model."""


class Workshop:
    """The parts of the training, over one working folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.work = options, options.work
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def coder(self) -> None:
        """The autoencoder, in fp16 as it is shipped."""
        pictures, _ = rendered(self.work, self.options.seed, CODER, CODER_SCENES, coder_scene)
        config = CoderConfig(steps=self.options.coder_steps, seed=self.options.seed)
        trainer = CoderTrainer(config, np.array(pictures))
        train_coder(trainer, self.work / "coder.pt")
        record = {
            "config": json.dumps(asdict(config)),
            "minutes": f"{trainer.elapsed / 60:.1f}",
        }
        model = trainer.model.eval()
        model.put_in_order()
        weights.save(CODER_FILE, half(model), record, self.work)

    def autoencoder(self) -> Autoencoder:
        """The one that was trained here, else the shipped one."""
        path = self.work / CODER_FILE
        if not path.is_file():
            return load_autoencoder()
        model = Autoencoder()
        model.load_state_dict(full(safetensors.torch.load_file(path)))
        return model.eval().requires_grad_(False)

    def gate(self) -> None:
        """The autoencoder's table; stops the program if it fails."""
        rows = gate(self.autoencoder())
        sys.stdout.write(gate_table(rows) + "\n")
        if not all(row.passed for row in rows[:2]):
            raise SystemExit("train-micro: the autoencoder fails the gate; train it longer")

    def judges(self) -> None:
        config = JudgeConfig(seed=self.options.seed)
        model = train_judges(self.work, config, bf16=self._bf16("cpu"))
        accuracy = held_out_accuracy(model, self.options.seed)
        log.info("judges on held-out scenes: %s", accuracy)
        record = {"accuracy": json.dumps(accuracy), "config": json.dumps(asdict(config))}
        self._put(weights.JUDGES, half(model), record)

    def clip(self) -> None:
        """The micro CLIP, for the field's usual scores."""
        config, captions = ClipConfig(seed=self.options.seed), host_captions()
        model = train_micro_clip(self.work, captions, config, bf16=self._bf16("cpu"))
        found = held_out_retrieval(model, captions, self.options.seed)
        log.info("micro CLIP on held-out pairs: %s", found)
        record = {
            "vocabulary": " ".join(map(str, model.vocabulary.tokens)),
            "retrieval": json.dumps(found),
            "config": json.dumps(asdict(config)),
        }
        self._put(weights.CLIP, half(model), record)

    def _bf16(self, device: torch.device | str) -> bool:
        return computes_in_bf16(self.options.precision, torch.device(device))

    def _trainer(self) -> DiffusionTrainer:
        options = self.options
        config = DiffusionConfig(
            steps=options.steps,
            rate=options.rate,
            dressed=options.dressed,
            held=options.held,
            objects=options.objects,
            detail=options.detail,
            seed=options.seed,
        )
        bf16, compiled = self._bf16(self.device), self.options.compile
        trainer = DiffusionTrainer(config, host_captions(), self.device, bf16, compiled=compiled)
        if self.options.start is not None:
            tensors = safetensors.torch.load_file(self.options.start)
            trainer.start_from(trained_parts(tensors))
        return trainer

    def _steps_before(self) -> int:
        """Of the weights that the training began at."""
        if self.options.start is None:
            return 0
        with safetensors.safe_open(self.options.start, "pt") as file:
            return int((file.metadata() or {}).get("steps", 0))

    def diffusion(self) -> None:
        """U-Net and text encoder, with a sheet of pictures now and then."""
        model, options = self.autoencoder(), self.options
        digest = hashlib.sha256(safetensors.torch.save(half(model))).hexdigest()
        latents, scenes = encoded(self.work, model, options.seed, options.scenes, digest)
        prompts = [full_caption(s) for s in make_scenes(options.seed, PROMPTS, 24)]

        def sheet(trainer: DiffusionTrainer) -> None:
            if trainer.steps % options.sheet_every == 0:
                pictures = preview(trainer, model, prompts)
                path = self.work / f"sheet-{trainer.steps:05d}.png"
                write_whole({path: png_writer(contact_sheet(pictures))})

        weighed = options.objects or options.detail
        cells = shown_cells(self.work, options.seed, scenes) if weighed else None
        train_diffusion(self._trainer(), latents, scenes, self.work / "diffusion.pt", sheet, cells)

    def export(self) -> None:
        """The shipped model file from autoencoder and checkpoint, and its hash in the card."""
        trainer = self._trainer()
        path = self.work / "diffusion.pt"
        trainer.load(torch.load(path, weights_only=True, map_location=self.device))
        if trainer.steps < trainer.config.steps:
            raise SystemExit(
                f"train-micro: {path} is at step {trainer.steps} of {trainer.config.steps}; "
                "finish the part `diffusion` first"
            )
        record = {
            "vocabulary": " ".join(map(str, trainer.captions.vocabulary.tokens)),
            "steps": str(trainer.steps + self._steps_before()),
            "minutes": f"{trainer.elapsed / 60:.1f}",
            "scenes": str(self.options.scenes),
            "precision": "bf16" if trainer.bf16 else "fp32",
            "config": json.dumps(asdict(trainer.config)),
            "begun_at_step": str(self._steps_before()),
            "version": weights.VERSION,
        }
        self._put(weights.MODEL, exported(trainer, self.autoencoder()), record)

    def _put(self, name: str, tensors: dict[str, torch.Tensor], record: dict[str, str]) -> None:
        """A weight file, and its hash in the card beside it."""
        folder = self.options.output
        if folder != weights.FOLDER and not (folder / weights.CARD).exists():
            folder.mkdir(parents=True, exist_ok=True)
            for file in weights.FOLDER.glob("attndb-micro*"):
                shutil.copy2(file, folder)
        weights.put_hash(name, weights.save(name, tensors, record, folder), folder)


PREFIXES = {"unet.": "model.diffusion_model.", "text.": "cond_stage_model."}
"""Of a trainer's names, and of those in SD checkpoints."""


def exported(trainer: DiffusionTrainer, autoencoder: Autoencoder) -> dict[str, torch.Tensor]:
    """The tensors of the shipped file: moving averages in fp16, names as in SD checkpoints."""
    tensors = {}
    for name, value in trainer.averaged().items():
        kind = name.partition(".")[0] + "."
        tensors[PREFIXES[kind] + name.removeprefix(kind)] = value.half()
    for name, value in half(autoencoder).items():
        tensors[AUTOENCODER + name] = value
    return tensors


def trained_parts(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a shipped file by a trainer's names."""
    return {
        ours + name: value
        for ours, theirs in PREFIXES.items()
        for name, value in weights.take(tensors, theirs).items()
    }


def contact_sheet(pictures: np.ndarray, columns: int = 8) -> Image.Image:
    """Pictures (N, H, W, 3) row by row."""
    rows = len(pictures) // columns
    grid = pictures[: rows * columns].reshape(rows, columns, *pictures.shape[1:])
    return Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in grid]))


def _weight(parser: argparse.ArgumentParser, option: str, metavar: str, said: str) -> None:
    """The option of what counts more in the training of the diffusion model."""
    usual = getattr(DiffusionConfig, option.removeprefix("--"))
    parser.add_argument(option, type=float, default=usual, metavar=metavar, help=said)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="dev.py train-micro", description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "micro")
    parser.add_argument(
        "--output",
        type=Path,
        default=weights.FOLDER,
        metavar="FOLDER",
        help="where the weight files go; another one gets a copy of the shipped ones first, and "
        "`evaluate-micro --weights` judges it",
    )
    parser.add_argument("--coder-steps", type=int, default=CoderConfig.steps)
    parser.add_argument("--steps", type=int, default=DiffusionConfig.steps)
    parser.add_argument("--rate", type=float, default=DiffusionConfig.rate)
    named = "a named hat or held thing"
    _weight(parser, "--dressed", "SHARE", f"of the samples, drawn among subjects with {named}")
    held = "of the samples, drawn among subjects with a named held thing"
    _weight(parser, "--held", "SHARE", held)
    objects = "added to the loss's weight of 1 in latent cells that show a subject or companion"
    _weight(parser, "--objects", "WEIGHT", objects)
    _weight(parser, "--detail", "WEIGHT", f"the same in latent cells that show {named}")
    parser.add_argument("--start", type=Path, help="weights to begin at instead of nothing")
    parser.add_argument("--scenes", type=int, default=40000)
    parser.add_argument("--sheet-every", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="auto",
        help="of all but the coder; bf16 also pays on a CPU with bf16 products (Zen 4, AMX)",
    )
    parser.add_argument(
        "--compile", action="store_true", help="the part `diffusion` with torch.compile"
    )
    parser.add_argument("--threads", type=int, default=0, help="0: as PyTorch chooses")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    host_on_path(cpu=not torch.cuda.is_available())
    options.work.mkdir(parents=True, exist_ok=True)
    workshop = Workshop(options)
    for part in options.parts:
        log.info("train-micro: %s", part)
        getattr(workshop, part)()
    return 0
