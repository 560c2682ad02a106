"""`python benchmarks/text_states.py`: what text states kept on disk would save a training.

Stages 2 and 3 compute the states of their prompts once (methods/denoising.py). Here: that
computation for 27 prompts, next to reading as many kept states with their checksums, and next to
what every training does with its text encoder whether it encodes or not. Random weights, full size.
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
import logging
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ..attndb.artifacts.checked_file import check_content, checked_writer
from ..attndb.artifacts.tensor_file import read_tensors, write_whole
from ..attndb.config.words import TEMPLATES
from ..attndb.data.tokens import TokenizedText
from ..attndb.models.conditioning import Conditioning
from ..devkit.checkpoints import CACHE, make_checkpoint
from ..devkit.host_path import host_on_path

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="text_states.py", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("--kinds", nargs="+", default=["micro", "sd21"], help="micro, sd15, sd21")
    options = parser.parse_args(arguments)
    host_on_path()
    for kind in options.kinds:
        with TemporaryDirectory() as folder:
            log.info("%s: %s", kind, _measured(_clip(kind), Path(folder)))
    return 0


def _clip(kind: str) -> Any:
    import folder_paths
    import nodes as stock

    from ..nodes.host.model.micro import load_micro

    if kind == "micro":
        return load_micro([])[1]
    folder_paths.add_model_folder_path("checkpoints", str(CACHE))
    path = make_checkpoint(kind)  # pyright: ignore[reportArgumentType]
    with torch.inference_mode():
        return stock.CheckpointLoaderSimple().load_checkpoint(path.name)[1]


def _measured(clip: Any, folder: Path) -> str:
    from ..nodes.host.model.digests import text_digest
    from ..nodes.host.model.placeholders import embedding_widths, encoder_names
    from ..nodes.host.model.text import with_blank_vectors
    from ..nodes.host.model.text_encoder import TextEncoder

    [name] = encoder_names(clip.cond_stage_model)
    vectors = torch.zeros(1, embedding_widths(clip)[name])
    marked = with_blank_vectors(clip, "<v>", 1)
    prompts = []
    for template in TEMPLATES:
        [chunk] = marked.tokenize(template.format("<v> cat"))[name.removeprefix("clip_")]
        ids = [None if isinstance(token, torch.Tensor) else int(token) for token, _ in chunk]
        prompts.append(TokenizedText(template, tuple(ids)))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    hashed, _ = _timed(lambda: text_digest(clip))
    copied, encoder = _timed(lambda: TextEncoder.from_clip(clip, name, device).to(device))

    def encode() -> list[Conditioning]:
        with torch.inference_mode(False), torch.no_grad():
            own = vectors.to(device)
            found = [Conditioning({name: encoder.encode(p, own)[0]}) for p in prompts]
        return [Conditioning({name: states.text[name].cpu()}) for states in found]

    first, states = _timed(encode)
    again, _ = _timed(encode)
    paths = [folder / f"{number}.safetensors" for number in range(len(states))]
    for path, kept in zip(paths, states, strict=True):
        write_whole({path: checked_writer({"states": kept.text[name]}, {})})

    def read() -> None:
        for path in paths:
            read_tensors(path)
            check_content(path)

    reading, _ = _timed(read)
    size = sum(path.stat().st_size for path in paths)
    return (
        f"{len(prompts)} prompts on {device.type}, {torch.get_num_threads()} thread(s): encoded in "
        f"{first:.3f} s, again in {again:.3f} s ({again / len(prompts):.4f} s each); read from "
        f"{size / 1e6:.1f} MB on disk in {reading:.3f} s; the weights are hashed in {hashed:.1f} s "
        f"and copied in {copied:.1f} s either way"
    )


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found
