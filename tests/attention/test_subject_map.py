"""The map of a subject: which layers say it, how self-attention spreads it, where its edges are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from attndreambooth.attndb.attention.affinity import Affinity
from attndreambooth.attndb.attention.guided_filter import guided_filter
from attndreambooth.attndb.attention.prompt_words import Word
from attndreambooth.attndb.attention.recorder import AttentionRecord, MapKey, MapSum
from attndreambooth.attndb.attention.subject_map import subject_layers, subject_map
from attndreambooth.devkit.captured import NEGATIVE, TEXT
from attndreambooth.devkit.wires import Calls, Oracle


def slow_spread(values, layers):
    """The mean over all heads of softmax(q k / sqrt d) times the values, number by number."""
    found, count = [0.0] * len(values), sum(heads for _, _, heads in layers)
    for q, k, heads in layers:
        width = len(q[0]) // heads
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            for i, query in enumerate(q):
                logits = [
                    sum(a * b for a, b in zip(query[part], key[part], strict=True))
                    / math.sqrt(width)
                    for key in k
                ]
                weights = [math.exp(logit) for logit in logits]
                looked = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
                found[i] += looked / count
    return found


def test_a_map_is_spread_by_the_mean_self_attention_of_the_finest_layers():
    torch.manual_seed(0)
    coarse = torch.randn(1, 2, 4), torch.randn(1, 2, 4)
    fine = [(torch.randn(1, 6, 8), torch.randn(1, 6, 8), heads) for heads in (2, 4)]
    affinity, heat = Affinity(), torch.rand(2, 3)
    affinity.see(*coarse, 2, (1, 2))
    for q, k, heads in fine:
        affinity.see(q, k, heads, (2, 3))
        affinity.see(*coarse, 2, (1, 2))
    assert affinity.size == (2, 3)
    layers = [(q[0].tolist(), k[0].tolist(), heads) for q, k, heads in fine]
    once = slow_spread(heat.flatten().tolist(), layers)
    torch.testing.assert_close(affinity.spread(heat).flatten(), torch.tensor(once))
    twice = torch.tensor(slow_spread(once, layers)).reshape(2, 3)
    torch.testing.assert_close(affinity.spread(heat, 2), twice)


def test_without_self_attention_a_map_stays_and_two_pictures_have_no_affinity_of_their_own():
    heat = torch.rand(2, 3)
    assert Affinity().spread(heat, 2) is heat
    with pytest.raises(ValueError, match="of one picture, not of 2"):
        Affinity().see(torch.rand(2, 6, 8), torch.rand(2, 6, 8), 2, (2, 3))


def slow_guided_filter(heat, picture, radius, smooth):
    """A least squares problem for each window, a row for each pixel."""
    height, width = heat.shape
    fits = {}
    for y in range(height):
        for x in range(width):
            rows = slice(max(0, y - radius), y + radius + 1)
            columns = slice(max(0, x - radius), x + radius + 1)
            colours, values = picture[rows, columns].reshape(-1, 3), heat[rows, columns].reshape(-1)
            n = len(values)
            system = np.vstack(
                [
                    np.hstack([colours, np.ones((n, 1))]),
                    np.hstack([math.sqrt(n * smooth) * np.eye(3), np.zeros((3, 1))]),
                ]
            )
            fits[y, x] = np.linalg.lstsq(system, np.concatenate([values, np.zeros(3)]))[0]
    found = np.zeros_like(heat)
    for y in range(height):
        for x in range(width):
            near = [fit for (v, u), fit in fits.items() if max(abs(v - y), abs(u - x)) <= radius]
            found[y, x] = np.mean(near, axis=0) @ np.append(picture[y, x], 1.0)
    return found


@pytest.mark.parametrize(("radius", "smooth"), [(1, 1e-3), (3, 1e-2), (20, 1e-3)])
def test_the_guided_filter_is_the_mean_of_least_squares_fits(radius, smooth):
    torch.manual_seed(1)
    heat, picture = torch.rand(9, 12), torch.rand(9, 12, 3)
    wanted = slow_guided_filter(heat.double().numpy(), picture.double().numpy(), radius, smooth)
    found = guided_filter(heat, picture, radius, smooth)
    torch.testing.assert_close(found.double(), torch.from_numpy(wanted), rtol=1e-3, atol=1e-4)


def test_a_blurred_edge_goes_to_where_the_colours_change():
    picture = torch.full((16, 16, 3), 0.2)
    picture[:, 10:] = torch.tensor([0.9, 0.5, 0.1])
    ramp = torch.linspace(0, 1, 16).expand(16, 16)
    found = guided_filter(ramp, picture, 4, 1e-3)[8]
    steps = found.diff()
    assert int(steps.argmax()) == 9 and steps[9] > 2 * steps[[8, 10]].max()


def record(*layers):
    """Of one picture and one word: names, heights, widths; a map of random numbers each."""
    torch.manual_seed(2)
    sums = {
        MapKey(name, height, width): MapSum(
            torch.rand(1, 1, 1, 1, height * width), torch.ones(1), heads=2
        )
        for name, height, width in layers
    }
    return AttentionRecord((Word(label="cat", columns=(5,)),), 1, False, (16, 24), sums)


FINE, COARSE, DOWN = (
    ("output_blocks.4", 8, 12),
    ("output_blocks.1", 4, 6),
    ("input_blocks.3", 8, 12),
)


def test_the_up_paths_layers_of_eight_places_say_where_a_subject_is():
    middle = ("middle_block.1", 4, 6)
    assert subject_layers(record(DOWN, middle, COARSE, FINE)) == ("output_blocks.4",)
    assert subject_layers(record(DOWN, COARSE)) == ("output_blocks.1",)
    assert subject_layers(record(DOWN, middle)) == ("input_blocks.3", "middle_block.1")


def test_the_map_of_a_subject_is_of_these_layers_alone_and_needs_something_recorded():
    photo, affinity = torch.rand(32, 48, 3), Affinity()
    affinity.see(torch.randn(1, 96, 8), torch.randn(1, 96, 8), 2, (8, 12))
    found = subject_map(record(FINE), affinity, photo)
    assert found.shape == (32, 48) and found.isfinite().all()
    several = record(FINE, COARSE, DOWN)
    assert torch.equal(subject_map(several, affinity, photo), found)
    assert not torch.equal(subject_map(several, Affinity(), photo), found)
    with pytest.raises(ValueError, match="nothing was recorded"):
        subject_map(record(), affinity, photo)


def test_without_self_attention_the_filter_is_as_wide_as_a_place_of_the_finest_layer():
    """Of SD 3 and Flux, whose places are two latent pixels wide: here 4 pixels of the photo."""
    photo, found = torch.rand(32, 48, 3), record(FINE)
    [total] = [one.total for one in found.sums.values()]
    large = torch.nn.functional.interpolate(total.reshape(1, 1, 8, 12), (32, 48), mode="bicubic")
    wanted = guided_filter(large[0, 0], photo, 4, 1e-3)
    torch.testing.assert_close(subject_map(found, Affinity(), photo), wanted)


@pytest.mark.host
def test_self_attention_is_seen_in_the_prompts_rows_and_what_is_drawn_stays(sd15):
    """CFG: both prompts in one batch, in the host's own order."""
    from attndreambooth.attndb.attention.capture import Capture
    from attndreambooth.nodes.host.capture.capture import capture_model
    from attndreambooth.nodes.host.capture.prompt import prompt_words

    positive, negative = sd15.encode(TEXT), sd15.encode(NEGATIVE)
    plain = sd15.draw(sd15.model, positive, negative, steps=1)
    capture = Capture(prompt=TEXT, words=prompt_words(sd15.clip, TEXT).find("cats"), slices=1)
    affinity, heat = Affinity(), torch.rand(8, 12)
    calls = Calls()
    watched = calls.watch(capture_model(sd15.model, capture, positive, affinity))
    with Oracle(sd15.model, "attn1") as oracle:
        drawn = sd15.draw(watched, positive, negative, steps=1)
    assert torch.equal(drawn, plain) and affinity.size == (8, 12)
    finest = torch.stack([w for [w] in oracle.weights.values() if w.shape[1] == 96])
    assert len(finest) < len(oracle.weights)
    both = (finest.mean(dim=0) @ heat.flatten()).reshape(2, 8, 12)
    [order] = calls.order
    row = order.index(0)  # of the prompt
    assert (both[0] - both[1]).abs().max() > 1e-4
    torch.testing.assert_close(affinity.spread(heat), both[row], rtol=1e-5, atol=1e-6)
