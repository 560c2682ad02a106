"""Pictures from the weights of this moment, sampled by the host's own sampler during a training."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch
from PIL import Image
from torch import Tensor, nn

from ....attndb.artifacts.lineage import Lineage
from ....attndb.artifacts.tensor_file import png_writer, write_whole
from ....attndb.config.drawing import check_every, previewed
from ....attndb.models.conditioning import Embeddings
from ....attndb.models.precision import autocast
from ....attndb.training.out_of_memory import is_out_of_memory
from ....attndb.training.training import Training
from ..model.added_parts import with_added
from ..model.encoded_texts import EncodedTexts
from ..model.mapped_text import with_mapped_word
from ..model.placeholders import with_vectors
from ..model.room import make_room
from ..model.sampling import SamplerSettings, sampled
from .images import from_image, side_by_side

log = logging.getLogger(__name__)

_KEY = "attndb preview"
"""Of the word in training, where a concept has its lineage's."""


@dataclass(frozen=True, kw_only=True)
class PreviewSettings(SamplerSettings):
    """What to draw during a training, and when: the same noise for every picture, so that they can
    be compared."""

    prompt: str
    """A picture for each line (attndb/config/lines.py); `{}` becomes `<placeholder> category`, as
    it is trained."""
    every: int
    """Steps between pictures; one more is drawn after the last step."""
    attention_maps: bool = False
    """Also look where placeholder and category look on a training photo, at the same steps."""
    negative: str = ""
    """The negative prompt of all pictures; `{}` as in the prompt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        previewed(self.prompt)
        check_every(self.every)

    @property
    def prompts(self) -> tuple[str, ...]:
        """What is drawn side by side."""
        return previewed(self.prompt)

    def due(self, done: int, total: int) -> bool:
        """Whether a picture is drawn after `done` of `total` steps."""
        return done == total or done % self.every == 0


class ResidentPatcher(comfy.model_patcher.ModelPatcher):
    """A patcher of a module that is in use by the training: it is sampled where it is, and the host
    neither moves nor casts nor patches it."""

    def load(self, device_to: Any = None, *_: Any, **__: Any) -> None:
        self.model.model_loaded_weight_memory = self.model_size()
        self.model.device = device_to

    def unpatch_model(self, *_: Any, **__: Any) -> None:
        self.model.model_loaded_weight_memory = 0

    def partially_unload(self, *_: Any, **__: Any) -> int:
        return 0


class PreviewSampler:
    """Draws the settings' prompts with the private U-Net and the vectors of a moment."""

    def __init__(
        self,
        settings: PreviewSettings,
        model: Any,
        clip: Any,
        vae: Any,
        unet: nn.Module,
        words: tuple[str, ...],
        reference: Mapping[str, Any] | None = None,
    ) -> None:
        """`words`: placeholder and category, or the placeholder alone. `reference`: LATENT of the
        photo that a method looks at while it draws."""
        self.settings = settings
        self._clip, self._vae, self._reference = clip, vae, reference
        self._placeholder = words[0]
        said = " ".join(words)
        self._prompts = [line.replace("{}", said) for line in settings.prompts]
        self._negative = settings.negative.replace("{}", said)
        self._patcher = _around(model, unet)
        self._encoded = EncodedTexts()

    def draw(
        self, embeddings: Embeddings, modules: Mapping[str, Tensor] | None = None
    ) -> Image.Image:
        """A picture of each prompt, side by side, with what a method adds to the model. The user's
        interrupt stops it within a sampler step. Of CLIP and VAE nothing stays on the device: the
        training fits without them, and an update inside the backward pass cannot give way."""
        try:
            return self._drawn(embeddings, modules)
        finally:
            make_room(self._patcher.load_device)

    def _drawn(self, embeddings: Embeddings, modules: Mapping[str, Tensor] | None) -> Image.Image:
        """Each prompt is sampled alone: in a batch a kernel may round otherwise, and a picture is
        the one that the graph would make, whatever is drawn beside it."""
        settings = self.settings
        with torch.inference_mode(), _not_training():
            # a copy: the training goes on with its own, in the same memory
            vectors = {n: v.detach().float().cpu().clone() for n, v in embeddings.items()}
            clip, patcher = self._clip, self._patcher
            if modules:
                [own] = vectors.values()
                mark = Lineage(self._placeholder, _KEY, self._placeholder)
                clip = with_mapped_word(clip, own, _KEY)
                patcher = with_added(patcher, mark, own, modules, 1.0, self._reference)
            clip = with_vectors(clip, self._placeholder, vectors)
            texts = (self._negative, *self._prompts)
            negative, *prompts = (self._encoded.of(clip, text) for text in texts)
            latents = [sampled(patcher, prompt, negative, settings) for prompt in prompts]
            return side_by_side([from_image(self._vae.decode(latent)) for latent in latents])


class PreviewPictures:
    """Draws when it is due and keeps the pictures in the run's folder."""

    def __init__(self, sampler: PreviewSampler, folder: Path, total: int) -> None:
        self._sampler, self._folder, self._total = sampler, folder, total
        self.latest: Image.Image | None = None

    @property
    def several(self) -> bool:
        """Whether there is more than one picture in a row."""
        return len(self._sampler.settings.prompts) > 1

    def due(self, done: int) -> bool:
        """Whether a picture is drawn after `done` steps."""
        return self._sampler.settings.due(done, self._total)

    def after_step(self, done: int, training: Training) -> bool:
        """Draws what `done` steps would give as the result if it is due; whether it did."""
        if not self.due(done):
            return False
        try:
            with training.as_result():
                picture = self._sampler.draw(training.embeddings, training.learner.added())
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            log.warning(
                "step %d: not enough memory for a preview of this size; the training goes on. "
                "Lower width and height in Training Preview, or disconnect it",
                done,
            )
            return False
        self.latest = picture
        path = self._folder / f"step-{done:05d}.png"
        try:
            write_whole({path: png_writer(picture)})
        except OSError as error:
            log.warning("the preview of step %d was not saved: %s", done, error)
        return True


def _around(model: Any, unet: Any) -> ResidentPatcher:
    """A patcher of the host's model with another U-Net in it; nothing is shared that changes."""
    base = copy.copy(model.model)
    base._modules = {**model.model._modules, "diffusion_model": unet}
    base.manual_cast_dtype = None
    unet.dtype = torch.float32
    device = comfy.model_management.get_torch_device()
    patcher = ResidentPatcher(base, load_device=device, offload_device=device)
    patcher.object_patches = {
        name: value
        for name, value in model.object_patches.items()
        if not name.startswith("diffusion_model.")
    }

    def predict(apply_model: Any, params: Any) -> Tensor:
        bf16 = any(parameter.dtype == torch.bfloat16 for parameter in unet.parameters())
        with autocast(device, bf16):
            return apply_model(params["input"], params["timestep"], **params["c"])

    patcher.set_model_unet_function_wrapper(predict)
    return patcher


@contextmanager
def _not_training() -> Iterator[None]:
    management = comfy.model_management
    before = getattr(management, "in_training", None)
    try:
        if before is not None:
            management.in_training = False
        yield
    finally:
        if before is not None:
            management.in_training = before
