"""What people chain with a concept acts on it and beside it: every chain runs with and without the
concept, and with and without its other node. docs/chaining.md has the table."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.stages import Wires

from attndreambooth.devkit.pack import ROOT
from attndreambooth.devkit.wires import control_net

pytestmark = pytest.mark.host

SIDE = 16
"""Of the latents: two levels of attention fit in."""


@dataclass(frozen=True)
class Drawing:
    """Everything that a sampler is given."""

    wires: Wires
    model: Any
    clip: Any
    latent: dict[str, Any]
    positive: Any
    negative: Any
    denoise: float = 1.0

    def sample(self) -> torch.Tensor:
        """Latents by the stock KSampler, three steps of a fixed seed."""
        import nodes

        drawn = nodes.KSampler().sample(
            *(self.model, 5, 3, 7.5, "dpmpp_2m", "karras"),
            *(self.positive, self.negative, self.latent, self.denoise),
        )
        return drawn[0]["samples"]

    def encode(self, text: str) -> Any:
        import nodes

        return nodes.CLIPTextEncode().encode(self.clip, text)[0]


Chain = Callable[[Drawing], Drawing]


def result(node: Any, *given: Any, **named: Any) -> Any:
    """The first output of a stock node of the newer kind."""
    answer = node.execute(*given, **named)
    return getattr(answer, "args", answer)[0]  # HyperTile gives a plain tuple


def control(drawing: Drawing) -> Drawing:
    import nodes

    hint = torch.rand(1, 8 * SIDE, 8 * SIDE, 3, generator=torch.Generator().manual_seed(1))
    steered = nodes.ControlNetApplyAdvanced().apply_controlnet(
        drawing.positive, drawing.negative, control_net(drawing.wires), hint, 1.0, 0.0, 1.0
    )
    return replace(drawing, positive=steered[0], negative=steered[1])


def attn2_replacement(drawing: Drawing) -> Drawing:
    """As IP-Adapter does it: text attention, and attention to something of its own."""
    from comfy.ldm.modules.attention import optimized_attention

    def attend(q, k, v, extra_options):
        heads = extra_options["n_heads"]
        own = k[:, :4] * 2
        return optimized_attention(q, k, v, heads) + 0.5 * optimized_attention(q, own, own, heads)

    model = drawing.model.clone()
    for block in (("input", 1), ("middle", 0), ("output", 1)):
        model.set_model_attn2_replace(attend, *block)
    return replace(drawing, model=model)


def regions(drawing: Drawing) -> Drawing:
    import nodes

    half = 8 * SIDE // 2
    one = nodes.ConditioningSetArea().append(drawing.positive, half, 2 * half, 0, 0, 1.0)[0]
    other = drawing.encode("a dog on the beach")
    other = nodes.ConditioningSetArea().append(other, half, 2 * half, half, 0, 1.0)[0]
    return replace(drawing, positive=nodes.ConditioningCombine().combine(one, other)[0])


def hyper_tile(drawing: Drawing) -> Drawing:
    from comfy_extras.nodes_hypertile import HyperTile

    return replace(drawing, model=result(HyperTile, drawing.model, 32, 1, 1, False))


def free_u(drawing: Drawing) -> Drawing:
    from comfy_extras.nodes_freelunch import FreeU_V2

    return replace(drawing, model=result(FreeU_V2, drawing.model, 1.3, 1.4, 0.9, 0.2))


def perturbed_attention(drawing: Drawing) -> Drawing:
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    return replace(drawing, model=result(PerturbedAttentionGuidance, drawing.model, 3.0))


def second_pass(drawing: Drawing) -> Drawing:
    import nodes

    larger = nodes.LatentUpscaleBy().upscale({"samples": drawing.sample()}, "bilinear", 1.5)[0]
    return replace(drawing, latent=larger, denoise=0.6)


def inpainting(drawing: Drawing) -> Drawing:
    import nodes

    mask = torch.zeros(1, 8 * SIDE, 8 * SIDE)
    mask[:, :, : 4 * SIDE] = 1
    noise = torch.randn(drawing.latent["samples"].shape, generator=torch.Generator().manual_seed(2))
    latent = nodes.SetLatentNoiseMask().set_mask({"samples": noise}, mask)[0]
    return replace(drawing, latent=latent)


def compiled(drawing: Drawing) -> Drawing:
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    return replace(drawing, model=result(TorchCompileModel, drawing.model, "eager"))


def compiled_by_inductor(drawing: Drawing) -> Drawing:
    """One block of it, as that node compiles the whole: which takes Inductor a minute."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model = drawing.model.clone()
    block = "diffusion_model.middle_block.1.transformer_blocks.0"
    set_torch_compile_wrapper(model, backend="inductor", keys=[block])
    return replace(drawing, model=model)


