"""A whole training, from photos and checkpoint file to the saved concept: ours and the published.

Ours is the graph that a user queues: the stock checkpoint loader, the dataset node, the three stage
nodes with their defaults, Save Concept. The published loop opens, turns and cuts a photo for every
sample, and runs VAE and text encoder in every step. Stages have a twentieth of the paper's steps,
and our automatic pool of encoded crops shrinks as their samples do; what happens once (loading,
hashing, saving) is not shortened.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import psutil
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..attndb.config import data
from ..attndb.config.presets import paper
from ..attndb.data.augmentation import draw_crop, render
from ..attndb.data.dataset import ConceptDataset
from ..devkit.in_process import Graph, host_folders
from .crops import scene
from .measure import PeakMemory, collect
from .reference_step import PublishedModel, PublishedStep
from .sizes import CATEGORY, PROMPT, Inputs, Size, Weights
from .stopwatch import Stopwatch

CPU = torch.device("cpu")
SHORTER, QUICK = 20, 60
"""Stages are that many times shorter than the paper's."""
PHOTOS, MEGAPIXELS = 5, (4032, 3024)
UNET, TEXT, VAE = "model.diffusion_model.", "cond_stage_model.transformer.", "first_stage_model."
CHECKPOINT = "sd15-small.safetensors"
NODES = ("AttnDBStage1LearnEmbedding", "AttnDBStage2TrainCrossAttention", "AttnDBStage3TrainUNet")


def steps_of(shorter: int) -> tuple[int, ...]:
    """Steps of the three stages."""
    return tuple(max(1, round(stage.steps / shorter)) for stage in paper())


def pool_of(size: Size, shorter: int) -> int:
    """Crops per photo that are to the stages' samples what an automatic pool is to the paper's."""
    samples = size.batch / paper()[0].batch_size / shorter
    return max(1, round(data.POOL * samples))


