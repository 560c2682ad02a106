"""The words of the second world, in the host's own tokenizer."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def words(host):
    """The caption encoder of attndb-micro 2."""
    import comfy.sd1_clip
    from transformers import CLIPTokenizer

    from attndreambooth.micro.micro2.text import CaptionEncoder

    folder = Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer"
    return CaptionEncoder(CLIPTokenizer.from_pretrained(folder))
