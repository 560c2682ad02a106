"""attndb-micro as the host's own MODEL, CLIP and VAE."""

from __future__ import annotations

import copy
import logging
import re
from functools import partial
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import torch
from torch import Tensor

from ....micro import weight_files as weights
from ....micro.autoencoder import DOWNSCALE, LATENT_CHANNELS, Autoencoder
from ....micro.shipped import AUTOENCODER
from ....micro.text import TEXT_CONFIG, Vocabulary
from ....micro.unet import UNET_CONFIG

log = logging.getLogger(__name__)


class MicroLatent(comfy.latent_formats.LatentFormat):
    """8 x 8 px per latent pixel, 32 channels as the autoencoder orders them: no scale factor."""

    scale_factor = 1.0
    latent_channels = LATENT_CHANNELS
    spacial_downscale_ratio = DOWNSCALE


class AttnDBMicro(comfy.supported_models_base.BASE):
    """The model family: a U-Net with the schedule of Stable Diffusion, as SD 2.1-768 predicting
    velocities."""

    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012 (the host's own class attribute)
    latent_format = MicroLatent
    memory_usage_factor = 1.0

    def model_type(self, state_dict: dict[str, Tensor], prefix: str = "") -> Any:
        """Velocity prediction."""
        return comfy.model_base.ModelType.V_PREDICTION

    def inpaint_model(self) -> bool:
        """False: its many latent channels are not a mask."""
        return False


class MicroTokenizer(comfy.sd1_clip.SDTokenizer):
    """CLIP's tokenizer; says once which words of a prompt the model does not know."""

    def __init__(
        self, embedding_directory=None, tokenizer_data=None, *, vocabulary: Vocabulary
    ) -> None:
        super().__init__(
            embedding_directory=embedding_directory,
            embedding_size=TEXT_CONFIG["hidden_size"],
            embedding_key="clip_l",
            tokenizer_data=tokenizer_data or {},
        )
        self.vocabulary = vocabulary
        self._told: set[str] = set()

    def unknown_words(self, tokens: list[int]) -> list[str]:
        """Words among CLIP tokens that fall on the unknown row, in order, each once."""
        found: dict[str, None] = {}
        word, known = "", True
        for token in tokens:
            piece = self.inv_vocab.get(token, "")
            word += piece.removesuffix("</w>")
            known = known and self.vocabulary.row(token) != 0
            if piece.endswith(("</w>", "|>")):
                if not known and re.search(r"\w", word):
                    found[word] = None
                word, known = "", True
        return list(found)

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs: Any):
        """The host's token lists of a prompt."""
        batches = super().tokenize_with_weights(text, return_word_ids, **kwargs)
        tokens = [int(t[0]) for batch in batches for t in batch if not isinstance(t[0], Tensor)]
        new = [word for word in self.unknown_words(tokens) if word not in self._told]
        if new:
            self._told.update(new)
            log.warning(
                "attndb-micro does not know %s: such words are read as one unknown word. "
                "The model card (micro/weights/%s) lists the words that it knows",
                ", ".join(repr(word) for word in new),
                weights.CARD,
            )
        return batches


def load_micro(
    embedding_directory: list[str] | None = None,
    folder: Path = weights.FOLDER,
    *,
    disable_dynamic: bool = False,
) -> tuple[Any, Any, Any]:
    """(MODEL, CLIP, VAE) of the host's own types; WeightsError for a file that is not ours.

    disable_dynamic: none of them streams its weights (the MODEL and the VAE never do).
    """
    tensors, metadata = weights.load(weights.MODEL, folder)
    wires = from_tensors(tensors, metadata, embedding_directory, disable_dynamic=disable_dynamic)
    model, clip, vae = wires
    for part, patcher in enumerate((model, clip.patcher, vae.patcher)):
        # as the stock loaders do: how the host makes another one of its own (its trainer does)
        patcher.cached_patcher_init = (_load_patcher, (part, embedding_directory, folder))
    return wires


def _load_patcher(
    part: int, embedding_directory: list[str] | None, folder: Path, disable_dynamic: bool = False
) -> Any:
    """A MODEL (part 0), or the patcher of a CLIP (1) or VAE (2), sharing nothing with others."""
    wire = load_micro(embedding_directory, folder, disable_dynamic=disable_dynamic)[part]
    return wire if part == 0 else wire.patcher


