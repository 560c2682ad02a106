"""Time and memory of steps: taken in turn, so that other work on the machine hits all of them."""

from __future__ import annotations

import gc
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

MB = 1e6


@dataclass(frozen=True)
class Timing:
    """Medians over rounds."""

    wall: float
    """Seconds on the clock."""
    processor: float
    """Seconds of CPU time of this process, all threads: hardly moved by other processes."""


def time_in_turn(
    steps: Mapping[str, Callable[[], object]], rounds: int, device: torch.device, warmup: int = 0
) -> dict[str, Timing]:
    """Timing of each step: A B C, A B C, ... for `rounds`, after `warmup` rounds of no account."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for round_ in range(warmup + rounds):
        for name, step in steps.items():
            synchronize(device)
            wall, processor = time.perf_counter(), time.process_time()
            step()
            synchronize(device)
            if round_ >= warmup:
                taken[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return {
        name: Timing(*(statistics.median(column) for column in zip(*pairs, strict=True)))
        for name, pairs in taken.items()
    }


def synchronize(device: torch.device) -> None:
    """Waits for a card to finish."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def collect(device: torch.device) -> None:
    """Gives back what nobody holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


class PeakMemory:
    """The most memory in use inside a `with`, in MB: allocated on a card, resident on the CPU.

    On the CPU it is what Linux notes itself; on other systems a thread looks every 2 ms. `baseline`
    bytes (the interpreter with its libraries) are taken off.
    """

    def __init__(self, device: torch.device, baseline: int = 0) -> None:
        self._device = device
        self._baseline = baseline
        self._done = threading.Event()
        self._peak = 0

    @property
    def megabytes(self) -> float:
        """After the `with`."""
        return self._peak / MB

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._noted = _forget_high_water()
            self._peak = psutil.Process().memory_info().rss
            if not self._noted:
                self._watcher = threading.Thread(target=self._watch, daemon=True)
                self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self._peak = torch.cuda.max_memory_allocated(self._device)
            return
        if self._noted:
            self._peak = max(self._peak, _high_water())
        else:
            self._done.set()
            self._watcher.join()
        self._peak -= self._baseline

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._done.wait(0.002):
            self._peak = max(self._peak, process.memory_info().rss)


def _forget_high_water() -> bool:
    """Starts Linux's note of the most memory that this process had afresh; False elsewhere."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _high_water() -> int:
    """The most resident bytes since then."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]


def said_apart(script: str, *arguments: str, frugal: bool = False) -> Any:
    """The JSON in the last line that a script prints in a fresh process. `frugal`, to look at
    memory: freed blocks go back to the system at once, which takes time."""
    environ = {**os.environ, **({"MALLOC_MMAP_THRESHOLD_": "65536"} if frugal else {})}
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def matmul_ceiling(device: torch.device, dtype: torch.dtype, side: int = 8192) -> float:
    """FLOP/s of one large square matrix product: what the device gives in practice."""
    a = torch.randn(side, side, device=device, dtype=dtype)
    timing = time_in_turn({"product": lambda: a @ a}, rounds=5, device=device, warmup=2)
    return 2.0 * side**3 / timing["product"].wall


def floating_point_operations(step: Callable[[], object]) -> int:
    """What matrix products, convolutions and attention of one call come to."""
    kernels = torch.ops.aten
    attention = {  # the CPU's fused attention; PyTorch counts the cards' itself
        kernels._scaled_dot_product_flash_attention_for_cpu: _attention_flop,
        kernels._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flop,
    }
    with FlopCounterMode(display=False, custom_mapping=attention) as counter:
        step()
    return counter.get_total_flops()


def _attention_flop(q: Sequence[int], k: Sequence[int], *_: Any, **__: Any) -> int:
    """Q K^T and A V of shapes (B, H, P, D) and (B, H, T, D)."""
    batch, heads, pixels, width = q
    return 2 * 2 * batch * heads * pixels * k[2] * width


def _attention_backward_flop(
    _grad: Sequence[int], q: Sequence[int], k: Sequence[int], *_: Any, **__: Any
) -> int:
    """Q K^T once more, and the gradients of A, V, Q and K."""
    return 5 * _attention_flop(q, k) // 2


def describe(device: torch.device) -> str:
    """The device, by name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} of {psutil.cpu_count()} threads"
