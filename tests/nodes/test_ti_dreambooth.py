"""TI+DB on the embedded model, through the host: it learns, and its embedding stands still."""

from __future__ import annotations

import pytest

from attndreambooth.attndb.config.data import DataConfig
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig


@pytest.fixture(scope="module")
def micro(run):
    return run("AttnDBLoadMicroModel")


@pytest.fixture(scope="module")
def robot(run):
    photos, category, *_ = run("AttnDBMicroConcept", concept="hatted-robot")
    node = "AttnDBConceptDatasetFromImages"
    return run(node, images=photos, category=category, placeholder="<my-robot>")[0]


def trained(micro, dataset, method, rate, steps=40):
    from attndreambooth.attndb.training.session import train_stage
    from attndreambooth.attndb.training.stage_request import StageRequest
    from attndreambooth.nodes.host.ui.plan import plan_of
    from attndreambooth.nodes.host.workbench import HostWorkbench

    config = StageConfig(
        method=method,
        stage=1,
        steps=steps,
        batch_size=4,
        optimizer=OptimizerConfig(learning_rate=rate),
        data=DataConfig(resolution=64, augmentation="none"),
        precision="fp32",
    )
    model, clip, vae = micro[:3]
    bench = HostWorkbench(model, clip, vae, plan_of([method], [config]))
    return train_stage(bench, StageRequest(dataset=dataset, config=config, title=method))


def test_it_lowers_its_loss_while_its_embedding_hardly_moves(micro, robot):
    concept, losses = trained(micro, robot, "ti_dreambooth", 1e-4)
    assert sum(loss.total for loss in losses[-10:]) < 0.8 * sum(loss.total for loss in losses[:10])
    joint = concept.record["stages"][0]
    assert joint["method"] == "ti_dreambooth" and concept.delta
    # stage 1 of AttnDreamBooth at its own rate, on the same photos, in a tenth of the steps
    first, _ = trained(micro, robot, "attndreambooth", 1e-2, steps=4)
    alone = first.record["stages"][0]
    assert joint["embedding_cosine"] > 0.999 > alone["embedding_cosine"]
