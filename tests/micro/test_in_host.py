"""What was trained is what the host draws with: U-Net, text and autoencoder of attndb-micro."""

import pytest
import torch

from attndreambooth.demo.train_micro import exported, trained_parts
from attndreambooth.micro.autoencoder import Autoencoder
from attndreambooth.micro.train_diffusion import DiffusionConfig, DiffusionTrainer
from attndreambooth.micro.weight_files import WeightsError

CAPTION = "a photo of a red robot next to a small blue boat in the snow at sunset"


@pytest.fixture(scope="module")
def trained(words):
    """A trainer with random weights everywhere, an autoencoder, and the host's wires of both."""
    import comfy.ldm.modules.attention as attention

    before = attention.optimized_attention
    trainer = DiffusionTrainer(DiffusionConfig(), words)
    attention.optimized_attention = before
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p, average in zip(trainer.parameters, trainer.average, strict=True):
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=generator) / p[0].numel() ** 0.5)
            p.copy_(p.half().float())
            average.copy_(p)
    coder = Autoencoder().eval()
    coder.load_state_dict(
        {k: v.half().float() if v.is_floating_point() else v for k, v in coder.state_dict().items()}
    )
    from attndreambooth.nodes.host.model.micro import from_tensors

    vocabulary = " ".join(map(str, words.vocabulary.tokens))
    tensors = exported(trainer, coder)
    return trainer, coder, from_tensors(tensors, {"version": "2", "vocabulary": vocabulary})


def test_a_shipped_file_is_what_a_training_can_begin_at(trained, words, monkeypatch):
    import comfy.ldm.modules.attention as attention

    monkeypatch.setattr(attention, "optimized_attention", attention.optimized_attention)
    trainer, coder, _ = trained
    tensors = exported(trainer, coder)
    other = DiffusionTrainer(DiffusionConfig(seed=1), words)
    other.start_from(trained_parts(tensors))
    for mine, average, value in zip(
        other.parameters, other.average, trainer.averaged().values(), strict=True
    ):
        assert torch.equal(mine, value) and torch.equal(average, value)
    with pytest.raises(KeyError):
        other.start_from({})


def test_the_hosts_text_encoder_gives_the_trained_context(trained):
    trainer, _, (_, clip, _) = trained
    with torch.no_grad():
        ours = trainer.text(trainer.captions([CAPTION]))
        theirs = clip.encode_from_tokens(clip.tokenize(CAPTION))
    assert theirs.shape == (1, 77, 192)
    assert torch.allclose(ours, theirs.float(), atol=77 * torch.finfo(torch.float32).eps * 100)


def test_the_hosts_unet_gives_the_trained_prediction(trained):
    trainer, _, (model, _, _) = trained
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(2, 32, 16, 16, generator=generator)
    t, context = torch.tensor([10, 800]), torch.randn(2, 77, 192, generator=generator)
    with torch.no_grad():
        ours = trainer.unet(z, t, context=context)
        theirs = model.model.diffusion_model(z, t, context=context)
    assert ours.abs().mean() > 0.01
    assert (ours - theirs).abs().max() < 1e-4 * ours.abs().max()


def test_the_host_reads_the_prediction_as_a_velocity(trained):
    """Its denoised latent at sigma: sqrt(abar) z_t - sqrt(1 - abar) v, z_t as in training."""
    trainer, _, (model, _, _) = trained
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(1, 32, 16, 16, generator=generator)
    context = torch.randn(1, 77, 192, generator=generator)
    for t in (20, 500, 950):
        a = trainer.abar[t]
        sigma = ((1 - a) / a).sqrt().view(1)
        with torch.no_grad():
            velocity = trainer.unet(z, torch.tensor([t]), context=context)
            denoised = model.model.apply_model(z / a.sqrt(), sigma, c_crossattn=context)
        ours = a.sqrt() * z - (1 - a).sqrt() * velocity
        assert (ours - denoised).abs().max() < 1e-3 * ours.abs().max()


def test_the_hosts_vae_decodes_and_encodes_pictures_of_128_px(trained):
    _, coder, (model, _, vae) = trained
    z = torch.randn(1, 32, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        ours = (coder.decode(z).clamp(-1, 1) + 1) / 2
    theirs = vae.decode(z)
    assert theirs.shape == (1, 128, 128, 3)
    assert torch.allclose(ours.permute(0, 2, 3, 1), theirs.clamp(0, 1), atol=1e-5)
    assert vae.encode(theirs).shape == (1, 32, 16, 16)
    assert model.model.latent_format.latent_channels == 32
    assert len(model.model.latent_format.latent_rgb_factors) == 32


def test_the_hosts_sampler_draws(trained):
    from attndreambooth.micro.sampling import conditions

    _, _, (model, clip, vae) = trained
    import comfy.sample

    empty = torch.zeros(1, 32, 16, 16)
    with torch.inference_mode():
        [positive], [negative] = conditions(clip, [CAPTION]), conditions(clip, [""])
        latents = comfy.sample.sample(
            model,
            comfy.sample.prepare_noise(empty, 0, None),
            *(2, 3.0, "dpmpp_2m", "normal"),
            positive,
            negative,
            empty,
            disable_pbar=True,
            seed=0,
        )
        assert vae.decode(latents).shape == (1, 128, 128, 3)


def test_a_version_of_tomorrow_is_refused_by_number():
    from attndreambooth.nodes.host.model.micro import from_tensors

    with pytest.raises(WeightsError, match=r"is of version 3.*Update the pack"):
        from_tensors({}, {"version": "3", "vocabulary": ""})
