"""unet_call: a wrapper around a call of the U-Net that may change the options of that call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate

from torch import Tensor

Options = dict[str, Any]


def unet_call(
    options_of: Callable[[Any, Tensor, Tensor | None, Tensor | None, Options], Options],
) -> Callable[Concatenate[Any, Any, Tensor, ...], Tensor]:
    """A method for `WrappersMP.DIFFUSION_MODEL` from one that is given latents, timesteps, context
    and the transformer options of a call, and gives the options that the call is to have."""

    @functools.wraps(options_of)
    def wrapper(
        self: Any,
        executor: Any,
        x: Tensor,
        timesteps: Tensor | None = None,
        context: Tensor | None = None,
        y: Tensor | None = None,
        control: Any = None,
        transformer_options: Options | None = None,
        **kwargs: Any,
    ) -> Tensor:
        options = transformer_options if transformer_options is not None else {}
        options = options_of(self, x, timesteps, context, options)
        return executor(x, timesteps, context, y, control, options, **kwargs)

    return wrapper
