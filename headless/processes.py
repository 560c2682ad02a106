"""Several processes of this program: each with subjects of its own, or all on each subject."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among those that were started with it."""

    rank: int = 0
    size: int = 1
    together: bool = False
    """Whether all of them train each subject (data parallel); else each has its own subjects."""
    group: int = 0
    """Of processes that train together: number of this group among several."""
    groups: int = 1
    """How many of them there are, each with subjects of its own."""

    @property
    def writes(self) -> bool:
        """Whether this one saves and tells."""
        return not self.together or self.rank == 0

    @property
    def of_torchrun(self) -> bool:
        """Whether there are others on cards of the same machine."""
        return self.size > 1 and "LOCAL_RANK" in os.environ

    def own(self, subjects: Sequence[T]) -> list[T]:
        """The subjects that this one trains."""
        if self.together:
            return list(subjects[self.group :: self.groups])
        return list(subjects[self.rank :: self.size])

    def join(self) -> None:
        """Finds the others, if they train together. Memory of cards is summed by NCCL, all else by
        gloo, which tells at once that a process has died."""
        if self.together and self.size > 1:
            import torch

            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            torch.distributed.init_process_group(backend)


def processes(
    part: str, together: bool, environ: Mapping[str, str], *, array: bool = False
) -> Processes:
    """From `--part K/N`, or from what torchrun says. `array`: each task of a SLURM array has
    subjects of its own as well. ValueError names what cannot be."""
    if part and together:
        raise ValueError("--part and --together: each subject is trained by one process, or by all")
    if part:
        rank, _, size = part.partition("/")
        if not (rank.isdigit() and size.isdigit() and int(rank) < int(size)):
            raise ValueError(f"--part {part}: say 0/4, 1/4, 2/4 or 3/4 for four parts")
        return Processes(int(rank), int(size))
    size = int(environ.get("WORLD_SIZE", "1"))
    if together and size == 1:
        raise ValueError("--together: start it with torchrun, e.g. torchrun --nproc-per-node 2")
    rank, (task, tasks) = int(environ.get("RANK", "0")), _task(environ) if array else (0, 1)
    if together:
        return Processes(rank, size, together, task, tasks)
    return Processes(task * size + rank, tasks * size)


def _task(environ: Mapping[str, str]) -> tuple[int, int]:
    """Number of this task of a SLURM array, from 0, and of its tasks; the only one without one.
    ValueError for an array whose numbers leave some out."""
    if "SLURM_ARRAY_TASK_ID" not in environ:
        return 0, 1
    own, count = int(environ["SLURM_ARRAY_TASK_ID"]), int(environ.get("SLURM_ARRAY_TASK_COUNT", 0))
    first, step = (
        int(environ.get(f"SLURM_ARRAY_TASK_{n}", d)) for n, d in (("MIN", 0), ("STEP", 1))
    )
    number, off = divmod(own - first, max(1, step))
    if off or not 0 <= number < count:
        raise ValueError(
            f"task {own} of a SLURM array of {count} from {first} on: which subjects are its own "
            "cannot be told. Number the array without gaps, e.g. --array=0-3, or say --part K/N"
        )
    return number, count