def write_photos(folder: Path, size: tuple[int, int] = MEGAPIXELS) -> None:
    """Pictures as large as a phone's, as JPEG files."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = scene(*size)
    for i in range(PHOTOS):
        turned = whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if i % 2 else whole
        turned.rotate(180 * (i // 2)).save(folder / f"{i}.jpg", quality=92)


def photo_dataset(graph: Graph, folder: Path) -> ConceptDataset:
    """The written photos as the dataset node loads them."""
    return graph(
        "AttnDBLoadConceptDataset",
        folder="(typed path)",
        path=str(folder),
        category="doll",
        placeholder="<v>",
    )[0]


def write_checkpoint(path: Path) -> None:
    """sd15-small as a checkpoint file: the small U-Net, text encoder and VAE of full size."""
    from ..devkit.checkpoints import make_checkpoint

    weights = {k: v for k, v in load_file(make_checkpoint("sd15")).items() if VAE not in k}
    weights |= {f"{VAE}{k}": v.half() for k, v in _vae_weights().items()}
    save_file(weights, path)


def _vae_weights() -> dict[str, Tensor]:
    """Random ones of Stable Diffusion's VAE, that keep activations finite."""
    from comfy.ldm.models.autoencoder import AutoencoderKL

    layout = {
        **{"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3},
        **{"ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": []},
        "dropout": 0.0,
    }
    with torch.device("meta"):
        shapes = AutoencoderKL(ddconfig=layout, embed_dim=4).state_dict()
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, like in shapes.items():
        if like.dim() == 1:
            weights[name] = torch.full(like.shape, float(name.endswith("weight")))
        else:
            spread = like[0].numel() ** -0.5
            weights[name] = torch.randn(like.shape, generator=generator) * spread
    return weights


def ours(size: Size, precision: str, work: Path, shorter: int = SHORTER) -> dict[str, Any]:
    """Seconds, peak MB and parts of our training; everything that it writes lies below `work`."""
    import nodes as stock

    from ..attndb.data.rendered_ahead import RenderedAhead
    from ..attndb.training import session, trainer
    from ..attndb.training.run import Run
    from ..attndb.training.training import Training
    from ..nodes.host import workbench

    host_folders(work)
    import folder_paths

    folder_paths.add_model_folder_path("checkpoints", str(work))
    graph, watch, wall = Graph(), Stopwatch(), Stopwatch(time.perf_counter)
    parts = {
        "load": [(stock.CheckpointLoaderSimple, "load_checkpoint")],
        "hash": [(workbench, f"{what}_digest") for what in ("autoencoder", "text", "unet")],
        "encode": [(RenderedAhead, "fill")],
        "batch": [(RenderedAhead, "__getitem__")],
        "step": [(Training, "step")],
        "told": [(trainer._Progress, "add")],
        "checkpoint": [(Run, "save")],
        "save": [(session, "_keep")],
    }
    shorter_pool = mock.patch.object(data, "POOL", pool_of(size, shorter))
    with (
        _measured() as taken,
        torch.inference_mode(),
        shorter_pool,
        watch.watching(parts),
        wall.watching(parts),
        watch.part("other"),
    ):
        model, clip, vae = stock.CheckpointLoaderSimple().load_checkpoint(CHECKPOINT)
        concept = None
        dataset = photo_dataset(graph, work / "photos")
        for node, steps in zip(NODES, steps_of(shorter), strict=True):
            concept = graph(
                node,
                model=model,
                clip=clip,
                vae=vae,
                dataset=dataset,
                steps=steps,
                batch_size=size.batch,
                resolution=size.resolution,
                precision=precision,
                concept=concept,
            )[0]
        with watch.part("save"):
            graph("AttnDBSaveConcept", concept=concept, name="doll")
    return {**taken, "parts": _rounded(watch), "between_steps": between_steps(wall.seconds)}


def between_steps(wall: Mapping[str, float]) -> float:
    """Share of the time from the first step to the last that is no step's own: until a batch is
    there, and while a step is told of and kept. Seconds on the clock: waiting takes no others."""
    others = sum(wall.get(part, 0.0) for part in ("batch", "told", "checkpoint"))
    return others / (wall["step"] + others)


def _rounded(watch: Stopwatch) -> dict[str, float]:
    return {name: round(value, 3) for name, value in watch.seconds.items()}


def published(size: Size, work: Path, shorter: int = SHORTER) -> dict[str, Any]:
    """The same of the published loop, in fp32."""
    watch = Stopwatch()
    with _measured() as taken, watch.part("other"):
        with watch.part("load"):
            found = load_file(work / CHECKPOINT)
            weights = Weights(*(_under(found, prefix) for prefix in (UNET, TEXT)))
            model = PublishedModel(size, weights, CPU)
            vector = weights.text["text_model.embeddings.token_embedding.weight"][PROMPT[CATEGORY]]
            del found, weights
        pictures = _pictures(sorted((work / "photos").iterdir()), size.resolution)
        noise = torch.Generator().manual_seed(0)
        for stage, steps in enumerate(steps_of(shorter), 1):
            step = PublishedStep(model, stage, vector)
            for _ in range(steps):
                with watch.part("photos"):
                    pixels = torch.stack(list(itertools.islice(pictures, size.batch)))
                with watch.part("step"):
                    step.step(_inputs(size, pixels, noise))
            vector = step.vector.detach()
            del step
            collect(CPU)
        with watch.part("save"):
            state = {k: v.contiguous() for k, v in model.unet.state_dict().items()}
            save_file({**state, "<v>": vector}, work / "published.safetensors")
    return {**taken, "parts": _rounded(watch)}


def _under(found: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v.float() for k, v in found.items() if k.startswith(prefix)}


def _pictures(photos: list[Path], resolution: int) -> Iterator[Tensor]:
    """Crops (3, H, W) in -1..1, each from a file opened anew, as published."""
    draws = torch.Generator().manual_seed(0)
    for path in itertools.cycle(photos):
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
        pixels, _ = render(image, draw_crop("reference", draws), resolution)
        yield torch.from_numpy(pixels).permute(2, 0, 1) * 2.0 - 1.0


def _inputs(size: Size, pixels: Tensor, generator: torch.Generator) -> Inputs:
    noise = torch.randn(size.latent_shape, generator=generator)
    timesteps = torch.randint(0, 1000, (size.batch,), generator=generator)
    return Inputs(noise, noise, timesteps, pixels)


@contextmanager
def _measured() -> Iterator[dict[str, float]]:
    """Seconds and the peak of a `with`, in the dict that it gives, when it is left."""
    taken: dict[str, float] = {}
    memory = PeakMemory(CPU, psutil.Process().memory_info().rss)
    wall, processor = time.perf_counter(), time.process_time()
    with memory:
        yield taken
    taken["time_s"] = time.perf_counter() - wall
    taken["processor_s"] = time.process_time() - processor
    taken["memory_mb"] = memory.megabytes


def row(size: Size, precision: str, mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """One line of the table."""
    parts = mine["parts"]
    return {
        "size": size.name,
        "precision": precision,
        "time_ours_s": mine["time_s"],
        "time_published_s": theirs["time_s"],
        "time_ratio": theirs["time_s"] / mine["time_s"],
        "processor_ratio": theirs["processor_s"] / mine["processor_s"],
        "memory_ours_mb": mine["memory_mb"],
        "memory_published_mb": theirs["memory_mb"],
        "outside_steps": 1.0 - parts["step"] / sum(parts.values()),
        "between_steps": mine["between_steps"],
        "parts_ours_s": parts,
        "parts_published_s": theirs["parts"],
    }


def prepared(work: Path, photos: tuple[int, int] = MEGAPIXELS) -> Path:
    """The folder with photos and checkpoint, both made if missing."""
    if not (work / "photos").is_dir():
        write_photos(work / "photos", photos)
    if not (work / CHECKPOINT).is_file():
        write_checkpoint(work / CHECKPOINT)
    return work


def in_fresh_folder(side: str, size: Size, precision: str, work: Path, shorter: int) -> Any:
    """One side, with nothing left by a run of before: runs and encoded crops answer at once."""
    with TemporaryDirectory(dir=work) as folder:
        place = Path(folder)
        shutil.copytree(work / "photos", place / "photos")
        shutil.copy(work / CHECKPOINT, place)
        if side == "ours":
            return ours(size, precision, place, shorter)
        return published(size, place, shorter)
