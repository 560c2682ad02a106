"""What the host's side of a training does before and between steps, on a pretended card."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.stages import Wires, dataset, photos

from attndreambooth.attndb.artifacts.weight_delta import delta_tensors
from attndreambooth.attndb.losses.totals import LossTotals
from attndreambooth.attndb.training import session
from attndreambooth.attndb.training.training import Training
from attndreambooth.devkit.pretend_card import CARD, pretend_card

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a real card is there")

GPU_ONLY = {"gpu_only": True}


class Stopped(Exception):
    """Before the first backward pass."""


@pytest.fixture
def first_step(run, monkeypatch) -> Callable[..., Any]:
    """The first batch and the losses of its forward pass, after a preview and a look at the maps
    were drawn and the result was asked for."""
    seen: list[Any] = []

    def look(
        model: Any,
        method: Any,
        batches: Any,
        start: Any,
        callback: Any,
        _: Any,
        ranks: Any,
        *__: Any,
    ) -> None:
        batch = batches[0]
        with Training(model, method, start, ranks) as training, torch.no_grad():
            losses = training.learner.losses(batch.to(model.device), LossTotals.of(batch))
            for told in callback._callbacks:
                if hasattr(told, "_look"):
                    told._look(1, model, training.learner.denoising.predict, training.embeddings)
                if hasattr(told, "_pictures"):
                    assert told._pictures.after_step(1, training)
            result = training.result()
            for some in (result.embeddings, delta_tensors(result.delta), result.modules):
                assert {value.device.type for value in some.values()} <= {"cpu"}
            assert {value.device.type for value in losses.values()} == {model.device.type}
            seen.append((batch.latents, {name: float(value) for name, value in losses.items()}))
        raise Stopped

    def begun(node: str, wires: Wires, **changes: Any) -> Any:
        drawn = {"prompt": "a {} here", "every": 1, "steps": 1, "width": 64, "height": 64}
        drawn["attention_maps"] = "method" not in changes
        [preview] = run("AttnDBTrainingPreview", **drawn)
        values = {"resolution": 64, "seed": 7, "precision": "fp32", "preview": preview, **changes}
        with contextlib.suppress(Stopped):
            run(node, **wires.named(), **{"dataset": dataset(run), **values})
        return seen.pop()

    monkeypatch.setattr(session, "train", look)
    return begun


@pytest.mark.parametrize(
    ("card", "crops"),
    [
        pytest.param("cuda", 0, id="no pool"),
        pytest.param("cuda", 1, id="pool"),
        pytest.param("mps", 1, id="mps, pool"),
    ],
    indirect=["card"],
)
def test_a_stage_begins_as_on_the_cpu(sd15, sd15_there, first_step, output, card, crops):
    node = "AttnDBStage2TrainCrossAttention"
    values = {"batch_size": 2, "latent_pool": crops, "steps": 2}
    latents, losses = first_step(node, sd15, **values)
    with pretend_card(kind=card):
        found, same = first_step(node, sd15_there, **values)
    assert found.device.type == "cpu"
    torch.testing.assert_close(found, latents, rtol=0, atol=1e-5)
    assert same == pytest.approx(losses, rel=1e-3)
    assert list(output.glob("attndb/*/previews/*.png")), "a preview was drawn"
    assert list(output.glob("attndb/*/attention/maps.png"))


def test_a_vae_in_bf16_and_wires_on_the_card_train(sd15_there, first_step):
    from attndreambooth.devkit.small_models import small_model, small_vae

    with pretend_card(half=True, **GPU_ONLY):
        half = Wires(small_model("sd15", dtype=torch.float16), sd15_there.clip, small_vae())
        values = {"batch_size": 1, "latent_pool": 1, "precision": "bf16", "steps": 1}
        latents, losses = first_step("AttnDBStage3TrainUNet", half, **values)
    assert latents.dtype == torch.float32 and all(losses.values())


@pytest.mark.parametrize(
    ("card", "name"), [("cuda", "NeTI"), ("cuda", "ViCo"), ("mps", "ViCo")], indirect=["card"]
)
def test_a_compared_method_begins_and_is_previewed_there(
    sd15_there, first_step, monkeypatch, card, name
):
    from attndreambooth.nodes.compared import TrainComparedMethod
    from attndreambooth.nodes.host.workbench import HostWorkbench

    # a trace of each of the settings that may fit takes longer than all else here
    monkeypatch.setattr(HostWorkbench, "fit_to_memory", lambda _, model, choices, *__: choices[0])

    menu: Any
    [menu] = [i for i in TrainComparedMethod.define_schema().inputs if i.id == "method"]
    [choice] = [option for option in menu.options if option.key == name]
    own = {i.id: i.default for i in choice.inputs} | {"method": name, "batch_size": 1, "steps": 1}
    with pretend_card(kind=card):
        _, losses = first_step("AttnDBTrainComparedMethod", sd15_there, method=own)
    assert losses


def test_a_dataset_is_made_of_pictures_on_the_card(sd15_there, run):
    with pretend_card(**GPU_ONLY):
        images = photos().to(CARD)
        masks = (images[..., 0] > 0.4).float()
        words = {"category": ["person"], "placeholder": ["<astro>"]}
        [data, *_] = run("AttnDBConceptDatasetFromImages", images=[images], masks=[masks], **words)
        [both] = run("AttnDBAddPriorImages", dataset=data, images=images.flip(1))
        shown, _ = run("AttnDBPreviewDataset", dataset=both, clip=sd15_there.clip, resolution=64)
        _, kept, _ = run("AttnDBDatasetPhotos", dataset=data)
    assert shown.device.type == "cpu" and torch.equal(kept[0], masks.cpu()[:1])
