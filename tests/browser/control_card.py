"""The card of *Concept with ControlNet*: its wiring on the embedded model, with a ControlNet that
is trained here for that and kept nowhere else.

    .venv/bin/python tests/browser/control_card.py [--steps 1000] [--output FOLDER]

A row for each picture: it, its outlines, the subject by the prompt alone, and by both.
FOLDER keeps scenes, the ControlNet and the concept, for the next time.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch
from PIL import Image
from result import card
from safetensors.torch import load_file, save_file
from torch import Tensor

from attndreambooth.attndb.models.noise_schedule import Diffusion, scaled_linear_alphas_cumprod
from attndreambooth.attndb.models.precision import computes_in_bf16
from attndreambooth.devkit.host_path import host_on_path
from attndreambooth.devkit.in_process import Graph, host_folders
from attndreambooth.devkit.pack import ROOT
from attndreambooth.devkit.wires import Loaded, control_net
from attndreambooth.micro.latents import encoded
from attndreambooth.micro.sampling import GUIDANCE, SAMPLER, SCHEDULER, STEPS, conditions
from attndreambooth.micro.shipped import load_autoencoder
from attndreambooth.micro.stock import JUDGE_TEST, TRAIN, make_scenes, rendered
from attndreambooth.micro.world import Scene, random_caption, render
from attndreambooth.micro.world.vocabulary import PLACES

CARD = ROOT / "workflows" / "Concept with ControlNet.jpg"
SCENES, BATCH, RATE, SEED = 2000, 16, 1e-3, 0
PLAIN = 0.1
"""Share of samples without words, as for the model itself."""
CANNY = (0.2, 0.5)
"""The thresholds of the workflow."""
ROWS = 3

log = logging.getLogger(__name__)


def edges(pictures: Tensor) -> Tensor:
    """Outlines (N, Y, X, 3) of pictures (N, Y, X, 3) in 0..1, by the stock node."""
    from comfy_extras.nodes_canny import Canny

    return Canny.execute(pictures, *CANNY).args[0]


def trained(wires: Loaded, folder: Path, steps: int) -> Any:
    """A ControlNet that begins as the U-Net's first half, as published (arXiv:2302.05543)."""
    path, net = folder / f"control-{steps}.safetensors", control_net(wires)
    if path.is_file():
        net.control_model.load_state_dict(load_file(str(path)))
        return net
    unet = wires.model.model.diffusion_model
    _begin(net.control_model, unet)
    pictures, scenes = rendered(folder, SEED, TRAIN, SCENES)
    latents, _ = encoded(folder, load_autoencoder(), SEED, SCENES, "shipped")
    with torch.no_grad():
        samples = Samples(latents, _words(wires.clip, scenes), _outlines(pictures))
    _train(net.control_model, unet, samples, steps)
    save_file(net.control_model.state_dict(), str(path))
    return net


@dataclass
class Samples:
    """What the ControlNet learns from. N samples."""

    latents: Tensor
    """(N, 32, 16, 16)."""
    texts: Tensor
    """Text states (N, 77, D)."""
    outlines: Tensor
    """(N, Y, X) bytes."""


def _train(model: torch.nn.Module, unet: torch.nn.Module, samples: Samples, steps: int) -> None:
    """The denoising loss of the model itself, over the ControlNet's weights alone."""
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.05)
    generator = torch.Generator().manual_seed(SEED)
    diffusion = Diffusion(alphas_cumprod=scaled_linear_alphas_cumprod(), prediction_type="v")
    bf16 = computes_in_bf16("auto", torch.device("cpu"))
    start, seen, unhelped = time.monotonic(), 0.0, 0.0
    for step in range(1, steps + 1):
        index = torch.randint(SCENES, (BATCH,), generator=generator)
        clean = samples.latents[index].float()  # (B, 32, 16, 16)
        t = torch.randint(diffusion.timesteps, (BATCH,), generator=generator)
        noise = torch.randn(clean.shape, generator=generator)
        noisy, velocity = diffusion.add_noise(clean, noise, t), diffusion.target(clean, noise, t)
        hint = samples.outlines[index].float().div(255)[:, None].expand(-1, 3, -1, -1)
        given = {"timesteps": t, "context": samples.texts[index].float()}
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            control = model(x=noisy, hint=hint, **given)
            predicted = unet(noisy, **given, control=control).float()
        loss = (predicted - velocity).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        seen += float(loss.detach())
        if step % 10 == 0:
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                alone = unet(noisy, **given).float()
            unhelped += float((alone - velocity).square().mean())
        if step % 50 == 0:
            told = (step, seen / 50, unhelped / 5, time.monotonic() - start)
            log.info("step %d, loss %.4f, of the model alone %.4f, %.0f s", *told)
            seen = unhelped = 0.0


