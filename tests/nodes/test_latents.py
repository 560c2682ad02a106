"""Photos are encoded once for all trainings, and the folder of their latents may go at any time."""

from __future__ import annotations

import copy
import dataclasses
import logging
import shutil
import threading

import pytest
import torch
from support.stages import dataset

POOL = {"latent_pool": 1}


@pytest.fixture
def encoded(sd15, monkeypatch):
    """Pictures in each call of the VAE."""
    calls, plain = [], sd15.vae.encode

    def encode(pixels):
        calls.append(len(pixels))
        return plain(pixels)

    monkeypatch.setattr(sd15.vae, "encode", encode)
    return calls


def latents(output):
    return sorted((output / "attndb" / "latents").glob("*.safetensors"))


def test_the_next_stage_and_the_next_training_encode_nothing(
    sd15, train, chain, output, encoded, caplog
):
    caplog.set_level(logging.INFO)
    train(2, sd15, chain[0], **POOL)
    assert encoded == [1, 1, 1] and len(latents(output)) == 3
    assert caplog.text.count("encoding 3 photo crops") == 1
    third = train(3, sd15, chain[1], **POOL)[0]
    assert len(encoded) == 3 and "3 of 3 pictures were encoded before" in caplog.text
    shutil.rmtree(output)
    again = train(3, sd15, chain[1], **POOL)[0]
    assert len(encoded) == 6 and again.digest() == third.digest()
    train(3, sd15, chain[1], seed=8, **POOL)
    assert len(encoded) == 9, "another seed draws other crops"


def test_another_vae_and_another_dtype_of_it_are_noticed(sd15, output):
    from attndreambooth.nodes.host.ui.plan import NodePlan, StagePlan
    from attndreambooth.nodes.host.workbench import HostWorkbench

    def cache_of(vae):
        bench = HostWorkbench(sd15.model, sd15.clip, vae, NodePlan([StagePlan("x", 1)]))
        return bench.pool(64).cache

    key, crops = {"photo": "a"}, [(torch.ones(4, 8, 8), torch.ones(1, 8, 8))]
    cache_of(sd15.vae).write(key, crops)
    assert len(cache_of(copy.copy(sd15.vae)).read(key, 1)) == 1
    half, patched = copy.copy(sd15.vae), copy.copy(sd15.vae)
    half.vae_dtype = torch.float16  # as --fp16-vae makes it; the weights are the same
    patched.patcher = sd15.vae.patcher.clone()
    name, weight = next(iter(sd15.vae.first_stage_model.state_dict().items()))
    assert patched.patcher.add_patches({name: ("diff", (torch.ones_like(weight),))}, 1.0) == [name]
    assert cache_of(half).read(key, 1) == cache_of(patched).read(key, 1) == []


def test_the_owner_can_have_nothing_kept(sd15, train, chain, output, encoded, monkeypatch):
    monkeypatch.setenv("ATTNDB_LATENTS_GB", "0")
    train(2, sd15, chain[0], **POOL)
    assert encoded == [1, 1, 1] and not latents(output)


def test_private_photos_are_not_kept_and_train_to_the_same(
    sd15, train, run, chain, output, encoded
):
    private = dataclasses.replace(dataset(run), private=True)
    concept = train(2, sd15, chain[0], dataset=private, **POOL)[0]
    assert encoded == [1, 1, 1] and not latents(output)
    shutil.rmtree(output)
    assert train(2, sd15, chain[0], **POOL)[0].digest() == concept.digest()
    assert latents(output)


def test_without_a_pool_nothing_is_kept_and_every_sample_is_encoded(
    sd15, train, chain, output, encoded
):
    train(2, sd15, chain[0], latent_pool=0)
    assert encoded == [1, 1, 1, 1] and not latents(output)


def test_cancel_while_the_pool_is_filled_stops_it_and_keeps_what_is_done(
    sd15, train, chain, output, encoded, monkeypatch
):
    import comfy.model_management as management

    check = management.throw_exception_if_processing_interrupted

    def cancelled():
        if len(encoded) == 2:
            raise management.InterruptProcessingException
        check()

    with monkeypatch.context() as patched:
        patched.setattr(management, "throw_exception_if_processing_interrupted", cancelled)
        with pytest.raises(management.InterruptProcessingException):
            train(2, sd15, chain[0], **POOL)
    kept = len(latents(output))
    assert kept in (1, 2), "hosts differ in whether the VAE itself hears of Cancel"
    train(2, sd15, chain[0], **POOL)
    assert len(encoded) == 2 + 3 - kept


