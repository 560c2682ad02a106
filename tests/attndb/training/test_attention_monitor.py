"""Maps during a training show what the regulariser sees, and change nothing."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from PIL import Image
from support.observer import Told

from attndreambooth.attndb.attention.layer_size import layer_size
from attndreambooth.attndb.attention.tap import CrossAttentionTap
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.regularization import Regularization
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.data.draws import step_generator
from attndreambooth.attndb.models.cross_attention import cross_attention_layers
from attndreambooth.attndb.training.attention_monitor import (
    AttentionMonitor,
    AttentionMonitorSettings,
)
from attndreambooth.devkit.tiny_model import RandomBatches, prompt_of, random_batch, tiny_model
from attndreambooth.devkit.training import context_of, denoised, start, train_stage

VECTORS = 0.3 * torch.randn(2, 32, generator=torch.Generator().manual_seed(5))
PROMPT = prompt_of(vectors=2)
LATENT = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(6))
PHOTO = Image.new("RGB", (96, 64), (90, 120, 60))
NAMES = ("<my-doll>", "doll")


def stage(number=3, steps=5):
    return StageConfig(
        stage=number,
        steps=steps,
        batch_size=2,
        optimizer=OptimizerConfig(learning_rate=1e-2),
        regularization=Regularization(mean_weight=20.0, variance_weight=20.0),
        precision="fp32",
    )


def watch(folder, *, every=2, steps=5, timesteps=(300, 600)) -> AttentionMonitor:
    settings = AttentionMonitorSettings(every=every, timesteps=timesteps)
    return AttentionMonitor(settings, PROMPT, NAMES, LATENT, PHOTO, steps, folder)


def train(observer=None, *, backend=None, number=3):
    source = RandomBatches(2, prompts=(PROMPT,))
    return train_stage(backend or tiny_model(), source, stage(number), VECTORS, observer)


def test_the_training_is_the_same_with_and_without_it(tmp_path):
    for number in (1, 3):
        plain, watched = train(number=number), train(watch(tmp_path / str(number)), number=number)
        assert torch.equal(plain.vectors, watched.vectors)
        assert plain.losses == watched.losses
        assert plain.delta.keys() == watched.delta.keys()
        assert all(torch.equal(plain.delta[name], watched.delta[name]) for name in plain.delta)


def test_it_looks_before_at_every_nth_and_after_the_last_step(tmp_path):
    observer, backend = watch(tmp_path), tiny_model()
    observer.begin(backend, start(VECTORS))
    train(observer, backend=backend)
    assert [look.step for look in observer.looks] == [0, 2, 4, 5]


def test_numbers_are_those_that_the_regularisers_tap_gives(tmp_path):
    backend = tiny_model()
    observer = watch(tmp_path)
    observer.begin(backend, start(VECTORS))
    noise = torch.randn(LATENT.shape, generator=step_generator("watch", 0)).expand(2, -1, -1, -1)
    t = torch.tensor([300, 600])
    z = backend.diffusion.add_noise(LATENT.expand(2, -1, -1, -1), noise, t)
    context = context_of(backend, PROMPT, VECTORS).expand(2, -1, -1)
    tap = CrossAttentionTap(cross_attention_layers(backend.unet))
    with torch.no_grad(), tap, tap.watching(torch.tensor([PROMPT.columns] * 2)) as found:
        denoised(backend, z, t, context)
        means = torch.stack([s.mean for s in found.values()]).mean(dim=(0, 1))
        variances = torch.stack([s.variance for s in found.values()]).mean(dim=(0, 1))
    [look] = observer.looks
    assert look.placeholder_mean == pytest.approx(float(means[:2].mean()), rel=1e-4)
    assert look.category_mean == pytest.approx(float(means[2]), rel=1e-4)
    assert look.placeholder_variance == pytest.approx(float(variances[:2].mean()), rel=1e-4)
    assert look.category_variance == pytest.approx(float(variances[2]), rel=1e-4)
    # The map's mean is the mean column, here of two vectors added up.
    maps = observer._maps[0]
    assert maps.shape == (2, 8, 12)
    assert float(maps[1].mean()) == pytest.approx(look.category_mean, rel=0.05)
    assert float(maps[0].mean()) == pytest.approx(2 * look.placeholder_mean, rel=0.05)


def test_a_look_that_does_not_fit_leaves_no_text_encoder_on_the_card(tmp_path, monkeypatch):
    observer, backend, left = watch(tmp_path), tiny_model(), []

    def too_large(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(backend, "denoise", too_large)
    monkeypatch.setattr(backend, "offload_text_encoder", lambda: left.append("text encoder"))
    observer.begin(backend, start(VECTORS))
    assert observer.looks == () and left == ["text encoder"]


def test_a_trained_model_is_seen_to_change(tmp_path):
    observer, backend = watch(tmp_path), tiny_model()
    observer.begin(backend, start(VECTORS))
    train(observer, backend=backend)
    first, last = observer.looks[0], observer.looks[-1]
    assert first.placeholder_mean != last.placeholder_mean
    assert not torch.equal(observer._maps[0], observer._maps[5])


def test_a_photo_of_another_shape_is_looked_at_where_the_regulariser_keeps_inside_masks(tmp_path):
    """Between steps the regulariser's tap rests: the masks of the last batch are not of the photo
    (nor of a preview), whose latent here is 8 x 12 and not 8 x 8."""
    inside = stage()
    inside = inside.with_(regularization=replace(inside.regularization, inside_mask=True))
    observer, subject = watch(tmp_path), torch.ones(2, 1, 8, 8)
    batches = [
        replace(random_batch(2, seed=step, prompts=(PROMPT,)), subject=subject)
        for step in range(inside.steps)
    ]
    train_stage(tiny_model(), batches, inside, VECTORS, observer)
    assert [look.step for look in observer.looks] == [2, 4, 5]


def test_no_hook_stays_behind(tmp_path):
    backend = tiny_model()
    watch(tmp_path).begin(backend, start(VECTORS))
    assert sum(len(module._forward_hooks) for module in backend.unet.modules()) == 0


def test_pictures_and_numbers_lie_in_the_folder_and_a_resumed_run_goes_on(tmp_path):
    observer, backend = watch(tmp_path), tiny_model()
    observer.begin(backend, start(VECTORS))
    train(observer, backend=backend)
    assert {path.name for path in tmp_path.iterdir()} == {
        "looks.jsonl", "maps.png", "curves.png", "maps-00000.safetensors",
        "maps-00002.safetensors", "maps-00004.safetensors", "maps-00005.safetensors",
    }  # fmt: skip
    again = watch(tmp_path)
    assert again.looks == observer.looks
    assert Image.open(tmp_path / "maps.png").size == again.maps_picture().size
    again.begin(
        backend, start(torch.zeros_like(VECTORS))
    )  # was done before: the model is not asked
    assert again.looks[0] == observer.looks[0]


def test_a_stopped_training_ends_with_the_files_of_one_that_was_not(tmp_path):
    """Stopped between two looks and told again of the last step, as a resumed training may be."""
    whole, backend = watch(tmp_path / "whole"), tiny_model()
    whole.begin(backend, start(VECTORS))
    train(whole, backend=backend)

    def stop(loss, training):
        stopped(loss, training)
        if loss.step == 2:
            raise KeyboardInterrupt

    stopped, backend = watch(tmp_path / "stopped"), tiny_model()
    stopped.begin(backend, start(VECTORS))
    with pytest.raises(KeyboardInterrupt):
        train(Told(stop), backend=backend)
    resumed, backend = watch(tmp_path / "stopped"), tiny_model()
    resumed.begin(backend, start(VECTORS))
    told = []

    def again(loss, training):
        resumed(loss, training)
        told.append(loss.step)
        resumed(loss, training)

    train(Told(again), backend=backend)
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "stopped").iterdir())
    for name in names:
        ours = (tmp_path / "stopped" / name).read_bytes()
        assert ours == (tmp_path / "whole" / name).read_bytes(), name


def test_one_look_that_is_damaged_costs_itself_only(tmp_path, caplog):
    observer, backend = watch(tmp_path), tiny_model()
    observer.begin(backend, start(VECTORS))
    train(observer, backend=backend)
    (tmp_path / "maps-00002.safetensors").write_bytes(b"rot")
    assert [look.step for look in watch(tmp_path).looks] == [0, 4, 5]
    assert caplog.text.count("an earlier look cannot be read") == 1


def test_a_broken_or_unwritable_folder_is_a_warning(tmp_path, caplog):
    (tmp_path / "looks.jsonl").write_text("{broken")
    with caplog.at_level(logging.WARNING):
        observer = watch(tmp_path)
    assert "an earlier look cannot be read" in caplog.text and observer.looks == ()
    (tmp_path / "file").write_text("x")
    blocked = watch(tmp_path / "file" / "below")
    blocked.begin(tiny_model(), start(VECTORS))
    assert "attention maps of step 0 were not saved" in caplog.text
    assert len(blocked.looks) == 1


def test_sizes_of_layers_are_found_by_halving():
    assert layer_size((8, 12), 96) == (8, 12)
    assert layer_size((9, 13), 3 * 4) == (3, 4)
    with pytest.raises(ValueError, match="a layer of 50 pixels"):
        layer_size((8, 12), 50)


def test_bad_settings_name_the_field():
    with pytest.raises(ValueError, match="every = 0"):
        AttentionMonitorSettings(every=0)
    with pytest.raises(ValueError, match=r"timesteps = \(1000,\)"):
        AttentionMonitorSettings(timesteps=(1000,))


def test_a_look_that_does_not_fit_in_memory_is_left_out_and_the_training_goes_on(tmp_path, caplog):
    backend = tiny_model()
    plain = backend.denoise

    def small(z_t, t, context):
        if not torch.is_grad_enabled() and failing:
            raise torch.OutOfMemoryError("simulated")
        return plain(z_t, t, context)

    backend.denoise, failing = small, [True]
    observer = watch(tmp_path)
    observer.begin(backend, start(VECTORS))
    with caplog.at_level(logging.WARNING):
        result = train(
            Told(
                lambda loss, training: (
                    (failing.clear() if loss.step == 4 else None) or observer(loss, training)
                )
            ),
            backend=backend,
        )
    assert result.losses == train().losses
    assert [look.step for look in observer.looks] == [5]
    assert "step 2: not enough memory to look" in caplog.text