def _begin(model: torch.nn.Module, unet: torch.nn.Module) -> None:
    """The U-Net's weights where it has such, PyTorch's own for the outlines, zero between."""
    own = {name: value.float() for name, value in unet.state_dict().items()}
    torch.manual_seed(SEED)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.Conv2d.reset_parameters(module)
            if name.startswith(("zero_convs", "middle_block_out", "input_hint_block.14")):
                torch.nn.init.zeros_(module.weight)
                torch.nn.init.zeros_(module.bias)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.requires_grad_(True)
            if name in own:
                value.copy_(own[name])


def _words(clip: Any, scenes: list[Scene]) -> Tensor:
    """Text states (N, 77, D) of a caption for each scene, in fp16."""
    rng = np.random.default_rng(SEED)
    texts = ["" if rng.random() < PLAIN else random_caption(scene, rng) for scene in scenes]
    [[[states, _]]] = conditions(clip, texts)
    return states.half()


def _outlines(pictures: np.ndarray) -> Tensor:
    """Outlines (N, Y, X) as bytes; by another Canny than the stock node, many times as fast."""
    from skimage.feature import canny

    gray = (np.array(picture).mean(axis=-1) / 255 for picture in pictures)
    return torch.from_numpy(np.stack([canny(one, 1.0, 0.05, 0.15) for one in gray])).byte() * 255


def learned(graph: Graph, wires: Loaded, folder: Path) -> Any:
    """The concept of the demo: *hatted-robot* by preset micro."""
    name = "my-robot"
    if (folder / "models" / "loras" / f"{name}.safetensors").is_file():
        return graph("AttnDBLoadConcept", name=name)[0]
    photos = graph("AttnDBMicroConcept", concept="hatted-robot")
    said = {"images": photos[0], "category": photos[1], "placeholder": "<my-robot>"}
    dataset = graph("AttnDBConceptDatasetFromImages", **said)[0]
    given = {"model": wires.model, "clip": wires.clip, "vae": wires.vae, "dataset": dataset}
    concept = graph("AttnDBAllStages", **given, preset="micro")[0]
    graph("AttnDBSaveConcept", concept=concept, name=name)
    return concept


def drawn(wires: Loaded, positive: Any, negative: Any, seed: int) -> Image.Image:
    import nodes

    side = 128
    empty = nodes.EmptyLatentImage().generate(side, side, 1)[0]
    latent = nodes.KSampler().sample(
        *(wires.model, seed, STEPS, GUIDANCE, SAMPLER, SCHEDULER), positive, negative, empty, 1.0
    )[0]
    return _image(nodes.VAEDecode().decode(wires.vae, latent)[0][0])


def _image(pixels: Tensor) -> Image.Image:
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def _robots() -> list[tuple[Scene, Tensor]]:
    """Scenes of plain robots that no training has seen, and their pictures (1, Y, X, 3)."""
    scenes = make_scenes(SEED, JUDGE_TEST, 400)
    robots = [s for s in scenes if s.category == "robot" and s.style == "photo" and s.half > 32]
    far = sorted(robots, key=lambda scene: -abs(scene.x - 64))[:ROWS]
    return [(s, torch.from_numpy(np.array(render(s).picture)).float()[None] / 255) for s in far]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=1000, help="of the ControlNet's training")
    parser.add_argument("--output", type=Path, default=ROOT / ".cache" / "control-card")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder = options.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    host_on_path(cpu=not torch.cuda.is_available())
    host_folders(folder)
    import nodes

    from attndreambooth.nodes.host.model.micro import load_micro

    wires, graph = Loaded(*load_micro([str(folder / "models" / "embeddings")])), Graph()
    net = trained(wires, folder, options.steps)
    with torch.inference_mode():
        concept = learned(graph, wires, folder)
        model, clip, _ = graph(
            "AttnDBApplyConcept", model=wires.model, clip=wires.clip, concept=concept
        )
        subject, rows = Loaded(model, clip, wires.vae), []
        encode = nodes.CLIPTextEncode().encode
        negative = encode(clip, "")[0]
        for seed, (scene, picture) in enumerate(_robots()):
            text = f"a photo of a <my-robot> robot {PLACES[scene.place]}"
            outlines, words = edges(picture), encode(clip, text)[0]
            steered = nodes.ControlNetApplyAdvanced().apply_controlnet(
                words, negative, net, outlines, 0.8, 0.0, 0.8
            )
            alone = drawn(subject, words, negative, seed)
            both = drawn(subject, *steered, seed)
            rows.append([_image(picture[0]), _image(outlines[0]), alone, both])
    card(rows).save(CARD, quality=90)
    log.info("%s written", CARD)
    return 0


if __name__ == "__main__":
    sys.exit(main())