@pytest.mark.parametrize("pool", [1, 0])  # while the pool is filled, and between the steps
def test_an_error_of_a_rendering_thread_is_the_nodes_own(sd15, train, chain, monkeypatch, pool):
    from attndreambooth.attndb.data.latent_source import LatentSource

    plain = LatentSource.render

    def render(self, photo, crop):
        if threading.current_thread() is not threading.main_thread():
            raise ValueError(f"{photo.name}: cannot be cut")
        return plain(self, photo, crop)

    monkeypatch.setattr(LatentSource, "render", render)
    with pytest.raises(RuntimeError, match=r"^Stage 2: Train Cross-Attention: .*cannot be cut"):
        train(2, sd15, chain[0], latent_pool=pool)
    assert not [t for t in threading.enumerate() if t.name.startswith("attndb-render")]


def test_the_estimate_counts_the_vae_where_it_stays(sd15, train, chain, monkeypatch):
    from attndreambooth.nodes.host import workbench

    given, plain = [], workbench.fit_to_memory

    def fit_to_memory(title, model, vae, *rest):
        given.append(vae)
        return plain(title, model, vae, *rest)

    monkeypatch.setattr(workbench, "fit_to_memory", fit_to_memory)
    train(2, sd15, chain[0], **POOL)
    train(2, sd15, chain[0], latent_pool=200)  # of which it encodes what it draws
    train(2, sd15, chain[0], latent_pool=0)
    train(2, sd15, chain[0], augmentation="none")
    assert given == [None, None, sd15.vae, None]


def test_the_bar_follows_batches_and_begins_anew_for_prior_images(host, monkeypatch, caplog):
    import comfy.utils

    from attndreambooth.nodes.host.ui.progress import EncodingProgress

    bars = []

    class Bar:
        def __init__(self, total):
            self.moves = [total]
            bars.append(self.moves)

        def update_absolute(self, done, total):
            self.moves.append(done)

    monkeypatch.setattr(comfy.utils, "ProgressBar", Bar)
    caplog.set_level(logging.INFO)
    progress = EncodingProgress("Stage 2")
    for done, total in ((8, 20), (16, 20), (20, 20), (1, 2), (2, 2), (1, 1)):
        progress(done, total)
    assert bars == [[20, 8, 16, 20], [2, 1, 2], [1, 1]]
    assert caplog.text.count("photo crops") == 3


def test_how_many_are_encoded_at_once_is_the_machines(sd15, monkeypatch):
    import comfy.model_management as management

    from attndreambooth.nodes.host.model.encoding import crops_at_once

    cpu, card = torch.device("cpu"), torch.device("cuda")
    assert [crops_at_once(sd15.vae, side, cpu) for side in (64, 128, 256, 512)] == [8, 4, 1, 1]
    each = sd15.vae.memory_used_encode((1, 3, 512, 512), sd15.vae.vae_dtype)
    for total, count in ((1, 1), (8 * each, 2), (25 * each, 6), (500 * each, 8)):
        monkeypatch.setattr(management, "get_total_memory", lambda device, size=total: size)
        assert crops_at_once(sd15.vae, 512, card) == count


def test_a_vae_that_gives_no_numbers_is_named_and_nothing_is_kept(sd15, train, output, monkeypatch):
    """SDXL's own in fp16: the loss would be NaN, in every training from then on."""
    from attndreambooth.nodes.errors import NodeError

    nothing = torch.full((1, 4, 8, 8), float("nan"))
    monkeypatch.setattr(sd15.vae, "encode", lambda pixels: nothing.expand(len(pixels), -1, -1, -1))
    monkeypatch.setattr(sd15.vae, "vae_dtype", torch.float16)
    with pytest.raises(NodeError, match=r"VAE gives NaN .* in float16.*without --fp16-vae"):
        train(2, sd15, **POOL)
    assert latents(output) == []
