"""Capture: the handle between a model that draws and the nodes that show where it looked.

A host asks for a recorder when sampling begins and gives it back when it ends. Each finished run
is kept with the latent that it made, so that maps are found by the latent they belong to: the
same capture may serve several samplers, a picture that was cached, and a batch that was cut.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .prompt_words import Word
from .recorder import AttentionRecord, MapRecorder
from .word_maps import MapSelection, WordMaps, word_maps_of

log = logging.getLogger(__name__)

_KEPT_RUNS = 32
_KEPT_BYTES = 1 << 30
_NO_NUMBERS = (
    "picture {} of samples holds NaN, which decodes to black: the model failed in half precision; "
    "start ComfyUI with --force-upcast-attention or --force-fp32, and draw again"
)


@dataclass(frozen=True)
class FinishedRun:
    """One sampling run: the latent it made (B, C, Y, X) and what was recorded."""

    output: Tensor
    record: AttentionRecord
    note: str = ""
    """What the person should know, empty if all is well."""


class Capture:
    """Records of the runs of one captured model, newest last.

    At most 32 runs and 1 GiB are kept in main memory; the oldest go first.
    """

    def __init__(
        self, *, prompt: str, words: Sequence[Word], slices: int = 10, keep_heads: bool = False
    ) -> None:
        self.prompt = prompt
        self.words = tuple(words)
        self.slices = slices
        self.keep_heads = keep_heads
        self._runs: list[FinishedRun] = []
        self._lock = threading.Lock()

    def recorder(self, latent_size: tuple[int, int]) -> MapRecorder:
        """A fresh recorder for a run on a latent of this height and width."""
        return MapRecorder(
            self.words, latent_size=latent_size, slices=self.slices, keep_heads=self.keep_heads
        )

    def finish(
        self,
        recorder: MapRecorder,
        output: Tensor,
        *,
        continues: Tensor | None = None,
        note: str = "",
    ) -> None:
        """Keeps a run with the latent it made.

        `continues` is the latent it began with, if it added no noise of its own: when a kept run
        made these pictures, or each of them, both are one (two samplers in a row), and their maps
        are added.
        """
        run = FinishedRun(output.detach().float().cpu(), recorder.finish(), note)
        with self._lock:
            self._runs.append(run if continues is None else self._begun(continues, run))
            while len(self._runs) > _KEPT_RUNS or (
                len(self._runs) > 1 and self._bytes() > _KEPT_BYTES
            ):
                self._runs.pop(0)

    @property
    def runs(self) -> tuple[FinishedRun, ...]:
        """The finished runs, oldest first."""
        return tuple(self._runs)

    def maps(self, latent: Tensor, selection: MapSelection) -> tuple[WordMaps, str]:
        """The chosen maps of the pictures in `latent` (B, C, Y, X), in their order, and a note.

        ValueError if a picture was not drawn by the captured model, or nothing is left to show.
        """
        record, note = self.find(latent)
        if note and not record.sums:
            raise ValueError(f"nothing was recorded. {note}")
        return word_maps_of(record, selection), note

    def find(self, latent: Tensor) -> tuple[AttentionRecord, str]:
        """The record of the pictures in `latent` (B, C, Y, X), in their order, and a note.

        Each picture is looked for on its own, so parts of a batch and batches joined from several
        runs work. ValueError if a picture was not drawn by the captured model.
        """
        found = self._places(latent)
        if len(found) < len(latent):
            check_numbers(latent[: len(found) + 1])
            raise ValueError(self._unknown(len(found)))
        return _joined(found), _notes([run for run, _ in found])

    def _place_of(self, sample: Tensor) -> tuple[FinishedRun, int] | None:
        for run in reversed(self._runs):
            if run.output.shape[1:] != sample.shape:
                continue
            for index, made in enumerate(run.output):
                if torch.equal(made.to(sample.dtype), sample):
                    return run, index
        return None

    def _places(self, latent: Tensor) -> list[tuple[FinishedRun, int]]:
        """Where the pictures were made, in their order, up to the first that is not known."""
        found = []
        for sample in latent.detach().cpu():
            place = self._place_of(sample)
            if place is None:
                break
            found.append(place)
        return found

    def _begun(self, latent: Tensor, run: FinishedRun) -> FinishedRun:
        """A run that went on with a latent, with what was recorded before it."""
        places = self._places(latent)
        if not places or len(places) < len(latent):
            return run
        try:
            record = _joined(places).add(run.record)
        except ValueError:  # pictures of unlike runs
            return run
        return FinishedRun(run.output, record, _notes([*(r for r, _ in places), run]))

    def _bytes(self) -> int:
        return sum(run.record.bytes for run in self._runs)

    def _unknown(self, number: int) -> str:
        if not self._runs:
            return (
                "no sampling run was captured: connect the MODEL output of Capture Attention to "
                "the sampler whose LATENT is connected here. If it is connected, the host kept the "
                "picture and not its maps: change the sampler's seed, so that it is drawn anew"
            )
        return (
            f"picture {number + 1} of samples was not drawn by the captured MODEL in any of the "
            f"{len(self._runs)} run(s) that are kept: connect the LATENT output of the sampler "
            "itself (not upscaled or edited), or change its seed, so that it is drawn anew"
        )


def check_numbers(latent: Tensor) -> None:
    """ValueError with the remedy if a picture of `latent` (B, C, Y, X) holds NaN."""
    for number, sample in enumerate(latent):
        if sample.isnan().any():
            raise ValueError(_NO_NUMBERS.format(number + 1))


def _joined(places: Sequence[tuple[FinishedRun, int]]) -> AttentionRecord:
    """The record of pictures by where they were made. ValueError if their runs are too unlike."""
    parts: list[tuple[FinishedRun, list[int]]] = []
    for run, index in places:
        if parts and parts[-1][0] is run:
            parts[-1][1].append(index)
        else:
            parts.append((run, [index]))
    record = parts[0][0].record.select(parts[0][1])
    for run, samples in parts[1:]:
        record = record.concat(run.record.select(samples))
    return record


def _notes(runs: Sequence[FinishedRun]) -> str:
    """Each note once."""
    return " ".join(dict.fromkeys(run.note for run in runs if run.note))
