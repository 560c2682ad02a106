"""The world's words in the host's own tokenizer, and the shipped model, loaded once."""

import pytest


@pytest.fixture(scope="session")
def words(host):
    """The caption encoder of attndb-micro."""
    from attndreambooth.micro.text import host_captions

    return host_captions()


@pytest.fixture(scope="session")
def micro(host):
    """(MODEL, CLIP, VAE) of attndb-micro."""
    from attndreambooth.nodes.host.model.micro import load_micro

    return load_micro()
