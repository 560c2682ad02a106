"""Flux behind nodes that weigh or lengthen its text: attention masks, prompts behind others."""

from __future__ import annotations

import pytest
import torch

from attndreambooth.attndb.attention.capture import Capture
from attndreambooth.attndb.attention.prompt_words import Word
from attndreambooth.devkit.joint_models import joint_conditioning, small_joint_model
from attndreambooth.devkit.wires import Loaded

pytestmark = pytest.mark.host

TOKENS = 9
FIRST = "double_blocks.0"
"""The first layer: what its queries and keys are does not depend on the mask."""


def first_maps(conditioning):
    """Maps of tokens 2 and 7 in the first block, head by head, (2, H, P)."""
    from attndreambooth.nodes.host.capture.capture import capture_model

    model = small_joint_model("flux")
    words = [Word(label="cat", columns=(2,)), Word(label="hat", columns=(7,))]
    handle = Capture(prompt="a cat in a hat", words=words, slices=1, keep_heads=True)
    drawn = Loaded(model, None, None).draw(
        capture_model(model, handle, conditioning),
        conditioning,
        joint_conditioning(2, TOKENS),
        latent={"samples": torch.zeros(1, 16, 6, 10)},
        scheduler="simple",
        steps=1,
    )
    [found] = [s for key, s in handle.find(drawn)[0].sums.items() if key.layer == FIRST]
    return found.total[0, 0]


def test_a_weight_on_a_token_is_in_the_maps(host):
    """As Apply Style Model gives it (attn_bias): a factor f on one token's share a leaves it
    f a / (1 - a + f a), and b / (1 - a + f a) to another one."""
    [[text, extra]] = joint_conditioning(1, TOKENS)
    plain = first_maps([[text, extra]])
    factor = 0.25
    mask = torch.zeros(1, TOKENS + 1, TOKENS + 1)
    mask[:, TOKENS:, 2] = torch.log(torch.tensor(factor))
    masked = {**extra, "attention_mask": mask, "attention_mask_img_shape": (1, 1)}
    cat, hat = first_maps([[text, masked]])
    left = 1 - (1 - factor) * plain[0]
    torch.testing.assert_close(cat, factor * plain[0] / left, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(hat, plain[1] / left, rtol=1e-4, atol=1e-6)


def test_a_prompt_behind_another_of_any_length_is_found(host):
    """T5's text is as long as it has to be, not cut in chunks of 77."""
    from attndreambooth.nodes.host.capture.conditioning import place_in

    [[one, _]], [[two, _]] = joint_conditioning(1, 300), joint_conditioning(2, 256)
    assert place_in(torch.cat([one, two], dim=1), [two]) == 300
    assert place_in(torch.cat([two, one], dim=1), [two]) == 0
    assert place_in(one, [two]) is None and place_in(two[:, :100], [two]) is None


def test_text_that_another_node_puts_before_the_prompt_is_not_taken_for_it(host):
    """As the style reference of USO does, in the model's forward: every word stands later."""
    from attndreambooth.nodes.host.capture.capture import capture_model

    def before(args):
        more = torch.zeros_like(args["txt"][:, :4]), torch.zeros_like(args["txt_ids"][:, :4])
        for name, tokens in zip(("txt", "txt_ids"), more, strict=True):
            args[name] = torch.cat([tokens, args[name]], dim=1)
        return args

    model, positive = small_joint_model("flux").clone(), joint_conditioning(1, TOKENS)
    model.set_model_patch(before, "post_input")
    handle = Capture(prompt="a cat", words=[Word(label="cat", columns=(2,))], slices=1)
    latent = {"samples": torch.zeros(1, 16, 6, 10)}
    drawn = Loaded(model, None, None).draw(
        capture_model(model, handle, positive), positive, joint_conditioning(2, TOKENS),
        latent=latent, scheduler="simple",
    )  # fmt: skip
    record, note = handle.find(drawn)
    assert record.sums == {}
    assert "double_blocks.0 and 3 more: another node changes their text" in note
