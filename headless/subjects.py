"""Jobs one after the other: a failed one does not stop the rest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import comfy.model_management
import torch

from ..attndb.artifacts.concept_files import load_concept
from ..attndb.config.printable import printable
from ..attndb.jobs.job import Job
from ..attndb.training.ranks import RankLostError, Ranks, RankStoppedError
from ..attndb.training.step_loss import TrainingDivergedError
from ..attndb.training.unkept_results import UNKEPT
from ..nodes.host.concept_store import save_concept_as
from ..nodes.host.paths import embedding_path, find_concept, run_folder, weights_path
from ..nodes.training import train_stages
from ..nodes.training_options import TrainingOptions
from .processes import Processes
from .report import Report
from .stop_signals import stop_signals
from .unsaved import NotSavedError, what_is_left
from .wires import Models, dataset_of, preview_of

log = logging.getLogger(__name__)

_USER_ERRORS = (ValueError, OSError, TrainingDivergedError, RankLostError, RankStoppedError)
_Stopped: type[BaseException] = comfy.model_management.InterruptProcessingException


def train_jobs(jobs: Sequence[Job], told: Report, group: Processes) -> int:
    """Trains and saves every job. 0; 1 if one failed; 128 and the signal's number if one stopped
    the program, which keeps what was done. Of processes that train together one that fails ends
    all: what the others are at is not known."""
    lost = False
    outcome: dict[str, list[str]] = {"trained": [], "failed": [], "not_begun": []}
    models = Models()
    told.begin([job.name for job in jobs])
    interrupt = comfy.model_management.interrupt_current_processing
    with stop_signals(interrupt) as caught, torch.inference_mode():
        for number, job in enumerate(jobs, start=1):
            if caught or lost:
                outcome["not_begun"].append(job.name)
                continue
            told.subject(job.name, number, _titles(job))
            held = UNKEPT.folders
            try:
                _train(job, models, told, group)
                outcome["trained"].append(job.name)
            except _Stopped:
                told.stopped()
                outcome["not_begun"].append(job.name)
            except Exception as error:
                log.debug("%s", job.name, exc_info=True)
                if not isinstance(error, _USER_ERRORS):
                    log.error("%s: an error that no user makes", job.name, exc_info=True)
                unkept = [folder for folder in UNKEPT.folders if folder not in held]
                left = what_is_left(error, unkept)
                told.failed(printable(f"{str(error) or type(error).__name__}{left}"))
                outcome["failed"].append(job.name)
                lost = group.together
            models.tidy()
    told.end(outcome)
    return 128 + caught[0] if caught else 1 if outcome["failed"] else 0


def _train(job: Job, models: Models, told: Report, group: Processes) -> None:
    wires, dataset = models.wires(job.model), dataset_of(job)
    concept = load_concept(*find_concept(job.concept)) if job.concept else None
    titles = [title for title, _ in _titles(job)]
    options = TrainingOptions(
        optimizer={},
        stage={},
        low_memory_if_needed=job.low_memory_if_needed,
        keep_state=job.keep_state,
        concepts_every=job.checkpoint_concepts,
        concepts_kept=job.kept_concepts,
    )
    trained = train_stages(
        wires,
        dataset,
        list(zip(titles, job.stages, strict=True)),
        job.name,
        category_tie=job.category_tie,
        checkpoint_every=job.checkpoint_every,
        options=options,
        preview=preview_of(job) if group.writes else None,
        concept=concept,
        watcher=told,
        ranks=Ranks(together=group.together),
        preset=job.recipe,
    )
    last = trained.concepts[-1]
    if not group.writes:
        return
    try:
        saved = save_concept_as(last, job.name, job.save.precision, job.save.metadata)
    except OSError as error:
        raise NotSavedError(error, run_folder(Path(trained.folder).name)) from error
    if saved != job.name:
        log.warning("%s is taken by another file: saved as %s", job.name, saved)
    files = [embedding_path(saved), *([weights_path(saved)] if last.delta else [])]
    told.saved(saved, files, last.trigger)


def _titles(job: Job) -> list[tuple[str, int]]:
    """What the stages are called, and their steps."""
    if not job.stages[0].traits.in_stages:
        return [(config.method, config.steps) for config in job.stages]
    return [(f"stage {config.stage}", config.steps) for config in job.stages]
