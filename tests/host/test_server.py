"""The pack loads in a real ComfyUI, and the harness tells success from failure."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from support.graph import Graph
from support.outcome import ExecutionFailed, Interrupted, PromptRejected
from support.server import HostServer

from attndreambooth.devkit.checkpoints import make_checkpoint

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def checkpoint(server: HostServer, host) -> str:
    """File name of an SD 1.5-class checkpoint among the server's models."""
    return server.add_model(make_checkpoint("sd15"))


def stock_graph(checkpoint: str, **options) -> tuple[Graph, str]:
    graph = Graph()
    loaded = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint)
    saved = graph.sample(loaded[0], loaded[1], loaded[2], "a photo of a cat", **options)
    return graph, saved.id


def test_the_pack_is_loaded_without_a_complaint(server):
    log = server.log().split("got prompt")[0]  # other tests provoke errors on this server
    assert "IMPORT FAILED" not in log
    assert "Traceback" not in log, server.log_tail()


def test_a_stock_graph_makes_a_picture(server, checkpoint):
    graph, save = stock_graph(checkpoint)
    outcome = server.run(graph.prompt)
    [file] = outcome.outputs[save]["images"]
    picture = Image.open(io.BytesIO(server.view(file)))
    assert picture.size == (64, 64)
    assert len(picture.getcolors(64 * 64)) > 100
    assert save in outcome.executed()
    again = server.run(graph.prompt)
    assert save in again.cached()


def test_a_prompt_with_a_wrong_value_is_rejected_by_name(server):
    graph, _ = stock_graph("no-such-file.safetensors")
    with pytest.raises(PromptRejected) as caught:
        server.run(graph.prompt)
    assert "ckpt_name" in str(caught.value.errors["node_errors"]["1"])


def test_an_error_in_a_node_comes_with_its_message(server, checkpoint, host):
    lacking = server.add_model(make_checkpoint("sd15", without=("vae",)))
    graph, _ = stock_graph(lacking)
    with pytest.raises(ExecutionFailed, match="VAE is invalid") as caught:
        server.run(graph.prompt)
    assert caught.value.node_type == "VAEDecode"


def test_a_running_prompt_can_be_cancelled(server, checkpoint):
    graph, _ = stock_graph(checkpoint, steps=1000, seed=2)

    def cancel(event):
        if event["type"] == "progress" and event["data"]["value"] >= 2:
            server.interrupt()

    with pytest.raises(Interrupted):
        server.run(graph.prompt, on_event=cancel)
    graph, save = stock_graph(checkpoint, seed=3)
    assert server.run(graph.prompt).outputs[save]["images"]
