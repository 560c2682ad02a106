"""Run: the folder of one stage's training. Checkpoints, exact resume, loss log, the result.

    run.json                 what was asked for; its digest names the folder
    losses.jsonl             one line per step
    checkpoint.safetensors   weights, optimiser and losses of an unfinished training
    result.safetensors       what a finished training learned
    state.safetensors        its last checkpoint, if it was to be kept for more steps
    damaged-*                one of the two that was not what had been written, set aside
    previews/                pictures

All that decides the outcome is in run.json, so the same request finds the same folder again: a
finished one answers at once, an unfinished one goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..artifacts.checked_file import remember_sound
from ..artifacts.name_claim import holds
from ..artifacts.owner_limit import limit_in_bytes
from ..artifacts.partial_files import remove_partial_files
from ..artifacts.placing import put_in_place
from ..artifacts.tensor_file import free_space, not_written, text_writer, write_whole
from .background_write import BackgroundWrite, snapshot
from .checkpoint_pace import CheckpointPace
from .earlier_run import STATE, EarlierRun, begun_by_others, earlier_run
from .folder_lock import FolderLock, FolderLockedError
from .little_space import is_in_the_way, warn_of_little_space
from .loss_log import LossLog
from .run_files import (
    Checkpoint,
    checkpoint_steps,
    checkpoint_writer,
    read_checkpoint,
    read_result,
    result_tensors,
    result_writer,
)
from .run_folders import LIMIT_VARIABLE, kept_text, remove_beyond
from .step_loss import StepLoss
from .training import StageResult, Training
from .unkept_results import UNKEPT

log = logging.getLogger(__name__)


def request_digest(request: Mapping[str, Any]) -> str:
    """SHA-256 of everything that decides a training's outcome."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


