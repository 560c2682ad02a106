"""A preset for another model is told: under the node, and by --check before anything is loaded."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest
from support.stages import dataset

from attndreambooth.attndb.config.presets import PRESETS
from attndreambooth.attndb.config.regularization import Regularization
from attndreambooth.attndb.jobs.document import Problem
from attndreambooth.attndb.jobs.job import MICRO, Job, ModelChoice, PhotoChoice
from attndreambooth.devkit.checkpoints import make_checkpoint


def test_train_concept_says_it_once_with_the_preset_that_fits(run, sd15, monkeypatch, caplog):
    from attndreambooth.nodes.host import workbench

    shown = []
    monkeypatch.setattr(workbench, "show_text", shown.append)
    short = tuple(stage.with_(steps=0) for stage in PRESETS["micro"]())
    monkeypatch.setitem(PRESETS, "micro", lambda: short)
    with caplog.at_level(logging.WARNING):
        run("AttnDBAllStages", **sd15.named(), dataset=dataset(run), preset="micro", latent_pool=1)
    [text] = [text for text in shown if "preset micro" in text]
    assert text == (
        "MODEL is SD 1.5, and preset micro is for the embedded model: its rates and resolution "
        "(128) do not fit. Choose preset paper"
    )
    assert [line for line in caplog.messages if text in line] == [f"Stage 1 of 3: {text}"]


@pytest.mark.parametrize("kind", ["sd15", "sd21", "sd21v"])
def test_a_checkpoints_kind_is_known_from_its_file_as_from_the_model(host, kind):
    import comfy.sd

    from attndreambooth.nodes.host.model.checkpoint_kind import checkpoint_kind
    from attndreambooth.nodes.host.model.families import model_kind

    path = str(make_checkpoint(kind))
    model = comfy.sd.load_checkpoint_guess_config(path, output_vae=False, output_clip=False)[0]
    assert checkpoint_kind(path) == model_kind(model.model.model_config, model.model.model_type)


def test_the_relatives_of_sdxl_have_its_presets(host):
    """As the host names them by the U-Net of their files."""
    from comfy.model_base import ModelType
    from comfy.supported_models import SDXL, SSD1B, Segmind_Vega

    from attndreambooth.nodes.host.model.families import model_kind

    for config in (SDXL, SSD1B, Segmind_Vega):
        kind = model_kind(config({"context_dim": 2048}), ModelType.EPS)
        assert (kind.home, kind.side) == ("sdxl", 1024)


def test_a_file_that_is_no_checkpoint_is_of_no_kind(host, tmp_path):
    from attndreambooth.nodes.host.model.checkpoint_kind import checkpoint_kind

    for name in ("a.ckpt", "b.safetensors", "none.safetensors"):
        if name[0] != "n":
            (tmp_path / name).write_bytes(b"x" * 100)
        assert checkpoint_kind(str(tmp_path / name)) is None


def job(checkpoint, preset, lines=None, **changes):
    return Job(
        name="rex",
        model=ModelChoice(checkpoint=str(checkpoint)),
        photos=PhotoChoice(folder=Path("photos"), category="dog"),
        stages=tuple(stage.with_(**changes) for stage in PRESETS[preset]()),
        recipe=preset,
        line=3,
        lines=lines or {},
    )


def test_a_check_tells_it_with_its_line(host):
    from attndreambooth.headless.wires import doubtful

    path = make_checkpoint("sd15").resolve()
    assert not doubtful(job(path, "paper")) and not doubtful(job(MICRO, "micro-turbo"))
    assert {found.line for found in doubtful(job(path, "sdxl"))} == {3}
    [found] = set(doubtful(job(MICRO, "lora", {"preset": 7})))
    assert found.line == 7 and found.text.startswith("rex: MODEL is attndb-micro, and preset lora ")
    assert found.text.endswith("Choose preset micro-lora")
    tie = Regularization(mean_weight=4.0, variance_weight=10.0)
    [found] = doubtful(job(path, "paper", {"settings": 9}, regularization=tie))
    assert found.line == 9 and "stage 1 has weights 4 / 10" in found.text


def test_what_is_told_is_called_a_warning(host, capsys):
    from attndreambooth.headless.command_line import tell

    found, out = [Problem(7, "rex: odd")], io.StringIO()
    tell("warning", found, out, as_json=False, file=Path("a.yaml"))
    assert capsys.readouterr().err == "a.yaml:7: warning: rex: odd\n" and not out.getvalue()
    tell("warning", found, out, as_json=True, file=Path("a.yaml"))
    told = {"event": "warning", "file": "a.yaml", "line": 7, "text": "rex: odd"}
    assert json.loads(out.getvalue()) == told
