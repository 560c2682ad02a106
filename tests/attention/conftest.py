"""Small models of the host, loaded once for the tests of attention."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from attndreambooth.devkit.wires import Loaded, small_sd15


@pytest.fixture(scope="session")
def sd15(host) -> Loaded:
    """SD 1.5 with a narrow U-Net."""
    return small_sd15()


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    """As the host runs nodes."""
    with torch.inference_mode():
        yield