def merged(drawing: Drawing) -> Drawing:
    from comfy_extras.nodes_model_merging import ModelMergeSimple

    other = drawing.wires.model.clone()
    key = "diffusion_model.out.2.weight"
    other.add_patches({key: ("diff", (torch.full_like(other.model.state_dict()[key], 0.05),))})
    return replace(drawing, model=ModelMergeSimple().merge(drawing.model, other, 0.5)[0])


def stock_lora(drawing: Drawing) -> Drawing:
    import nodes

    model, clip = nodes.LoraLoader().load_lora(
        drawing.model, drawing.clip, "chained.safetensors", 1.0, 0.0
    )
    return replace(drawing, model=model, clip=clip)


def lora_hooks(drawing: Drawing) -> Drawing:
    """A LoRA for the positive prompt alone."""
    from comfy_extras.nodes_hooks import ConditioningSetProperties, CreateHookLora

    hooks = CreateHookLora().create_hook("chained.safetensors", 1.0, 0.0)[0]
    hooked = ConditioningSetProperties().set_properties(
        drawing.positive, strength=1.0, set_cond_area="default", hooks=hooks
    )
    return replace(drawing, positive=hooked[0])


CHAINS: dict[str, Chain] = {
    "ControlNet": control,
    "IP-Adapter-style attn2 replacement": attn2_replacement,
    "stock LoRA behind": stock_lora,
    "LoRA hooks": lora_hooks,
    "regional prompts": regions,
    "HyperTile": hyper_tile,
    "FreeU": free_u,
    "PAG": perturbed_attention,
    "second pass": second_pass,
    "inpainting": inpainting,
    "ModelMerge": merged,
}
SAME = {"torch.compile": compiled}
"""What must not change the picture."""
SD15_ONLY = {"FreeU"}
"""FreeU knows levels by their channels; the embedded model's have all the same."""


@pytest.fixture(scope="module")
def micro(home, run):
    """The embedded model, with a concept of two steps."""
    return Wires(*run("AttnDBLoadMicroModel"))


@pytest.fixture(scope="module")
def learned(trained, micro, train, tmp_path_factory):
    """A concept for each model, and a LoRA of each."""
    import folder_paths

    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path_factory.mktemp("micro")))
    with torch.inference_mode():
        one = train(1, micro)[0]
        found = {"sd15": trained, "micro": train(3, micro, one, learning_rate=1e-2)[0]}
    folder_paths.set_output_directory(before)
    return found


@pytest.fixture(params=["sd15", "micro"])
def family(request) -> str:
    return request.param


@pytest.fixture
def wires(family, request) -> Wires:
    return request.getfixturevalue(family)


@pytest.fixture
def chained_lora(home, wires):
    weights = wires.model.model.state_dict()
    key = next(k for k in weights if k.endswith("attn2.to_k.weight")).removesuffix(".weight")
    weight = weights[f"{key}.weight"]
    grain = torch.Generator().manual_seed(4)
    path = home / "loras" / "chained.safetensors"
    down = torch.randn(2, weight.shape[1], generator=grain)
    up = torch.randn(weight.shape[0], 2, generator=grain)
    save_file({f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}, path)
    return path


