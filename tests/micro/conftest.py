"""The words of the second world, in the host's own tokenizer."""

import pytest


@pytest.fixture(scope="session")
def words(host):
    """The caption encoder of attndb-micro 2."""
    from attndreambooth.micro.micro2.text import host_captions

    return host_captions()
