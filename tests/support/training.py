"""Short trainings of the embedded model in a real server, faults in them, and what they leave."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attndreambooth.devkit import estimated_once
from support.disk import Disk
from support.graph import Graph, Node
from support.outcome import HostError
from support.server import HostServer

STAGES = {
    2: "AttnDBStage2TrainCrossAttention",
    3: "AttnDBStage3TrainUNet",
}


class FaultyServer(HostServer):
    """A server with a pack that breaks trainings on demand; its run folders and models may lie on
    small disks."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        node = Path(__file__).parent / "fault_node"
        shutil.copytree(
            node, base / "custom_nodes" / node.name, ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy2(estimated_once.__file__, base / "custom_nodes" / node.name)
        self.disks: dict[str, Disk] = {}
        """By folder below `base`."""

    def start(self) -> None:
        super().start()
        self.fault(None)  # its pack is in place from the first training on

    def fault(self, kind: str | None = None, *, above: int = 0, after: int = 0) -> None:
        """What forward passes do from now on; None: what they should. above: only those of more
        samples; after: only when so many of them went well."""
        fault = {} if kind is None else {"kind": kind, "above": above, "after": after}
        status, body = self.request("/attndb_test/fault", fault)
        if status != 200:
            raise HostError(f"fault: {status} {body!r}\n{self.log_tail()}")

    @contextmanager
    def pausing(self, changes: dict[int, Callable[[], object]]) -> Iterator[None]:
        """A training of one forward pass a step that is run inside waits after each of these
        numbers of steps until its change was made, however slow the machine is."""
        self.request("/attndb_test/fault", {"kind": "wait", "at": list(changes)})
        left, over = dict(changes), threading.Event()

        def watch() -> None:
            while left and not over.wait(0.05):
                now = self.get("/attndb_test/fault")["waiting"]
                if now in left:
                    left.pop(now)()
                    self.request("/attndb_test/fault", {"go": now})

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            yield
            assert not left, f"the training never got to {list(left)}"
        finally:
            over.set()
            watching.join()
            self.fault(None)

    def freed_memory(self) -> dict[str, int]:
        """Bytes of live tensors and of the process, after /free has done its work."""
        readings: list[dict[str, int]] = []
        for attempt in range(100):
            time.sleep(0.3)  # the host overlooks a request that comes just after a prompt
            if attempt % 4 == 0:
                self.ask_to_free()
            readings.append(self.get("/attndb_test/memory"))
            last = readings[-2:]
            if len(last) == 2 and len({now["tensors"] for now in last}) == 1:
                if not any(now["pending"] for now in last):
                    return last[-1]
        raise HostError(f"the server's tensors do not settle: {readings[-2:]}")

    def forget(self, name: str) -> None:
        """As if a training and its saved concept had never been: the next one starts afresh."""
        self.free()
        shutil.rmtree(self.base / "output" / "attndb", ignore_errors=True)
        for kind in ("embeddings", "loras"):
            for path in (self.base / "models" / kind).glob(f"{name}.safetensors"):
                path.unlink()

    def run_folder(self) -> Path:
        """The only run there is."""
        [folder] = self.base.glob("output/attndb/*")
        return folder


def training(
    graph: Graph, stage: int = 2, *, save: str = "", show: bool = False, **widgets: Any
) -> Node:
    """A stage on the embedded model; its concept saved, its loss curve shown."""
    base = graph.add("AttnDBLoadMicroModel")
    photos = graph.add("AttnDBMicroConcept", concept="hatted-robot")
    dataset = graph.add(
        "AttnDBConceptDatasetFromImages",
        images=photos[0],
        category=photos[1],
        placeholder="<my-robot>",
        template="a photo of a {}",
    )
    values: dict[str, Any] = {
        "steps": 12,
        "learning_rate": 1e-4,
        "batch_size": 4,
        "seed": 3,
        "resolution": 64,
        "micro_batch": 0,
        "precision": "fp32",
        "augmentation": "reference",
        "mask_fill": True,
        "latent_pool": 0,
        "category_tie": "last word",
        "checkpoint_every": 5,
    }
    node = graph.add(
        STAGES[stage],
        model=base[0],
        clip=base[1],
        vae=base[2],
        dataset=dataset[0],
        **{**values, **widgets},
    )
    if save:
        graph.add("AttnDBSaveConcept", concept=node[0], name=save)
    if show or not save:
        graph.add("PreviewImage", images=node[3])
    return node


def losses(folder: Path) -> list[dict[str, float]]:
    """The loss log of a run."""
    lines = (folder / "losses.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def kept(base: Path, name: str) -> dict[str, bytes]:
    """What trainings and Save Concept left, by path below the server's base; no pictures."""
    files = [*base.glob(f"models/*/{name}.safetensors"), *base.glob("output/attndb/*/*")]
    return {
        str(file.relative_to(base)): file.read_bytes()
        for file in files
        if file.is_file() and file.name != "lock"
    }


def unfinished_files(base: Path) -> list[Path]:
    """Temporary files, and safetensors files that are not whole."""
    from safetensors import SafetensorError, safe_open

    found = [*base.glob("output/**/*.part"), *base.glob("models/**/*.part")]
    for pattern in ("output/attndb/**/*.safetensors", "models/*/*.safetensors"):
        for path in base.glob(pattern):
            try:
                with safe_open(str(path), "np"):
                    pass
            except SafetensorError:
                found.append(path)
    return found
