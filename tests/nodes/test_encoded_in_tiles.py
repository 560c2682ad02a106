"""Photos that ComfyUI encodes in tiles, for want of memory: told, recorded, not kept; or rounds."""

from __future__ import annotations

import logging
import shutil

import pytest
import torch


@pytest.fixture
def short_of_memory(sd15, monkeypatch):
    """The VAE raises the host's error for the first so many photos, perhaps in tiles as well."""
    import comfy.model_management as management

    module = sd15.vae.first_stage_model
    plain, tiled = module.encode, type(sd15.vae).encode_tiled_

    def install(photos, in_tiles=False):
        left, tiles = [photos], []

        def encode(pixels, *args, **kwargs):
            real = pixels.device.type != "meta"  # the estimate asks, too
            if real and left[0] > 0 and (in_tiles or not tiles):
                left[0] -= not in_tiles
                raise management.OOM_EXCEPTION("simulated")
            return plain(pixels, *args, **kwargs)

        def encode_tiled(vae, pixels, *args, **kwargs):
            tiles.append(1)
            try:
                return tiled(vae, pixels, *args, **kwargs)
            finally:
                tiles.clear()

        monkeypatch.setattr(module, "encode", encode)
        monkeypatch.setattr(type(sd15.vae), "encode_tiled_", encode_tiled)

    return install


def kept(output):
    return {path.name for path in (output / "attndb" / "latents").glob("*.safetensors")}


def test_photos_in_tiles_are_told_once_recorded_and_not_kept(
    sd15, train, output, short_of_memory, caplog, monkeypatch
):
    from attndreambooth.nodes.host import workbench
    from attndreambooth.nodes.host.model.photo_encoder import IN_TILES

    shown = []
    monkeypatch.setattr(workbench, "show_text", shown.append)
    whole = train(2, sd15, latent_pool=1)[0]
    names = kept(output)
    assert len(names) == 3 and IN_TILES not in shown
    assert "encoded_in_tiles" not in whole.record["stages"][-1]

    shutil.rmtree(output)
    short_of_memory(2)
    caplog.set_level(logging.WARNING)
    concept = train(2, sd15, latent_pool=1)[0]
    ours = [record for record in caplog.records if record.getMessage().endswith(IN_TILES)]
    assert len(ours) == 1 and shown.count(IN_TILES) == 1
    assert concept.record["stages"][-1]["encoded_in_tiles"] == 2
    assert kept(output) < names and len(kept(output)) == 1

    shutil.rmtree(next((output / "attndb").glob("*stage2*")))
    again = train(2, sd15, latent_pool=1)[0]
    assert kept(output) == names and again.digest() == whole.digest()


@pytest.mark.usefixtures("nothing_kept_before")
def test_those_kept_on_the_way_say_it_too(run, sd15, train, short_of_memory):
    short_of_memory(1)
    asked = run("AttnDBTrainingOptions", checkpoint_concepts=1)[0]
    concept = train(2, sd15, steps=3, latent_pool=0, options=asked)[0]
    found = run("AttnDBLoadKeptConcepts", concept=concept)[0]
    assert len(found) == 3
    assert [c.record["stages"][-1].get("encoded_in_tiles") for c in found] == [1, 1, 1]


def test_a_finished_run_still_says_it(sd15, train, short_of_memory):
    short_of_memory(1)
    first = train(2, sd15, latent_pool=0)[0]
    again = train(2, sd15, latent_pool=0)[0]
    assert first.record["stages"][-1]["encoded_in_tiles"] == 1
    assert again.record == first.record


def test_the_vae_on_the_wire_stays_as_it_is(sd15, short_of_memory):
    from attndreambooth.nodes.host.model.photo_encoder import PhotoEncoder

    told = []
    encoder = PhotoEncoder(sd15.model, sd15.vae, lambda: told.append(1))
    pixels = torch.rand(2, 64, 64, 3)
    plain = encoder(pixels)
    assert (encoder.in_tiles, told) == (0, [])
    short_of_memory(1)
    before = dict(vars(sd15.vae))
    assert encoder(pixels).shape == plain.shape
    assert (encoder.in_tiles, told) == (2, [1])
    assert torch.equal(encoder(pixels), plain) and encoder.in_tiles == 2
    assert vars(sd15.vae) == before


@pytest.mark.parametrize("in_tiles", [False, True])
def test_latents_are_whole_also_where_the_host_rounds_what_a_vae_gives(
    sd15, short_of_memory, monkeypatch, in_tiles
):
    import comfy.model_management as management

    from attndreambooth.nodes.host.model.photo_encoder import PhotoEncoder

    def latents():
        if in_tiles:
            short_of_memory(1)
        return PhotoEncoder(sd15.model, sd15.vae)(pixels)

    pixels = torch.rand(2, 64, 64, 3)
    expected = latents()
    monkeypatch.setattr(management.args, "fp16_intermediates", True)
    assert sd15.vae.encode(pixels).dtype == torch.float16
    found = latents()
    assert found.dtype == torch.float32 and torch.equal(found, expected)


@pytest.mark.parametrize("pool", [1, 0])
def test_a_photo_that_does_not_fit_in_tiles_either_is_the_cause_that_is_named(
    sd15, train, short_of_memory, pool
):
    from attndreambooth.nodes.errors import NodeError

    short_of_memory(1, in_tiles=True)
    said = "out of memory while a photo was encoded.*lower the resolution"
    with pytest.raises(NodeError, match=said) as caught:
        train(2, sd15, latent_pool=pool)
    assert ("set latent_pool to -1" in str(caught.value)) == (pool == 0)


def test_a_library_without_memory_is_asked_again_and_the_pool_is_the_same(
    sd15, train, output, monkeypatch
):
    """cuDNN asks the driver, beside PyTorch's allocator and the host's tiles."""
    whole = train(2, sd15, latent_pool=1)[0]
    shutil.rmtree(output)
    module, given, calls = sd15.vae.first_stage_model, [], []
    plain = module.encode

    def encode(pixels, *args, **kwargs):
        if pixels.device.type != "meta":  # the estimate asks, too
            calls.append(1)
            if len(calls) > 1 and not given:
                raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return plain(pixels, *args, **kwargs)

    monkeypatch.setattr(module, "encode", encode)
    monkeypatch.setattr(torch.cpu, "empty_cache", lambda: given.append(1), raising=False)
    concept = train(2, sd15, latent_pool=1)[0]
    assert given == [1] and concept.digest() == whole.digest()
    assert "encoded_in_tiles" not in concept.record["stages"][-1] and len(kept(output)) == 3
