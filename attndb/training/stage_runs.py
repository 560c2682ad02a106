"""StageRuns: the runs that a stage may be, one for each choice of its settings."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from ..config.stage import StageConfig
from .loss_table import LossTable
from .micro_batches import asked_for, micro_batches_from
from .prepared_stage import PreparedStage
from .run import Run, request_digest
from .run_files import result_from, result_tensors
from .training import StageResult

log = logging.getLogger(__name__)


class StageRuns:
    """The runs that a stage may be, of which it is one: the one that was begun, or else the first
    whose settings fit into the memory. A context manager that holds the run as soon as it is known,
    in the first process: the others read and write no folders."""

    def __init__(self, stage: PreparedStage, asked: Mapping[str, Any]) -> None:
        """`asked`: all that decides the outcome besides the settings. ValueError unless all
        processes are asked for the same."""
        request = stage.request
        self._ranks, self._title = stage.bench.ranks, request.title
        self._all = {
            config: _run(stage, {**asked, "config": config.identity()})
            for config in request.choices
        }
        # shares of other parts: some samples would be learned twice, and others not at all
        parts = {"micro_batch": asked_for(request.config)}
        self._ranks.check_same({**asked, "config": {**request.config.identity(), **parts}})
        begun = [config for config, run in self._all.items() if run.begun]
        begun = begun or [config for config, run in self._all.items() if run.earlier is not None]
        self.choices = begun[:1] or list(self._all)
        """Settings that may be trained with, the mildest first; one from when it is known."""
        self._held = ExitStack()

    def __enter__(self) -> StageRuns:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @property
    def config(self) -> StageConfig:
        """The settings of the run that the stage is."""
        [config] = self.choices
        return config

    @property
    def run(self) -> Run:
        """The run that the stage is."""
        return self._all[self.config]

    def finished(self) -> StageResult | None:
        """What the stage gave if it was finished before; None: it is to be trained. A run that
        another training is in is an error now, before a model is loaded."""
        result = None
        if self._ranks.first and len(self.choices) == 1:
            result = self._held.enter_context(self.run).finished()
            if result is not None:
                log.info("%s: finished before, taken from %s", self._title, self.run.folder)
        return self._as_the_first(result) if self._ranks.many else result

    def take(self, fitted: StageConfig) -> StageConfig:
        """Makes the stage the run of settings that fit here, or of later ones where another process
        has less memory. With what all processes train: `fitted`, or these later ones."""
        known = len(self.choices) == 1
        number = [config.low_memory for config in self.choices].index(fitted.low_memory)
        self.choices = [self.choices[self._ranks.largest(number)]]
        if self._ranks.first and not known:
            self._held.enter_context(self.run)
        return fitted if self.config.low_memory == fitted.low_memory else self.config

    def _as_the_first(self, result: StageResult | None) -> StageResult | None:
        """Takes over the first process's choices; its result, if it has one."""
        state, numbered = None, list(self._all)
        if self._ranks.first:
            told: list[Any] = [[numbered.index(config) for config in self.choices], None]
            if result is not None:
                losses = LossTable.of(result.losses).as_json()
                told[1] = [losses, str(len(result.losses)), result.facts, result.micro_batches]
            state = {} if result is None else result_tensors(result), told
        tensors, (chosen, finished) = self._ranks.of_first(state)
        self.choices = [numbered[number] for number in chosen]
        if finished is None or self._ranks.first:
            return result
        read, made_with = LossTable.from_json(*finished[:2]), micro_batches_from(finished[3])
        return result_from(tensors, read.losses, finished[2], made_with)


def _run(stage: PreparedStage, asked: dict[str, Any]) -> Run:
    request, config = stage.request, stage.request.config
    slug = re.sub(r"[^A-Za-z0-9_-]+", "", request.dataset.placeholder)[:60] or "concept"
    part = f"stage{config.stage}" if config.traits.in_stages else config.method
    folder = stage.bench.run_folder(f"{slug}-{part}-{request_digest(asked)[:12]}")
    return Run(folder, asked, request.checkpoint_every, request.keep_state)