def from_tensors(
    tensors: dict[str, Tensor],
    metadata: dict[str, str],
    embedding_directory: list[str] | None = None,
    *,
    disable_dynamic: bool = False,
) -> tuple[Any, Any, Any]:
    """(MODEL, CLIP, VAE) from the tensors of the shipped file; WeightsError for another version."""
    version = metadata.get("version", "1")
    if version != weights.VERSION:
        raise weights.WeightsError(
            f"{weights.MODEL} is of version {version}; this pack draws with version "
            f"{weights.VERSION}. Update the pack as a whole"
        )
    vae = _vae(weights.take(tensors, AUTOENCODER))
    model = _model(weights.take(tensors, "model.diffusion_model."), vae.first_stage_model)
    vocabulary = Vocabulary([int(token) for token in metadata["vocabulary"].split()])
    text = weights.take(tensors, "cond_stage_model.")
    clip = _clip(text, vocabulary, embedding_directory, disable_dynamic)
    return model, clip, vae


def _model(state: dict[str, Tensor], autoencoder: torch.nn.Module) -> Any:
    management = comfy.model_management
    config: Any = AttnDBMicro(copy.deepcopy(UNET_CONFIG))
    config.latent_format = MicroLatent()
    device, offload = management.get_torch_device(), management.unet_offload_device()
    dtypes = [torch.float32]  # 24 MB in half precision: nothing to gain from less
    dtype = management.unet_dtype(
        model_params=sum(v.numel() for v in state.values()), supported_dtypes=dtypes
    )
    config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device, dtypes))
    model = config.get_model(state, "", device=offload)
    model.latent_format.latent_rgb_factors, model.latent_format.latent_rgb_factors_bias = (
        _preview_factors(autoencoder)
    )
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)
    missing, unexpected = model.diffusion_model.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise weights.WeightsError(
            f"{weights.MODEL} does not fit this version of the pack: missing {missing[:3]}, "
            f"unexpected {unexpected[:3]}. Update the pack as a whole"
        )
    return patcher


def _preview_factors(autoencoder: Any) -> tuple[list[list[float]], list[float]]:
    """Mean colour of a patch from its latent: what the host's fast previews need."""
    weight = autoencoder.linear_out.weight.detach().float()[:, :, 0, 0]  # (192, C)
    bias = autoencoder.linear_out.bias.detach().float()
    per_colour = weight.reshape(3, DOWNSCALE**2, -1).mean(dim=1).T  # (C, 3)
    return per_colour.tolist(), bias.reshape(3, -1).mean(dim=1).tolist()


def _clip(
    state: dict[str, Tensor],
    vocabulary: Vocabulary,
    embedding_directory: list[str] | None,
    disable_dynamic: bool,
) -> Any:
    state, width = dict(state), TEXT_CONFIG["hidden_size"]
    table = "text_model.embeddings.token_embedding.weight"
    state[table] = vocabulary.expand(state[table])
    state["text_projection.weight"] = torch.eye(width)
    target = comfy.supported_models_base.ClipTarget(
        comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel
    )
    return comfy.sd.CLIP(
        target,
        embedding_directory=embedding_directory,
        tokenizer_data={
            "clip_l_tokenizer_class": partial(MicroTokenizer, vocabulary=vocabulary),
        },
        parameters=sum(v.numel() for v in state.values()),
        state_dict={f"clip_l.transformer.{key}": value for key, value in state.items()},
        model_options={"clip_l_model_config": dict(TEXT_CONFIG), "dtype": torch.float32},
        disable_dynamic=disable_dynamic,
    )


def _vae(state: dict[str, Tensor]) -> Any:
    """The host's VAE object around our autoencoder.

    The host builds its VAE from the layouts that it knows; it is made with its smallest one, and
    everything that depends on the network is then set as its constructor sets it.
    """
    vae: Any = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)}, dtype=torch.float32)
    network = Autoencoder().to(torch.float32).eval().requires_grad_(False)
    network.load_state_dict(state)
    vae.first_stage_model = network
    vae.latent_channels = LATENT_CHANNELS
    vae.downscale_ratio = vae.upscale_ratio = DOWNSCALE
    vae.memory_used_encode = lambda shape, dtype: 200 * shape[2] * shape[3] * 4
    vae.memory_used_decode = lambda shape, dtype: 400 * 64 * shape[2] * shape[3] * 4
    vae.patcher = comfy.model_patcher.ModelPatcher(
        network, load_device=vae.device, offload_device=comfy.model_management.vae_offload_device()
    )
    vae.size = None
    vae.model_size()
    return vae
