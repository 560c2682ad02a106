"""Family: what is published of the kinds of Stable Diffusion models, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint, by the name that the host's part gives a MODEL of it."""

    name: str
    encoders: tuple[str, ...]
    """Text encoders, by which embedding files name their vectors, in the order of text states."""
    layout: Literal["sd", "sdxl"]
    """How the published U-Net is laid out."""
    kohya_version: str
    """kohya sd-scripts' name of the base model (`ss_base_model_version`)."""
    kohya_v2: bool = False
    """Whether kohya's scripts call it v2."""
    predicts: str = ""
    """What it predicts where a record does not say it: behind a model sampling node it may be
    another. Those that tell it end in `_v` in kohya's names where they predict v."""
    architecture: str = ""
    """Its name in the modelspec standard; empty: it has none there."""
    latent_side: int = 64
    """Latent pixels of its pictures."""
    own_layer: int = -2
    """Of its text encoders, counted from the end: what is read if nobody chooses another."""
    in_diffusers: bool = True
    """Whether diffusers has a U-Net of the same layout."""


SD15 = Family(
    *("SD 1.5", ("clip_l",), "sd", "sd_v1", False, "epsilon", "stable-diffusion-v1"),
    own_layer=-1,
)
SD21_BASE = Family(
    "SD 2.1-base", ("clip_h",), "sd", "sd_v2", True, "epsilon", "stable-diffusion-v2-512"
)
SD21_768 = Family(
    "SD 2.1-768", ("clip_h",), "sd", "sd_v2", True, "v", "stable-diffusion-v2-768-v", latent_side=96
)
SDXL = Family(
    "SDXL",
    ("clip_l", "clip_g"),
    "sdxl",
    "sdxl_base_v1-0",
    architecture="stable-diffusion-xl-v1-base",
    latent_side=128,
)
_SMALL = {"latent_side": SDXL.latent_side, "in_diffusers": False}
SSD_1B = Family("SSD-1B", SDXL.encoders, "sdxl", SDXL.kohya_version, **_SMALL)
VEGA = Family("Segmind Vega", SDXL.encoders, "sdxl", SDXL.kohya_version, **_SMALL)

FAMILIES = {f.name: f for f in (SD15, SD21_BASE, SD21_768, SDXL, SSD_1B, VEGA)}
"""By name. A model of another family is trained and saved all the same, as the embedded one is: its
files have our own names."""
