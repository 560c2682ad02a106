"""Small models of the host, loaded once for the tests of attention."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from support.wires import Loaded, load


@pytest.fixture(scope="session")
def sd15(host) -> Loaded:
    """A small SD 1.5."""
    return load("sd15")


@pytest.fixture(scope="session")
def sd21(host) -> Loaded:
    """A small SD 2.1-base."""
    return load("sd21")


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    """As the host runs nodes."""
    with torch.inference_mode():
        yield