class Run:
    """One stage's training on disk. A context manager that holds the folder's lock."""

    def __init__(
        self,
        folder: Path,
        request: Mapping[str, Any],
        every: int = 50,
        keep_state: bool = False,
    ) -> None:
        """`request`: plain data that decides the outcome. `every`: steps between checkpoints; 0
        writes one only when the training is stopped. `keep_state`: whether the last one stays, so
        that a longer training can go on from it."""
        self.folder = folder
        self.request = dict(request)
        self.every, self.keep_state = every, keep_state
        self.digest = request_digest(self.request)
        self._lock = FolderLock(folder / "lock")
        self._log = LossLog(folder / "losses.jsonl")
        self._saved, self._writing, self._pace = 0, BackgroundWrite(), CheckpointPace()
        self.trouble = ""
        """Why the work of this moment is not on disk; empty when nothing is wrong."""
        self.kept = ""
        """After `finish`: where the result is kept and how much that takes."""

    @property
    def checkpoint(self) -> Path:
        """The unfinished training."""
        return self.folder / "checkpoint.safetensors"

    @property
    def outcome(self) -> Path:
        """The finished training."""
        return self.folder / "result.safetensors"

    @cached_property
    def earlier(self) -> EarlierRun | None:
        """A shorter training of the same that this one goes on from, unless it has a checkpoint."""
        return earlier_run(self.folder, self.request)

    @property
    def begun(self) -> bool:
        """Whether there is work of it, on disk or held in memory."""
        held = UNKEPT.find(self.digest) is not None
        return held or self.checkpoint.is_file() or self.outcome.is_file()

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
            write = text_writer(json.dumps(self.request, sort_keys=True, indent=1))
            if not holds(description, write):  # a finished run answers on a full disk too
                write_whole({description: write})
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait()
        finally:
            self._lock.release()

    def restore(self, training: Training) -> list[StepLoss]:
        """Puts the checkpoint, if there is a sound one, into the training; the losses so far.

        One that is not what was written, or not of this training, is set aside and named, and the
        stage starts afresh. ValueError, with file and remedy, if one cannot be read at all, or if
        the training refuses it half-way: its weights are not to be trained on then.
        """
        warn_of_little_space(self.folder, training.trainable, bool(self.every))
        losses: list[StepLoss] = []
        found, path = self._sound_checkpoint(training), self.checkpoint
        if found is None and self.earlier is not None:
            found, path = self._earlier_state(self.earlier, training), self.earlier.state
        if found is not None:
            try:
                training.restore(found.tensors, found.plain)
            except Exception as error:
                aside = self._set_aside(path, error)
                raise ValueError(
                    f"the checkpoint {path} cannot be used ({error}). It is now "
                    f"{aside.name}: queue again, and this stage starts afresh"
                ) from error
            losses = found.losses
            log.info("resuming at step %d from %s", len(losses) + 1, path)
        elif others := begun_by_others(self.folder, self.request):
            log.warning(others)
            self.trouble = self.trouble or others
        self._saved = len(losses)
        self._log.begin(losses)
        return losses

    def _sound_checkpoint(self, training: Training) -> Checkpoint | None:
        if not self.checkpoint.is_file():
            return None
        expected, _ = training.state()
        try:
            return read_checkpoint(self.checkpoint, self.digest, expected, training.trainable)
        except ValueError as error:
            aside = self._set_aside(self.checkpoint, error)
            self.trouble = (
                f"the checkpoint was damaged ({error}) and is now {aside}: this stage starts afresh"
            )
            return None
        except OSError as error:
            raise _unread("checkpoint", self.checkpoint, error) from error

    def _earlier_state(self, earlier: EarlierRun, training: Training) -> Checkpoint | None:
        expected, _ = training.state()
        digest = request_digest(earlier.request)
        try:
            return read_checkpoint(earlier.state, digest, expected, training.trainable)
        except (ValueError, OSError) as error:
            log.warning("%s is not used, training from step 1: %s", earlier.state, error)
            return None

    def _set_aside(self, path: Path, why: Exception) -> Path:
        """Renames a file that is not to be used, over an earlier one; its new name."""
        aside = path.with_name(f"damaged-{path.name}")
        try:
            put_in_place(path, aside)
        except OSError as error:
            raise ValueError(
                f"{path} is damaged ({why}) and cannot be renamed ({error.strerror or error}): "
                "delete it"
            ) from error
        log.warning("%s is damaged: %s. It is now %s", path, why, aside.name)
        return aside

    def due(self, done: int) -> bool:
        """Whether a checkpoint is written after `done` steps."""
        return self.every > 0 and done % self.every == 0 and not self._pace.puts_off

    def after_steps(self, training: Training, logged: int) -> None:
        """Logs the losses from number `logged` on; writes a checkpoint when one is due, and not
        after the last step: the result is next. A full disk is only warned of: the training goes
        on unprotected, and the next one is tried again."""
        losses = training.losses
        self._log.append(losses, logged)
        due = self.due(len(losses)) and len(losses) < training.config.steps
        try:
            written = self._writing.ended()
            if (due and self.save(training, beside=True)) or written:
                self.trouble = ""
        except OSError as error:
            reason, after = error.__cause__ or error, len(losses) + self.every
            last = after >= training.config.steps
            self.trouble = (
                f"step {len(losses)}: no checkpoint could be written to {self.folder} ({reason}; "
                f"{free_space(self.folder)} free). The training goes on, kept only up to step "
                f"{self._saved}: free space, and "
                + ("the result is" if last else f"the checkpoint of step {after} is written again")
            )
            log.warning(self.trouble)

    def save(self, training: Training, *, beside: bool = False) -> bool:
        """Writes the checkpoint of this moment, unless there is nothing new or a value is not
        finite: then the last good one stays. `beside`: a large one is written while the training
        goes on, from a copy if there is room for one. Whether it is on disk."""
        since = self._pace.now()
        self._writing.wait()
        if len(training.losses) <= self._saved:
            return True
        if not training.consistent:
            log.warning("not saved: stopped inside an update; the last good checkpoint stays")
            return False
        tensors, plain = training.state()
        bad = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
        if bad:
            log.warning("not saved: %s is not finite; the last good checkpoint stays", bad[0])
            return False
        copied = snapshot(tensors) if beside else None
        made = Checkpoint(tensors if copied is None else copied, plain, list(training.losses))

        def write() -> None:
            write_whole({self.checkpoint: checkpoint_writer(made, self.digest)})
            self._saved = len(made.losses)
            log.info("checkpoint after step %d: %s", len(made.losses), self.checkpoint)

        if copied is None:
            write()
        else:
            self._writing.start(write)
        self._pace.held_up(since, tensors)
        return copied is None

    def wait(self) -> None:
        """Until nothing is being written. A failure is warned of: what comes next says more."""
        try:
            self._writing.wait()
        except Exception as error:
            log.warning("%s could not be written: %s", self.checkpoint, str(error) or repr(error))

    def before_result(self, training: Training) -> None:
        """All steps are done: a last checkpoint, if the state is to be kept."""
        if self.keep_state:
            self.rescue(training)

    def rescue(self, training: Training) -> None:
        """`save` for a training that is being stopped: a full disk must not hide the cause."""
        self.wait()
        try:
            self.save(training)
        except OSError as error:
            self.trouble = f"{self.folder}: the checkpoint could not be written: {error}"
            log.error(self.trouble)

    def finished(self) -> StageResult | None:
        """The result of an earlier, completed training of this request; None if there is none.

        A file that is not what was written is set aside and named; ValueError if it cannot be read
        at all. A result that no disk could take is held in memory, and its file is tried again.
        """
        if self.outcome.is_file():
            try:
                result = read_result(self.outcome, self.digest)
                UNKEPT.release(self.digest)
                # Of one that was killed before it did so itself.
                self._put_checkpoint_away(len(result.losses))
                return result
            except ValueError as error:
                self._set_aside(self.outcome, error)
            except OSError as error:
                if UNKEPT.find(self.digest) is None:
                    raise _unread("result", self.outcome, error) from error
        result = UNKEPT.find(self.digest)
        if result is not None:
            try:
                self.finish(result)
            except OSError as error:
                log.warning("the result is still only held in memory: %s", error)
        return result

    def finish(self, result: StageResult) -> None:
        """Keeps the result and drops the checkpoint. OSError, with the folder, the space and the
        remedy, if the result cannot be written: then the checkpoint stays, and the result is held
        in memory until it is kept somewhere. Where the two do not fit beside each other the
        checkpoint goes first."""
        self.wait()
        try:
            self._write_result(result)
        except OSError:
            UNKEPT.keep(self.digest, result, self.folder)
            raise
        UNKEPT.release(self.digest)
        self._put_checkpoint_away(len(result.losses))
        self._log.finish(list(result.losses))
        self.trouble = ""
        limit = limit_in_bytes(LIMIT_VARIABLE)
        root = self.folder.parent
        removed = [] if limit is None else remove_beyond(root, limit, self.folder)
        self.kept = kept_text(self.folder, removed)
        log.info("kept in %s: %s", self.folder, self.kept)

    def _put_checkpoint_away(self, steps: int) -> None:
        """Behind a result: the last one becomes the state for more steps if that is to be kept."""
        try:
            if self.keep_state and checkpoint_steps(self.checkpoint) == steps:
                put_in_place(self.checkpoint, self.folder / STATE)
            self.checkpoint.unlink(missing_ok=True)
        except OSError as error:  # tried again when the result is asked for
            log.warning("%s could not be removed: %s", self.checkpoint, error.strerror or error)

    def _write_result(self, result: StageResult) -> None:
        files = {self.outcome: result_writer(result, self.digest)}
        try:
            write_whole(files)
        except OSError as error:
            if not is_in_the_way(self.checkpoint, result_tensors(result).values(), error):
                raise
            log.warning("%s gives its space to the result", self.checkpoint)
            self.checkpoint.unlink()
            write_whole(files)
        remember_sound(self.outcome)


def _unread(what: str, path: Path, error: OSError) -> ValueError:
    remedy = "allow reading it, or delete it to start this stage afresh"
    return ValueError(f"the {what} {path} cannot be read ({error}): {remedy}")
