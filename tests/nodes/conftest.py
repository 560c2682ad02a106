"""The host's real classes on small checkpoints, in a home of their own; nodes run as it does."""

from __future__ import annotations

import asyncio
import inspect
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.stages import STAGES, Wires, dataset, small

from attndreambooth.devkit.estimated_once import estimated_once


@pytest.fixture(scope="session")
def home(host, tmp_path_factory) -> Iterator[Path]:
    """Folders of the host's files, apart from any real ones."""
    import folder_paths

    root = tmp_path_factory.mktemp("home")
    before = dict(folder_paths.folder_names_and_paths)
    inputs, outputs = folder_paths.get_input_directory(), folder_paths.get_output_directory()
    for kind in ("embeddings", "loras", "input"):
        (root / kind).mkdir()
        if kind != "input":
            extensions = folder_paths.folder_names_and_paths[kind][1]
            folder_paths.folder_names_and_paths[kind] = ([str(root / kind)], extensions)
    folder_paths.set_input_directory(str(root / "input"))
    yield root
    folder_paths.folder_names_and_paths.update(before)
    folder_paths.set_input_directory(inputs)
    folder_paths.set_output_directory(outputs)


@pytest.fixture
def nothing_kept_before(home):
    """Names of runs are of what is trained, so that another test may have kept the same."""
    yield
    for kind in ("embeddings", "loras"):
        shutil.rmtree(home / kind / "attndb", ignore_errors=True)


@pytest.fixture(autouse=True)
def output(home, tmp_path) -> Path:
    """An output folder per test: no training is answered from another test's run."""
    import folder_paths

    folder_paths.set_output_directory(str(tmp_path / "output"))
    folder_paths.filename_list_cache.clear()
    return tmp_path / "output"


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    """As the host runs nodes."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="session")
def whole_estimate(host) -> Callable[..., Any]:
    """The memory estimate that runs its trace every time."""
    from attndreambooth.attndb.memory.estimate import MemoryEstimator

    return MemoryEstimator.__call__


@pytest.fixture(scope="session")
def one_estimate(whole_estimate) -> Callable[..., Any]:
    """The same, which traces the same shapes and settings once."""
    return estimated_once(whole_estimate)


@pytest.fixture(autouse=True)
def estimates(one_estimate, monkeypatch) -> None:
    """The same shapes and settings are traced once: a trace costs more than a short training."""
    from attndreambooth.attndb.memory.estimate import MemoryEstimator

    monkeypatch.setattr(MemoryEstimator, "__call__", one_estimate)


@pytest.fixture
def every_trace(estimates, whole_estimate, monkeypatch) -> None:
    """Here every training is estimated by a trace of its own."""
    from attndreambooth.attndb.memory.estimate import MemoryEstimator

    monkeypatch.setattr(MemoryEstimator, "__call__", whole_estimate)


@pytest.fixture(scope="session")
def sd15(home) -> Wires:
    """A small SD 1.5."""
    return small("sd15")


@pytest.fixture(scope="module")
def card(request) -> Any:
    """The kind of card that is pretended: CUDA's, unless a test names another."""
    from attndreambooth.devkit.kinds_of_card import KINDS

    named = KINDS[getattr(request, "param", "cuda")]
    if not named.can_be_pretended:
        pytest.skip("its device is told to PyTorch's library for Linux")
    return named


@pytest.fixture(scope="module")
def sd15_there(home, card) -> Wires:
    """The small SD 1.5 of a host with a pretended card."""
    from attndreambooth.devkit.pretend_card import pretend_card

    with torch.inference_mode(), pretend_card(kind=card):
        return small("sd15")


@pytest.fixture(scope="session")
def sd21(home) -> Wires:
    """A small SD 2.1."""
    return small("sd21")


@pytest.fixture(scope="session")
def run(host) -> Callable[..., tuple[Any, ...]]:
    """Runs a node by its id as the host would: widgets not named have their default."""
    from attndreambooth.nodes import all_nodes

    nodes = {node.define_schema().node_id: node for node in all_nodes()}

    def run_node(node_id: str, **values: Any) -> tuple[Any, ...]:
        node = nodes[node_id]
        known = {i.id: i for i in node.define_schema().inputs}
        assert not set(values) - set(known), set(values) - set(known)
        defaults = {
            n: i.default for n, i in known.items() if getattr(i, "default", None) is not None
        }
        result = node.execute(**{**defaults, **values})
        if inspect.isawaitable(result):
            result = asyncio.run(result)
        return result.args

    return run_node


@pytest.fixture(scope="module")
def photos(run) -> tuple[Any, ...]:
    """Of the embedded model's *hatted-robot*: IMAGE, category, MASK."""
    with torch.inference_mode():
        return run("AttnDBMicroConcept", concept="hatted-robot")


@pytest.fixture(scope="module")
def encoder(run) -> Any:
    """The micro CLIP."""
    with torch.inference_mode():
        return run("AttnDBLoadImageEncoder", encoder="toy model")[0]


@pytest.fixture(scope="session")
def train(run) -> Callable[..., tuple[Any, ...]]:
    """Runs a stage node with small settings: concept, model, clip, losses, loss_map."""

    def train_stage(number: int, wires: Wires, concept: Any = None, **changes: Any) -> Any:
        node, rate = STAGES[number]
        small = {
            "steps": 2,
            "batch_size": 2,
            "resolution": 64,
            "learning_rate": rate,
            "seed": 7,
            "dataset": changes.pop("dataset", None) or dataset(run),
            "concept": concept,
        }
        return run(node, **{**wires.named(), **small, **changes})

    return train_stage


@pytest.fixture(scope="session")
def chain(sd15, train, tmp_path_factory) -> tuple[Any, Any, Any]:
    """Concepts of SD 1.5 after stages 1, 2 and 3, two steps each, on the plain wires."""
    import folder_paths

    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path_factory.mktemp("chain")))
    with torch.inference_mode():
        one = train(1, sd15)[0]
        two = train(2, sd15, one)[0]
        three = train(3, sd15, two)[0]
    folder_paths.set_output_directory(before)
    return one, two, three


@pytest.fixture(scope="session")
def trained(chain) -> Any:
    """A finished concept, to be applied and saved by many tests."""
    return chain[2]


@pytest.fixture
def privately(monkeypatch):
    """The private model of the newest training in this test, as it was left."""
    from attndreambooth.attndb.models.placement import place
    from attndreambooth.attndb.training import session

    kept: dict[str, Any] = {}
    plain = session.train

    def keep(backend, *args, **kwargs):
        kept["backend"] = backend
        kept["result"] = plain(backend, *args, **kwargs)
        place(backend.unet, backend.device)  # of a card what was frozen waits in main memory again
        return kept["result"]

    monkeypatch.setattr(session, "train", keep)
    return kept
