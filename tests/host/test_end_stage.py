"""*End this stage*: the graph goes on with what was learned, and a later queue finds the same."""

from __future__ import annotations

import json

import pytest
from safetensors import safe_open
from support.graph import Graph
from support.training import FaultyServer, losses, training

from attndreambooth.attndb.artifacts.concept_files import RECORD_KEY

pytestmark = [pytest.mark.host, pytest.mark.slow]

ADDRESS = "/attndreambooth/end_stage"
END, STEPS = 3, 9


def asked(steps: int = STEPS) -> tuple[dict, str]:
    """A prompt that trains and saves, and the node that trains."""
    graph = Graph()
    node = training(graph, save="ended", steps=steps, precision="auto")
    return graph.prompt, node.id


def test_the_graph_goes_on_with_what_was_learned(faulty: FaultyServer):
    prompt, node = asked()
    answers = []
    with faulty.pausing({END: lambda: answers.append(faulty.request(ADDRESS, {"node": node}))}):
        outcome = faulty.run(prompt)
    assert [status for status, _ in answers] == [200]
    done = len(losses(faulty.run_folder()))
    assert END <= done < STEPS
    assert (
        f"was ended at step {done} of {STEPS}; to train the rest delete output/"
        in (outcome.texts()[-1])
    )
    path = faulty.base / "models" / "loras" / "ended.safetensors"
    with safe_open(str(path), "np") as file:
        [stage] = json.loads(file.metadata()[RECORD_KEY])["stages"]
        found = {name: file.get_tensor(name).tobytes() for name in file.keys()}
    assert (stage["steps"], stage["after_steps"]) == (STEPS, done)

    faulty.free()  # asked for again it is answered, as the stages behind it count on it
    again = faulty.run(prompt)
    assert f"was ended at step {done} of {STEPS}" in again.texts()[-1]
    assert f"kept in output/attndb/{faulty.run_folder().name}" in again.texts()[-1]
    assert len(losses(faulty.run_folder())) == done

    faulty.forget("ended")
    faulty.run(asked(done)[0])
    with safe_open(str(path), "np") as file:
        assert found == {n: file.get_tensor(n).tobytes() for n in file.keys()}


@pytest.mark.parametrize("body", [{"node": "1"}, {"node": ""}, {}])
def test_a_node_that_trains_nothing_is_refused(faulty: FaultyServer, body):
    status, answer = faulty.request(ADDRESS, body)
    assert (status, answer) == (409, b"this node trains nothing at the moment")


@pytest.mark.parametrize("body", [[], 7])
def test_what_names_no_node_is_refused(faulty: FaultyServer, body):
    status, answer = faulty.request(ADDRESS, body)
    assert status == 400 and b'{"node": "12"}' in answer
