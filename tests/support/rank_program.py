"""`python tests/support/rank_program.py FOLDER RANK SIZE`: one process of several that train the
tiny model together. What came of every scenario goes into FOLDER/SCENARIO-RANK.json or
.safetensors."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import support  # noqa: F401  (makes the pack importable)

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.methods.registry import method_of
from attndreambooth.attndb.training.callback import NoCallback
from attndreambooth.attndb.training.ranks import Ranks
from attndreambooth.attndb.training.run import Run
from attndreambooth.attndb.training.run_files import result_tensors
from attndreambooth.attndb.training.trainer import train
from attndreambooth.devkit.tiny_model import tiny_model
from support.prior import VECTORS, Batches, stage

STAGES = {
    "stage1": (stage(1), 0),
    "stage2": (stage(2), 4),
    "stage3": (stage(3, weight_anchor=3.0, optimizer=OptimizerConfig(learning_rate=1e-5)), 4),
    "plain": (stage(3), 0),
    "lora": (stage(2, lora_rank=2, prior_prediction=0.5), 0),
}
"""Settings, and prior samples of a batch, by scenario."""
TWO_PARTS = ("stage1", "plain")
"""Two processes share the batch of four in two parts, and there is nothing else."""
REQUEST = {"config": {"seed": 1, "steps": 3}}


class Raising(NoCallback):
    """Raises after a step, as Cancel does; or ends the process, as a power cut does."""

    def __init__(self, step: int, dies: bool = False) -> None:
        self.step, self.dies = step, dies

    def __call__(self, loss, training):
        if loss.step == self.step:
            if self.dies:
                os._exit(9)
            raise KeyboardInterrupt


def trained(
    name: str,
    ranks: Ranks | None = None,
    *,
    callback=None,
    run=None,
    model=None,
    micro_batch=0,
    batches=None,
):
    """What a scenario's training gives."""
    config, prior = STAGES[name]
    config = config.with_(micro_batch=micro_batch)
    method, start = method_of(config), {"clip_l": VECTORS}
    source = batches or Batches(prior)
    return train(model or tiny_model(), method, source, start, callback, run, ranks)


class ShortOfMemory:
    """Batches that one process has no memory to encode, so many times that it tries."""

    def __init__(self, rank: int, prior: int, times: int) -> None:
        self._batches, self._failures = Batches(prior), times * (rank == 1)

    def __getitem__(self, step: int):
        if step == 1 and self._failures:
            self._failures -= 1
            raise torch.OutOfMemoryError("no more")
        return self._batches[step]


def short_of_memory(rank: int, above: int):
    """A model that runs out of memory in one process, with more samples than so many."""
    model = tiny_model()
    plain = model.denoise

    def denoise(z_t, t, conditioning):
        if rank == 1 and len(z_t) > above:
            raise torch.OutOfMemoryError("no more")
        return plain(z_t, t, conditioning)

    model.denoise = denoise
    return model


def error_of(work) -> str:
    """What it raises, as text."""
    try:
        work()
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main(folder: Path, rank: int, size: int) -> None:
    meet = f"file://{folder.as_posix()}/meet"
    dist.init_process_group(
        "gloo", init_method=meet, rank=rank, world_size=size, timeout=timedelta(seconds=300)
    )
    ranks, told = Ranks(together=True), {}
    for name in STAGES:
        result = trained(name, ranks)
        save_file(result_tensors(result), folder / f"{name}-{rank}.safetensors")
        told[name] = [list(loss.shares.values()) for loss in result.losses]
    memory = trained("stage2", ranks, model=short_of_memory(rank, 1))
    told["memory"] = [list(loss.shares.values()) for loss in memory.losses]
    prior = STAGES["stage2"][1]
    encoded = trained("stage2", ranks, batches=ShortOfMemory(rank, prior, 1))
    told["memory for a batch"] = [list(loss.shares.values()) for loss in encoded.losses]
    never = ShortOfMemory(rank, prior, 1000)
    told["never"] = error_of(lambda: trained("stage2", Ranks(together=True), batches=never))
    other = {"config": {"seed": 1 + rank, "steps": 3}}
    told["same"] = error_of(lambda: ranks.check_same(REQUEST))
    told["differs"] = error_of(lambda: ranks.check_same(other))
    kept = folder / "kept"
    with Run(kept, REQUEST) if rank == 0 else Nothing() as run:
        stop = Raising(1) if rank == 0 else None
        told["stopped"] = error_of(
            lambda: trained("stage2", Ranks(together=True), callback=stop, run=run)
        )
    begun_alone = folder / "begun"
    if rank == 0:
        with Run(begun_alone, REQUEST) as run:
            error_of(lambda: trained("stage2", callback=Raising(1), run=run))
    with Run(begun_alone, REQUEST) if rank == 0 else Nothing() as run:
        result = trained("stage2", Ranks(together=True), run=run)
    save_file(result_tensors(result), folder / f"begun-{rank}.safetensors")
    (folder / f"told-{rank}.json").write_text(json.dumps(told))
    begun = time.monotonic()
    dies = Raising(0, dies=True) if rank == 1 else None
    with Run(folder / "dead", REQUEST) if rank == 0 else Nothing() as run:
        dead = error_of(lambda: trained("stage2", Ranks(together=True), callback=dies, run=run))
    words = {"dead": dead, "seconds": time.monotonic() - begun}
    (folder / f"dead-{rank}.json").write_text(json.dumps(words))
    os._exit(0)  # the group cannot be left in good order any more


class Nothing:
    """No run folder."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
