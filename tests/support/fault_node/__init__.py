"""A custom node pack for a test's server: no nodes, two routes that break and measure trainings. On
such a server the same settings on the same shapes are estimated once, as in tests/nodes: the trace
takes as long as a third of these trainings.

POST /attndb_test/fault {"kind", "above", "after"}   what the next forward passes do; {} ends it
GET /attndb_test/memory                              bytes of live tensors, bytes of the process
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import sys
import time
from typing import Any

import psutil
import torch
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS: dict[str, type] = {}

_fault: dict[str, Any] = {}
_passed: set[int] = set()
PATIENCE_S = 300.0


@PromptServer.instance.routes.post("/attndb_test/fault")
async def set_fault(request: web.Request) -> web.Response:
    """kind: oom (in the forward pass, after it has allocated), oom_backward, nan, slow (a pause),
    wait (after each number of calls in `at`, until it is posted as `go`).
    above: only batches of more samples. after: only when that many calls went well."""
    _install()
    body = await request.json()
    if "go" in body:
        _passed.add(body["go"])
        return web.json_response(_fault)
    _fault.clear()
    _passed.clear()
    _fault.update(body, calls=0)
    return web.json_response(_fault)


@PromptServer.instance.routes.get("/attndb_test/fault")
async def get_fault(_: web.Request) -> web.Response:
    """waiting: after how many calls a training waits; null if none does."""
    return web.json_response({"waiting": _fault.get("waiting")})


@PromptServer.instance.routes.get("/attndb_test/memory")
async def memory(_: web.Request) -> web.Response:
    """Storage bytes of the tensors that Python can reach, and the process's resident bytes;
    pending: whether a /free waits to be done."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass
    storages: dict[int, int] = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):  # isinstance would ask lazy proxies
            try:
                storage = thing.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
            except (NotImplementedError, RuntimeError):
                continue
    return web.json_response(
        {
            "tensors": sum(storages.values()),
            "resident": psutil.Process().memory_info().rss,
            "pending": bool(PromptServer.instance.prompt_queue.get_flags(reset=False)),
        }
    )


def _module(name: str) -> Any:
    """A module of the pack, which the host loads under a name of its own."""
    ends = f"attndreambooth.{name}"
    [found] = [module for known, module in list(sys.modules.items()) if known.endswith(ends)]
    return found


def _install() -> None:
    """Puts the fault in front of the pack's forward pass, once."""
    module = _module("nodes.host.model.private_model")
    plain = module.PrivateModel.denoise
    if getattr(plain, "faulty", False):
        return
    estimate = _module("attndb.memory.estimate")
    beside = importlib.import_module(".estimated_once", __name__)  # FaultyServer puts it there
    once = beside.estimated_once(estimate.MemoryEstimator.__call__)
    estimate.MemoryEstimator.__call__ = once
    gc.collect()
    gc.freeze()  # what is there before any training has no tensors to be counted, a million times

    def denoise(self: Any, z_t: torch.Tensor, t: torch.Tensor, conditioning: Any) -> Any:
        output = plain(self, z_t, t, conditioning)
        kind = _fault.get("kind")
        if z_t.device.type == "meta":  # the estimate of a stage's memory, not the stage
            return output
        if kind is None or len(z_t) <= _fault.get("above", 0):
            return output
        _fault["calls"] += 1
        if _fault["calls"] <= _fault.get("after", 0):
            return output
        if kind == "slow":
            time.sleep(0.15)
            return output
        if kind == "wait":
            done, deadline = _fault["calls"] - 1, time.monotonic() + PATIENCE_S
            while done in _fault.get("at", ()) and done not in _passed:
                _fault["waiting"] = done
                if time.monotonic() > deadline:
                    raise RuntimeError(f"nobody said go after {done} calls")
                time.sleep(0.02)
            _fault.pop("waiting", None)
            return output
        if kind == "oom":
            raise torch.OutOfMemoryError("simulated in the forward pass")
        if kind == "oom_backward":
            output.register_hook(_no_memory)
            return output
        return output * torch.nan

    denoise.faulty = True  # type: ignore[attr-defined]
    module.PrivateModel.denoise = denoise


def _no_memory(_gradient: torch.Tensor) -> None:
    raise torch.OutOfMemoryError("simulated in the backward pass")
