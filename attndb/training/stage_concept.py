"""The concept that a stage makes of what it learned."""

from __future__ import annotations

from typing import Any

from ..artifacts.clip_layer import RECORD_KEY
from ..artifacts.concept import TrainedConcept
from ..artifacts.lineage import KEPT, lineage
from ..artifacts.weight_delta import cast_deltas
from ..config.stage import StageConfig
from .loss_table import LossTable
from .micro_batches import record_of
from .prepared_stage import PreparedStage
from .training import StageResult

_BASE = ("base_sha256", "prediction_type", "schedule_sha256")
"""What a record says of the model that the concept was trained on."""


def stage_concept(stage: PreparedStage, config: StageConfig, result: StageResult) -> TrainedConcept:
    """What the stage went on from, with what it learned under these settings. Of a training that
    goes on the record says after how many steps it is, of one that went on with another micro-batch
    from which steps on it had which."""
    before, prior = stage.request.concept, stage.request.dataset.prior
    if before is None:
        concept = _new_concept(stage, result)
    else:
        concept = _of_a_known_base(before, stage.identity)
    delta = cast_deltas(result.delta, stage.bench.weights_dtype)
    done = len(result.losses)
    record: dict[str, Any] = {
        **config.as_dict(),
        **LossTable.of(result.losses).as_record(),
        **result.facts,
        **({} if done == config.steps else {"after_steps": done}),
        **record_of(result.micro_batches, config),
        **({RECORD_KEY: layer} if (layer := stage.bench.clip_layer()) else {}),
    }
    if prior is not None:
        record["prior"] = prior.record()
    vectors = result.embeddings[concept.text_key]
    return concept.with_stage(vectors, delta, record, result.embeddings, result.modules)


def _of_a_known_base(concept: TrainedConcept, identity: dict[str, Any]) -> TrainedConcept:
    """A concept that was never trained here, of other programs' files: its record says from now on
    what it is trained on, and still of what beginning it is."""
    if concept.record.get("stages"):
        return concept
    base = {name: identity[name] for name in _BASE}
    return concept.with_record({**base, **concept.record, KEPT: lineage(concept).key})


def _new_concept(stage: PreparedStage, result: StageResult) -> TrainedConcept:
    dataset, category, identity = stage.request.dataset, stage.texts.category, stage.identity
    first = stage.bench.text_key()
    return TrainedConcept(
        placeholder=dataset.placeholder,
        category=dataset.category,
        text_key=first,
        vectors=result.embeddings[first],
        base_family=identity["base_family"],
        record={
            **{name: identity[name] for name in _BASE},
            "prompt": dataset.prompt,
            **({"templates": list(dataset.templates)} if len(dataset.templates) > 1 else {}),
            "tie": category.category_token,
            "tied_token_id": category.ids[category.tied_offset],
            "photos": [photo.record(dataset.private) for photo in dataset.photos],
            **({} if dataset.private else {"thumbnail": stage.bench.thumbnail(dataset)}),
            "versions": identity["versions"],
            "stages": [],
        },
    )
