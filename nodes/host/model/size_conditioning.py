"""What SDXL's U-Net is told of a picture besides its text: the host's own layout, for a batch.

Shapes: B batch, C latent channels, Y X latent pixels, D pooled width, E what the U-Net takes.
"""

from __future__ import annotations

import torch
from comfy.ldm.modules.diffusionmodules.util import timestep_embedding
from torch import Tensor

from ....attndb.models.conditioning import Conditioning

SIZE_WIDTH = 256
"""Of the embedding of each size (SDXL, section 2.2)."""
_LATENT_PIXEL = 8


def pooled_with_sizes(conditioning: Conditioning, latents: Tensor) -> Tensor:
    """Pooled text and embedded sizes (B, E). Without sizes they are those of the latents, uncropped
    (B, C, Y, X), as the host's sampler says them where a prompt has none."""
    pooled_BD, sizes_B6 = conditioning.pooled, conditioning.sizes
    assert pooled_BD is not None, "the text encoders of this model give pooled text"
    if sizes_B6 is None:
        height, width = (_LATENT_PIXEL * side for side in latents.shape[-2:])
        whole = (height, width, 0, 0, height, width)
        sizes_B6 = torch.tensor([whole], dtype=torch.float32, device=pooled_BD.device)
        sizes_B6 = sizes_B6.expand(len(pooled_BD), -1)
    embedded = timestep_embedding(sizes_B6.flatten(), SIZE_WIDTH)
    return torch.cat([pooled_BD, embedded.reshape(len(pooled_BD), -1)], dim=-1)
