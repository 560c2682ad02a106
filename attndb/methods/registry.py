"""Every method by the name that settings have for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..config.methods import MethodName
from ..config.stage import StageConfig
from .attndreambooth import AttnDreamBooth
from .custom_diffusion import CustomDiffusion
from .dreambooth import DreamBooth
from .method import Method
from .neti import NeTI
from .oft import OFT
from .textual_inversion import TextualInversion
from .ti_dreambooth import TIDreamBooth
from .vico import ViCo

METHODS: Mapping[MethodName, Callable[[StageConfig], Method]] = {
    "attndreambooth": AttnDreamBooth,
    "ti_dreambooth": TIDreamBooth,
    "textual_inversion": TextualInversion,
    "dreambooth": DreamBooth,
    "custom_diffusion": CustomDiffusion,
    "oft": OFT,
    "neti": NeTI,
    "vico": ViCo,
}


def method_of(config: StageConfig) -> Method:
    """The method that the settings name."""
    return METHODS[config.method](config)
