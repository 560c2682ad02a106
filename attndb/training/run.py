"""Run: the folder of one stage's training. Checkpoints, exact resume, loss log, the result.

    run.json                 what was asked for; its digest names the folder
    losses.jsonl             one line per step
    checkpoint.safetensors   weights, optimiser and losses of an unfinished training
    result.safetensors       what a finished training learned
    previews/                pictures

All that decides the outcome is in run.json, so the same request finds the same folder again: a
finished one answers at once, an unfinished one goes on where it was.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..artifacts.tensor_file import (
    free_space,
    not_written,
    read_tensors,
    remove_partial_files,
    size_text,
    tensors_writer,
    text_writer,
    write_whole,
)
from ..artifacts.weight_delta import delta_from_tensors, delta_tensors
from .folder_lock import FolderLock, FolderLockedError
from .step_loss import StepLoss
from .training import StageResult, Training

log = logging.getLogger(__name__)


def request_digest(request: Mapping[str, Any]) -> str:
    """SHA-256 of everything that decides a training's outcome."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


class Run:
    """One stage's training on disk. A context manager that holds the folder's lock."""

    def __init__(self, folder: Path, request: Mapping[str, Any], every: int = 50) -> None:
        """`request`: plain data that decides the outcome. `every`: steps between checkpoints; 0
        writes one only when the training is stopped."""
        self.folder = folder
        self.request = dict(request)
        self.every = every
        self._lock = FolderLock(folder / "lock")
        self._saved = 0
        self._logged = True
        self.trouble = ""
        """Why the work of this moment is not on disk; empty when nothing is wrong."""

    @property
    def checkpoint(self) -> Path:
        """The unfinished training."""
        return self.folder / "checkpoint.safetensors"

    @property
    def outcome(self) -> Path:
        """The finished training."""
        return self.folder / "result.safetensors"

    @property
    def begun(self) -> bool:
        """Whether there is work of it on disk."""
        return self.checkpoint.is_file() or self.outcome.is_file()

    def __enter__(self) -> Run:
        description = self.folder / "run.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except FolderLockedError:
            raise
        except OSError as error:
            raise not_written(error, description) from error
        try:
            remove_partial_files(self.folder)
            text = json.dumps(self.request, sort_keys=True, indent=1)
            if not _holds(description, text):  # a finished run answers on a full disk too
                write_whole({description: text_writer(text)})
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def restore(self, training: Training) -> list[StepLoss]:
        """Puts the checkpoint, if there is one, into the training; the losses so far."""
        self._warn_of_little_space(training)
        if not self.checkpoint.is_file():
            return []
        try:
            tensors, metadata = read_tensors(self.checkpoint)
            losses = _losses(metadata)
            training.restore(tensors, json.loads(metadata["optimizer"]))
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"the checkpoint {self.checkpoint} cannot be used ({error}): delete it to start "
                "this stage afresh"
            ) from error
        self._saved = len(losses)
        self._write_log(losses)
        log.info("resuming at step %d from %s", len(losses) + 1, self.checkpoint)
        return losses

    def due(self, done: int) -> bool:
        """Whether a checkpoint is written after `done` steps."""
        return self.every > 0 and done % self.every == 0

    def after_steps(self, training: Training, losses: list[StepLoss], logged: int) -> None:
        """Logs the losses from number `logged` on; writes a checkpoint when one is due. A full disk
        is only warned of: the training goes on unprotected, and the next one is tried again."""
        self._log_losses(losses, logged)
        if not self.due(len(losses)):
            return
        try:
            self.save(training, losses)
            self.trouble = ""
        except OSError as error:
            reason = error.__cause__ or error
            self.trouble = (
                f"step {len(losses)}: no checkpoint could be written to {self.folder} ({reason}; "
                f"{free_space(self.folder)} free). The training goes on, kept only up to step "
                f"{self._saved}: free space, and the checkpoint of step "
                f"{len(losses) + self.every} is written again"
            )
            log.warning(self.trouble)

    def _log_losses(self, losses: list[StepLoss], logged: int) -> None:
        """Appends the newest losses; after a failure all of them, so that none is missing."""
        path = self.folder / "losses.jsonl"
        try:
            if not self._logged:
                self._write_log(losses)
            else:
                before = path.stat().st_size if path.exists() else 0
                try:
                    with path.open("a", encoding="utf-8") as handle:
                        handle.writelines(_line(loss) for loss in losses[logged:])
                except OSError:
                    with contextlib.suppress(OSError):
                        os.truncate(path, before)  # no half line
                    raise
            self._logged = True
        except OSError as error:
            if self._logged:
                log.warning("%s: losses are not written: %s", path, error.strerror or error)
            self._logged = False

    def save(self, training: Training, losses: list[StepLoss]) -> None:
        """Writes the checkpoint of this moment, unless there is nothing new or a value is not
        finite: then the last good one stays."""
        if len(losses) <= self._saved:
            return
        if not training.consistent:
            log.warning("not saved: stopped inside an update; the last good checkpoint stays")
            return
        tensors, plain = training.state()
        bad = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
        if bad:
            log.warning("not saved: %s is not finite; the last good checkpoint stays", bad[0])
            return
        metadata = {"optimizer": json.dumps(plain), "losses": _dump(losses)}
        write_whole({self.checkpoint: tensors_writer(tensors, metadata)})
        self._saved = len(losses)
        log.info("checkpoint after step %d: %s", len(losses), self.checkpoint)

    def rescue(self, training: Training, losses: list[StepLoss]) -> None:
        """`save` for a training that is being stopped: a full disk must not hide the cause."""
        try:
            self.save(training, losses)
        except OSError as error:
            self.trouble = f"{self.folder}: the checkpoint could not be written: {error}"
            log.error(self.trouble)

    def finished(self) -> StageResult | None:
        """The result of an earlier, completed training of this request; None if there is none."""
        if not self.outcome.is_file():
            return None
        try:
            tensors, metadata = read_tensors(self.outcome)
            embeddings = _below("embedding.", tensors)
            delta = delta_from_tensors(_below("delta.", tensors))
            modules = _below("module.", tensors)
            return StageResult(embeddings, delta, tuple(_losses(metadata)), modules)
        except (OSError, ValueError, KeyError) as error:
            log.warning("%s cannot be read (%s): training again", self.outcome, error)
            return None

    def finish(self, result: StageResult) -> None:
        """Keeps the result and drops the checkpoint. OSError, with the folder, the space and the
        remedy, if the result cannot be written: then the checkpoint stays. Where the two do not fit
        beside each other the checkpoint goes first."""
        tensors = {
            **_above("embedding.", result.embeddings),
            **_above("delta.", delta_tensors(result.delta)),
            **_above("module.", result.modules),
        }
        metadata = {"losses": _dump(list(result.losses))}
        files = {self.outcome: tensors_writer(tensors, metadata)}
        try:
            write_whole(files)
        except OSError as error:
            if error.errno != errno.ENOSPC or not self._checkpoint_is_in_the_way(tensors.values()):
                raise
            log.warning("%s gives its space to the result", self.checkpoint)
            self.checkpoint.unlink()
            write_whole(files)
        self.checkpoint.unlink(missing_ok=True)
        try:
            self._write_log(list(result.losses))
        except OSError as error:  # the result holds the losses too
            log.warning("%s", error)

    def _checkpoint_is_in_the_way(self, tensors: Iterable[Tensor]) -> bool:
        """Whether the result surely fits in the place of the checkpoint."""
        needed = 1.1 * sum(t.numel() * t.element_size() for t in tensors) + 1e6
        try:
            there = self.checkpoint.stat().st_size
            return there + shutil.disk_usage(self.folder).free > needed
        except OSError:
            return False

    def _warn_of_little_space(self, training: Training) -> None:
        """Before the first step: the disk may be too small for what this stage has to keep."""
        weights = sum(p.numel() * 4 for p in training.trainable)
        needed = 2 * 3 * weights if self.every else 3 * weights
        try:
            free = shutil.disk_usage(self.folder).free
        except OSError:
            return
        if free < needed:
            log.warning(
                "%s: %s free, and this stage wants about %s (a checkpoint holds weights and two "
                "moments; the old one stays until the new one is whole). Without it checkpoints "
                "may fail; the training itself does not need them",
                self.folder,
                size_text(free),
                size_text(needed),
            )

    def _write_log(self, losses: list[StepLoss]) -> None:
        text = "".join(_line(loss) for loss in losses)
        write_whole({self.folder / "losses.jsonl": text_writer(text)})


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


def _line(loss: StepLoss) -> str:
    entry = {
        "step": loss.step,
        "loss": loss.total,
        "denoising": loss.denoising,
        "attention_map": loss.regularization,
    }
    if loss.prior:
        entry["prior"] = loss.prior
    return json.dumps(entry) + "\n"


def _dump(losses: list[StepLoss]) -> str:
    return json.dumps([loss.parts for loss in losses])


def _losses(metadata: Mapping[str, str]) -> list[StepLoss]:
    return [StepLoss(i, *parts) for i, parts in enumerate(json.loads(metadata["losses"]))]


def _above(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
