"""The shipped micro model in the host's own classes, loaded once."""

import pytest


@pytest.fixture(scope="session")
def micro(host):
    """(MODEL, CLIP, VAE) of attndb-micro."""
    from attndreambooth.nodes.host.model.micro import load_micro

    return load_micro()
