"""RenderedAhead: the crops of the next steps are rendered while a step computes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from .batch import Batch

AHEAD = 2
"""Steps whose crops are rendered before they are asked for: what is held in memory."""

Job = TypeVar("Job")
Done = TypeVar("Done")


def done_ahead(
    work: Callable[[Job], Done], jobs: Sequence[Job], ahead: int = 4
) -> Generator[Done, None, None]:
    """`work` of every job, in order, the next ones done in threads while one is used. An error of a
    thread is raised where its job is asked for. To be closed: then what nobody asked for is
    dropped, and the one at work is waited for."""
    workers = max(1, min(ahead, (os.cpu_count() or 2) - 1))
    pool = ThreadPoolExecutor(workers, thread_name_prefix="attndb-render")
    coming: deque[Future[Done]] = deque()
    try:
        for number in range(len(jobs)):
            while len(coming) < ahead and number + len(coming) < len(jobs):
                coming.append(pool.submit(work, jobs[number + len(coming)]))
            yield coming.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class RenderedSource(Protocol):
    """A BatchSource in two parts: what any thread may do, and what the model has to."""

    def render(self, step: int, /) -> Any: ...

    def encode(self, step: int, rendered: Any, /) -> Batch: ...

    def fill(self, progress: Callable[[int, int], None] | None = None) -> bool: ...


class RenderedAhead:
    """The batches of a source, byte for byte, with the rendering done ahead in worker threads.

    A context manager: outside of it nothing runs ahead, and what is asked for is rendered then.
    Leaving it, for whatever reason, ends the threads: crops that nobody will ask for are dropped,
    the one at work is waited for. An error in a thread is raised where its step is asked for, and
    asking again renders again. Encoding stays in the caller's thread.
    """

    def __init__(
        self, source: RenderedSource, steps: int, *, ahead: int = AHEAD, workers: int = 0
    ) -> None:
        """`steps`: there are no later ones. workers: threads; 0: one per step ahead, and a core
        left to the step."""
        self._source = source
        self._steps = steps
        self._ahead = ahead
        self._workers = workers or max(1, min(ahead, (os.cpu_count() or 2) - 1))
        self._pool: ThreadPoolExecutor | None = None
        self._jobs: dict[int, Future[Any]] = {}

    def __enter__(self) -> RenderedAhead:
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="attndb-render")
        return self

    def __exit__(self, *_: object) -> None:
        pool, self._pool = self._pool, None
        self._jobs.clear()
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def fill(self, progress: Callable[[int, int], None] | None = None) -> bool:
        """As the source's own."""
        return self._source.fill(progress)

    def __getitem__(self, step: int) -> Batch:
        job = self._jobs.pop(step, None)
        if self._pool is not None:
            self._render_next(self._pool, step + 1)
        rendered = self._source.render(step) if job is None else job.result()
        return self._source.encode(step, rendered)

    def _render_next(self, pool: ThreadPoolExecutor, first: int) -> None:
        """The coming steps at work; others, left over from a jump, dropped."""
        coming = range(first, min(first + self._ahead, self._steps))
        for step in [step for step in self._jobs if step not in coming]:
            self._jobs.pop(step).cancel()
        for step in coming:
            if step not in self._jobs:
                self._jobs[step] = pool.submit(self._source.render, step)