@pytest.fixture
def drawing(run, wires, learned, family, chained_lora):
    """Makes what the sampler gets, with the concept at a strength, or without it."""

    def make(strength: float | None, chain: Chain = lambda drawing: drawing) -> Drawing:
        model, clip = wires.model, wires.clip
        if strength is not None:
            concept = learned[family]
            model, clip, _ = run(
                "AttnDBApplyConcept", model=model, clip=clip, concept=concept, strength=strength
            )
        channels = wires.model.model.latent_format.latent_channels
        latent = {"samples": torch.zeros(1, channels, SIDE, SIDE)}
        made = Drawing(wires, model, clip, latent, None, None)
        words = "a photo of a <astro> person" if strength is not None else "a photo of a person"
        return chain(replace(made, positive=made.encode(words), negative=made.encode("blurry")))

    return make


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_acts_and_the_concept_acts_in_it(drawing, family, name):
    if family == "micro" and name in SD15_ONLY:
        pytest.skip("the levels of the embedded model have the same channels")
    chain = CHAINS[name]
    both, alone, without = drawing(1.0, chain), drawing(1.0), drawing(None, chain)
    drawn = both.sample()
    assert torch.isfinite(drawn).all()
    if name != "second pass":
        assert not torch.equal(drawn, alone.sample()), f"{name} does nothing"
    assert not torch.equal(drawn, without.sample()), "the concept does nothing"
    picture = both.wires.vae.decode(drawn)
    assert picture.shape[1] == 8 * drawn.shape[2]


@pytest.mark.parametrize("name", CHAINS)
def test_a_concept_of_strength_zero_leaves_a_chain_as_it_is(drawing, wires, name):
    plain = "a photo of a person"  # without the word, whose vectors are known at any strength

    def drawn(strength):
        made = drawing(strength)
        return CHAINS[name](replace(made, positive=made.encode(plain))).sample()

    assert torch.equal(drawn(0.0), drawn(None))


@pytest.mark.parametrize("family", ["micro"])  # below: a part of the other, by another backend
@pytest.mark.parametrize("name", SAME)
def test_a_chain_that_changes_how_it_is_computed_draws_the_same(drawing, family, name):
    drawn = drawing(1.0, SAME[name]).sample()
    assert torch.allclose(drawn, drawing(1.0).sample(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd15"])
def test_compiled_by_inductor_it_draws_the_same_in_front_and_behind(run, drawing, learned, family):
    from torch._inductor import config, cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except (RuntimeError, exc.InvalidCxxCompiler):
        pytest.skip("Inductor needs a C++ compiler")
    plain = drawing(1.0)
    before = compiled_by_inductor(drawing(None))
    model, _, _ = run(
        "AttnDBApplyConcept", model=before.model, clip=before.clip, concept=learned[family]
    )
    expected = plain.sample()
    assert not torch.equal(expected, drawing(None).sample()), "the concept does nothing"
    counters = torch._dynamo.utils.counters
    for made in (replace(plain, model=model), compiled_by_inductor(plain)):
        torch._dynamo.reset()
        counters.clear()
        with config.patch(compile_threads=1):
            drawn = made.sample()
        assert counters["inductor"], "nothing was compiled"
        assert torch.allclose(drawn, expected, rtol=0, atol=1e-4 * expected.abs().max().item())
    torch._dynamo.reset()


def test_a_stock_lora_in_front_and_one_behind_are_the_same(run, drawing, wires, learned, family):
    behind = drawing(1.0, stock_lora)
    front = stock_lora(drawing(None))
    model, clip, _ = run(
        "AttnDBApplyConcept", model=front.model, clip=front.clip, concept=learned[family]
    )
    front = replace(front, model=model, clip=clip, positive=behind.positive)
    drawn = behind.sample()
    assert torch.allclose(front.sample(), drawn, rtol=0, atol=1e-5 * drawn.abs().max().item())


def test_inpainting_leaves_what_is_not_masked(drawing):
    made = drawing(1.0, inpainting)
    kept = made.latent["samples"][..., SIDE // 2 :]
    assert torch.allclose(made.sample()[..., SIDE // 2 :], kept, atol=1e-4)


def test_the_table_in_docs_has_every_chain():
    table = (ROOT / "docs" / "chaining.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| ([^|]+?) \|", table, re.MULTILINE))
    assert {*CHAINS, *SAME, "stock LoRA in front"} <= rows
