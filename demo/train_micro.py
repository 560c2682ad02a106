"""`python dev.py train-micro`: every weight file of the demo from nothing, on CPU or GPU.

Parts: `vae` (components, then the decoder), `diffusion` (the long one; resumable), `export`,
`judges`, `clip`. Work lies in --work, outside git; a part that is already there is not done again.
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
import json
import logging
import os
from dataclasses import asdict

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from ..devkit.pack import ROOT, host_on_path
from ..micro import weight_files as weights
from ..micro.autoencoder import MicroAutoencoder
from ..micro.clip import train_micro_clip
from ..micro.judges import train_judges
from ..micro.scenes import TRAIN, rendered
from ..micro.text import CaptionEncoder
from ..micro.train_autoencoder import encode_all, new_autoencoder, train_decoder
from ..micro.train_diffusion import DiffusionConfig, DiffusionTrainer, train_diffusion

log = logging.getLogger(__name__)

PARTS = ("vae", "diffusion", "export", "judges", "clip")


def caption_encoder() -> CaptionEncoder:
    """The vocabulary of the world in the ids of CLIP's tokenizer, which ComfyUI brings."""
    import comfy.sd1_clip

    folder = Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer"
    return CaptionEncoder(CLIPTokenizer.from_pretrained(folder))


def _write(path: Path, model: torch.nn.Module) -> None:
    part = path.with_suffix(".part")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, part)
    os.replace(part, path)


class Workshop:
    """The parts of the training, over one working folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.work = options, options.work
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.encoder_file = self.work / "encoder.safetensors"
        self.decoder_file = self.work / "decoder.safetensors"
        self.checkpoint = self.work / "checkpoint.pt"

    def _scenes(self):
        return rendered(self.work, self.options.seed, TRAIN, self.options.scenes)

    def _autoencoder(self, path: Path) -> MicroAutoencoder:
        model = MicroAutoencoder()
        model.load_state_dict(load_file(path))
        return model.to(self.device)

    def _encoder(self) -> MicroAutoencoder:
        if not self.encoder_file.exists():
            _write(self.encoder_file, new_autoencoder(self._scenes()[0], self.options.seed))
        return self._autoencoder(self.encoder_file)

    def vae(self) -> None:
        """The encoder's components, and the decoder by gradient descent."""
        model = self._encoder()
        if not self.decoder_file.exists():
            train_decoder(model, self._scenes()[0], minutes=self.options.decoder_minutes)
            _write(self.decoder_file, model)

    def _trainer(self) -> DiffusionTrainer:
        config = DiffusionConfig(minutes=self.options.minutes, seed=self.options.seed)
        return DiffusionTrainer(config, caption_encoder(), self.device)

    def diffusion(self) -> None:
        """U-Net and text encoder, until the time budget is used."""
        pictures, scenes = self._scenes()
        latents = encode_all(self._encoder(), pictures, self.device).to(self.device)
        train_diffusion(self._trainer(), latents, scenes, self.checkpoint)

    def export(self) -> None:
        """The shipped model file from decoder and checkpoint, and its hash in the card."""
        trainer = self._trainer()
        trainer.load(torch.load(self.checkpoint, weights_only=True, map_location="cpu"))
        tensors = exported(trainer, self._autoencoder(self.decoder_file).cpu())
        record = {
            "vocabulary": " ".join(map(str, trainer.captions.vocabulary.tokens)),
            "steps": str(trainer.steps),
            "minutes": f"{trainer.elapsed / 60:.1f}",
            "scenes": str(self.options.scenes),
            "config": json.dumps(asdict(trainer.config)),
        }
        weights.put_hash(weights.MODEL, weights.save(weights.MODEL, tensors, record))

    def judges(self) -> None:
        model, accuracy = train_judges(seed=self.options.seed)
        log.info("judges on held-out scenes: %s", accuracy)
        record = {"accuracy": json.dumps(accuracy)}
        digest = weights.save(weights.JUDGES, _half(model), record)
        weights.put_hash(weights.JUDGES, digest)

    def clip(self) -> None:
        model = train_micro_clip(caption_encoder(), seed=self.options.seed)
        record = {"vocabulary": " ".join(map(str, model.vocabulary.tokens))}
        weights.put_hash(weights.CLIP, weights.save(weights.CLIP, _half(model), record))


def _half(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}


def exported(trainer: DiffusionTrainer, autoencoder: MicroAutoencoder) -> dict[str, torch.Tensor]:
    """The tensors of the shipped file: moving averages in fp16, names as in SD checkpoints."""
    first = len(trainer.mirrors[0].masters)
    parts = {
        "model.diffusion_model.": (trainer.mirrors[0], trainer.average[:first]),
        "cond_stage_model.": (trainer.mirrors[1], trainer.average[first:]),
    }
    tensors = {}
    for prefix, (mirror, values) in parts.items():
        for name, parameter, value in zip(mirror.names, mirror.parameters, values, strict=True):
            tensors[prefix + name] = value.view(parameter.shape).half()
    for name, value in autoencoder.state_dict().items():
        tensors[f"first_stage_model.{name}"] = value.half()
    return tensors


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="train-micro", description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "train-micro")
    parser.add_argument("--minutes", type=float, default=180, help="budget of the diffusion model")
    parser.add_argument("--decoder-minutes", type=float, default=10)
    parser.add_argument("--scenes", type=int, default=36000)
    parser.add_argument("--seed", type=int, default=0)
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
