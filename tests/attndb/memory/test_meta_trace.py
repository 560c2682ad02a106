"""Traces: a GPU's autocast is stood in for exactly, and bytes are counted as they live."""

from __future__ import annotations

import copy

import pytest
import torch

from attndreambooth.devkit.tiny_model import tiny_model

CPU, CARD = torch.device("cpu"), torch.device("cuda")
SIDE = 16


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="a PyTorch without CUDA")
def test_a_cards_autocast_is_copied_to_the_byte(host, monkeypatch):
    """Against PyTorch's own CUDA autocast, on tensors that only say they are on a card."""
    import torch.nn.functional as F
    from torch._subclasses.fake_tensor import FakeTensorMode

    from attndreambooth.attndb.memory import meta_trace
    from attndreambooth.attndb.models.precision import autocast

    unet = tiny_model().unet
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(".attn2." in f".{name}")

    def run(module, device):
        x, c = torch.empty(2, 4, SIDE, SIDE, device=device), torch.empty(2, 77, 32, device=device)
        kept: dict[int, torch.UntypedStorage] = {}
        own = {p.untyped_storage()._cdata for p in module.parameters()}

        def pack(tensor):
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            t = torch.zeros(2, dtype=torch.int64, device=device)
            module(x, t, context=c, transformer_options={})
        return sum(s.nbytes() for key, s in kept.items() if key not in own)

    def traced_on(device):
        twin = meta_trace.on_meta_device(unet)
        with meta_trace.MetaTrace(device, twin.parameters()), autocast(meta_trace.META, True):
            return run(twin, meta_trace.META)

    monkeypatch.setattr(F, "scaled_dot_product_attention", meta_trace._fused_attention)
    try:
        with FakeTensorMode():
            memo = {
                id(p): torch.nn.Parameter(torch.empty(p.shape, device="cuda"), p.requires_grad)
                for p in unet.parameters()
            }
            twin = copy.deepcopy(unet, memo)
            torch.set_autocast_dtype("cuda", torch.bfloat16)
            torch.set_autocast_enabled("cuda", True)
            truth = run(twin, "cuda")
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.clear_autocast_cache()
    monkeypatch.undo()
    assert traced_on(CARD) == truth
    assert traced_on(CPU) < 0.9 * truth  # on the CPU norms stay in bf16


def test_the_ledger_counts_what_is_alive_once(host):
    from attndreambooth.attndb.memory.meta_trace import Ledger

    weight = torch.zeros(1000)
    with Ledger([weight]) as ledger:
        kept = weight + 1.0
        view = kept[10:]
        gone = torch.ones(5000)
        del gone
        weight.add_(1.0)
        more = view * 2.0
    assert (ledger.live, ledger.peak) == (4000 + 3960, 4000 + 20000)
    del kept, more
    assert ledger.live == 4000  # the view holds the whole
    del view
    assert ledger.live == 0


def test_where_no_fused_kernel_trains_attention_counts_as_it_is_written_out(host):
    """On a Mac a picture of 512 px takes half a gigabyte a layer, which no estimate may forget."""
    import torch.nn.functional as F

    from attndreambooth.attndb.memory.meta_trace import META, MetaTrace, backward

    batch, heads, pixels, width = 2, 8, 4096, 40

    def peak(kind):
        q = torch.empty(batch, heads, pixels, width, device=META, requires_grad=True)
        with MetaTrace(torch.device(kind), [q]) as trace:
            backward(F.scaled_dot_product_attention(q, q, q).sum())
        return trace.peak

    matrix, values = 4 * batch * heads * pixels**2, 4 * batch * heads * pixels * width
    assert peak("cuda") == peak("cpu") < 10 * values
    assert 2 * matrix <= peak("mps") < 3 * matrix + 10 * values
