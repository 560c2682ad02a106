"""A stage node says what memory it will need before it trains, and trains whatever it says."""

from __future__ import annotations

import logging
import re
from types import SimpleNamespace

import pytest
import torch

from attndreambooth.attndb.config.presets import PRESETS

NEEDS = re.compile(
    r"needs about ([\d.]+) ([GM])B: weights ([\d.]+), text encoder ([\d.]+), .*"
    r"\(2 samples at a time\); [\d.]+ [GM]B free on cpu"
)


pytestmark = pytest.mark.usefixtures("every_trace")


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO)

    def lines(level=logging.INFO):
        return [r.getMessage() for r in caplog.records if r.levelno == level]

    return lines


@pytest.mark.cpu  # of a card other weights count, and they are frozen in bf16
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_need_is_in_the_log_before_the_first_step(stage, sd15, train, log):
    train(stage, sd15)
    lines = log()
    needs = [i for i, line in enumerate(lines) if NEEDS.search(line)]
    steps = [i for i, line in enumerate(lines) if "step 1/2" in line]
    assert len(needs) == 1 and needs[0] < steps[0]
    found = NEEDS.search(lines[needs[0]])
    total, unit, weights, text = found.groups()
    unet = sum(p.numel() * 4 for p in sd15.model.model.diffusion_model.parameters())
    assert float(weights) == pytest.approx(
        unet / {"G": 1e9, "M": 1e6}[unit], abs={"G": 0.05, "M": 0.5}[unit]
    )
    assert float(total) > float(weights) + float(text)


def test_a_finished_stage_needs_nothing(sd15, train, log, caplog):
    train(2, sd15)
    caplog.clear()
    train(2, sd15)
    assert not [line for line in log() if "needs about" in line]


def test_too_little_memory_is_a_warning_with_advice_and_no_refusal(sd15, train, log, monkeypatch):
    from attndreambooth.nodes.host.model import memory

    monkeypatch.setattr(memory, "free_memory", lambda _: 0)
    concept = train(2, sd15)[0]
    assert concept.delta
    warned = [line for line in log(logging.WARNING) if "fit" in line]
    assert len(warned) == 1 and "Training Options" in warned[0]


def test_an_estimate_that_fails_stops_no_training(sd15, train, log, monkeypatch):
    from attndreambooth.nodes.host.model import memory

    monkeypatch.setattr(memory.MemoryEstimator, "__call__", lambda *_: 1 / 0)
    assert train(2, sd15)[0].delta
    assert any("could not be estimated" in line for line in log(logging.WARNING))


def test_the_estimate_changes_no_byte_of_the_outcome(sd15, train, tmp_path, monkeypatch):
    import folder_paths

    from attndreambooth.nodes.host import workbench

    with_estimate = train(3, sd15)[0].digest()
    folder_paths.set_output_directory(str(tmp_path / "again"))
    monkeypatch.setattr(workbench, "fit_to_memory", lambda *given: given[3][0])
    assert train(3, sd15)[0].digest() == with_estimate
    assert torch.is_inference_mode_enabled()


def test_auto_recomputes_when_memory_is_short_and_the_outcome_is_the_same(
    sd15, train, log, monkeypatch, tmp_path
):
    import folder_paths

    from attndreambooth.nodes.host.model import memory

    roomy = train(1, sd15)[0].digest()
    whole = _needed(log())
    assert not any("gradient_checkpointing auto: " in line for line in log())

    folder_paths.set_output_directory(str(tmp_path / "again"))
    monkeypatch.setattr(memory, "free_memory", lambda _: 0)
    tight = train(1, sd15)[0].digest()
    [said] = [line for line in log() if "gradient_checkpointing auto: " in line][-1:]
    assert said.endswith(("auto: light", "auto: full"))
    assert _needed([said]) < whole
    assert tight == roomy


def test_low_memory_is_auto_by_default_said_recorded_and_kept(
    sd15, train, log, monkeypatch, caplog
):
    """As on a card: a CPU is never asked to."""
    from attndreambooth.nodes.host import workbench
    from attndreambooth.nodes.host.model import memory
    from attndreambooth.nodes.host.ui import progress
    from attndreambooth.nodes.training_options import NO_OPTIONS

    assert NO_OPTIONS.low_memory_if_needed
    plain, shown = workbench.fit_to_memory, []

    def with_both(title, model, vae, choices, *rest):
        return plain(title, model, vae, [*choices, choices[0].with_(low_memory=True)], *rest)

    monkeypatch.setattr(progress, "show_text", shown.append)
    with monkeypatch.context() as short:
        short.setattr(workbench, "fit_to_memory", with_both)
        short.setattr(memory, "free_memory", lambda _: 0)
        first = train(3, sd15)[0]
    assert first.record["stages"][0]["low_memory"] is True
    assert any("; low_memory auto: on; gradient_checkpointing auto: " in line for line in log())
    assert "low_memory was turned on, so that it fits" in shown[-1]
    caplog.clear()
    again = train(3, sd15)[0]  # with room for the whole
    assert again.digest() == first.digest()
    assert any("finished before" in line for line in log())


def _needed(lines):
    [found] = [m for m in map(NEEDS.search, lines) if m]
    return float(found[1]) * {"G": 1000, "M": 1}[found[2]]


def test_bf16_on_a_cpu_without_its_products_is_told_once_before_the_first_step(
    sd15, train, run, log, monkeypatch, caplog
):
    from attndreambooth.attndb.models import precision
    from attndreambooth.nodes.host import workbench

    shown = []
    monkeypatch.setattr(precision, "has_bf16_products", lambda device: device.type != "cpu")
    monkeypatch.setattr(workbench, "show_text", shown.append)
    assert train(2, sd15, precision="bf16")[0].delta
    lines = [record.getMessage() for record in caplog.records]
    told = [i for i, line in enumerate(lines) if "no bf16 products" in line]
    first = next(i for i, line in enumerate(lines) if "step 1/2" in line)
    assert len(told) == 1 and told[0] < first
    assert caplog.records[told[0]].levelno == logging.WARNING
    assert "about ten times" in lines[told[0]] and "set precision to auto or fp32" in lines[told[0]]
    [text] = [text for text in shown if "no bf16 products" in text]
    assert lines[told[0]].endswith(f": {text}")
    caplog.clear()
    assert train(2, sd15, precision="auto", seed=8)[0].delta
    assert not [line for line in log(logging.WARNING) if "bf16" in line]


def test_a_node_of_several_stages_says_it_once(host, log, monkeypatch):
    from attndreambooth.nodes.host import workbench
    from attndreambooth.nodes.host.ui.plan import NodePlan, StagePlan

    shown = []
    monkeypatch.setattr(workbench, "show_text", shown.append)
    plan = NodePlan([StagePlan("one", 1), StagePlan("two", 1)])
    for number in range(2):
        plan.begin(number)
        workbench.HostWorkbench(None, None, None, plan)._say_once("bf16 is slow")
    assert log(logging.WARNING) == ["one: bf16 is slow"]
    assert shown == plan.notes == ["bf16 is slow"]


def test_settings_that_take_each_others_effect_away_are_told_under_the_node(host, monkeypatch):
    from attndreambooth.nodes.host import workbench
    from attndreambooth.nodes.host.ui.plan import NodePlan, StagePlan

    shown, plan = [], NodePlan([StagePlan("Stage 3 of 3", 500)])
    monkeypatch.setattr(workbench, "show_text", shown.append)
    monkeypatch.setattr(workbench, "misfit_of", lambda *_: "")
    monkeypatch.setattr(workbench, "fit_to_memory", lambda *asked: asked[3][0])
    bench = workbench.HostWorkbench(None, None, None, plan)
    model, config = SimpleNamespace(device=torch.device("cpu")), PRESETS["paper"]()[2]
    assert bench.fit_to_memory(model, [config], [], {}, False, False) == config
    assert not shown
    bench.fit_to_memory(model, [config.with_(lora_rank=16)], [], {}, False, False)
    [text] = shown
    assert text.startswith("lora_rank 16 at a learning rate of 2e-06")
    assert plan.notes == shown


def test_low_memory_does_not_turn_itself_on_where_there_is_no_bf16(host, monkeypatch):
    """As on DirectML, of which the host says that 1 GB is free: every stage ended in an error."""
    from attndreambooth.attndb.models import precision
    from attndreambooth.nodes.host import workbench
    from attndreambooth.nodes.host.ui.plan import plan_of

    asked = PRESETS["paper"]()[2]
    bench = workbench.HostWorkbench(None, None, None, plan_of(["Stage 3"], [asked]))
    monkeypatch.setattr(precision, "has_bf16_products", lambda device: True)
    monkeypatch.setattr(workbench, "misfit_of", lambda *_: "")
    monkeypatch.setattr(workbench, "fit_to_memory", lambda *given: given[3][-1])
    choices = [asked, asked.with_(low_memory=True)]
    for kind, expected in (("privateuseone", choices[0]), ("cuda", choices[1])):
        card = SimpleNamespace(device=torch.device(kind, 0))
        assert bench.fit_to_memory(card, choices, (), {}, False, False) == expected


@pytest.mark.parametrize("products", [True, False])
def test_low_memory_that_turned_itself_on_is_told_to_be_slow_without_bf16_products(
    host, monkeypatch, products
):
    """As on a GPU before Ampere: the stage did not fit in fp32."""
    from attndreambooth.attndb.models import precision
    from attndreambooth.nodes.host import workbench
    from attndreambooth.nodes.host.ui.plan import plan_of

    asked = PRESETS["paper"]()[2]
    bench = workbench.HostWorkbench(None, None, None, plan_of(["Stage 3"], [asked]))
    monkeypatch.setattr(precision, "has_bf16_products", lambda device: products)
    monkeypatch.setattr(workbench, "misfit_of", lambda *_: "")
    monkeypatch.setattr(workbench, "fit_to_memory", lambda *given: given[3][1])
    choices = [asked, asked.with_(low_memory=True)]
    card = SimpleNamespace(device=torch.device("cuda", 0))
    bench.fit_to_memory(card, choices, (), {}, prior=False, encodes=False)
    told = [note for note in bench._plan.notes if "has no bf16 products" in note]
    assert len(told) == (not products)
    if told:
        assert told[0].endswith(
            "set learning_rate to 2e-05 and in Training Options set low_memory to off and set "
            "lora_rank to 16, where that fits"
        )
