"""A real ComfyUI server with the pack in its `custom_nodes`, as a user would have it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attndreambooth.devkit.front_ends import FRONT_END
from attndreambooth.devkit.host_path import host_root, on_cpu
from support.install import PACK_FOLDER, install_pack
from support.outcome import ExecutionFailed, HostError, Interrupted, Outcome, PromptRejected
from support.page_text import as_seen

START_SECONDS = 240
LOG_LINES = 60
JOB_SECONDS = 600
"""After so long a job is cancelled, and its test has failed."""
CANCEL_SECONDS = 60
"""After so long a server that does not cancel is ended, and its log shows where it stood."""
ABORT_SECONDS = 30
"""After so long one that does not end when it is told to is killed."""


class HostServer:
    """ComfyUI in a process of its own, its data below `base`; `with HostServer(base) as server:`.

    arguments: more command-line arguments (default: the device of the tests); environ: more
    environment variables.
    """

    def __init__(
        self,
        base: Path,
        *,
        arguments: tuple[str, ...] | None = None,
        environ: dict[str, str] | None = None,
        with_pack: bool = True,
    ):
        self.base = base
        self.host = host_root()
        self.arguments = (("--cpu",) if on_cpu() else ()) if arguments is None else arguments
        self.environ = environ or {}
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.log_path = base / "server.log"
        for name in ("models/checkpoints", "models/embeddings", "models/loras", "custom_nodes"):
            (base / name).mkdir(parents=True, exist_ok=True)
        for name in ("input", "output", "temp", "user"):
            (base / name).mkdir(exist_ok=True)
        if with_pack and not (base / "custom_nodes" / PACK_FOLDER).exists():
            install_pack(base / "custom_nodes")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> HostServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ------------------------------------------------------------ the process

    def start(self) -> None:
        """Start it and wait until it answers."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        # A database of its own (one in memory is another one to each of an older host's threads),
        # no nodes that call a service, no browser window.
        command = [sys.executable, "-X", "faulthandler", str(self.host / "main.py")]
        command += ["--port", str(self.port)]
        database = self.base / "user" / "comfyui.db"
        command += ["--base-directory", str(self.base)]
        command += ["--database-url", f"sqlite:///{database.as_posix()}"]
        command += ["--disable-api-nodes", "--disable-auto-launch", *self.arguments]
        if page := os.environ.get(FRONT_END):
            command += ["--front-end-root", page]
        environ = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1", **self.environ}
        environ.pop("PYTHONPATH", None)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.base, env=environ, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self.process.poll() is not None:
                raise HostError(f"the server ended ({self.process.returncode})\n{self.log_tail()}")
            try:
                self.get("/system_stats", timeout=2)
                return
            except (HostError, OSError):
                if time.monotonic() > deadline:
                    self.kill()
                    raise HostError(f"no answer in {START_SECONDS} s\n{self.log_tail()}") from None
                time.sleep(0.2)

    def stop(self) -> None:
        """End it, politely first."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it at once (`kill -9`), as a crash or a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)

    def abort(self) -> None:
        """End it at once; its log shows the stacks of all its threads (not on Windows)."""
        if self.process is None or os.name == "nt":
            return self.kill()
        self.process.send_signal(signal.SIGABRT)
        try:
            self.process.wait(ABORT_SECONDS)
        except subprocess.TimeoutExpired:  # e.g. it writes its memory to a core file
            self.kill()

    def log(self) -> str:
        """Everything that the server has written so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def log_tail(self, lines: int = LOG_LINES) -> str:
        tail = "\n".join(self.log().splitlines()[-lines:])
        return f"--- last {lines} lines of {self.log_path} ---\n{tail}"

    # ------------------------------------------------------------ HTTP

    def add_model(self, path: Path, kind: str = "checkpoints") -> str:
        """Put a file among the server's models, without a copy where possible; return its name."""
        target = self.base / "models" / kind / path.name
        if not target.exists():
            try:
                target.symlink_to(path)
            except OSError:  # Windows lets only some users do that
                shutil.copy2(path, target)
        return path.name

    def request(self, path: str, body: Any = None, timeout: float = 60) -> tuple[int, bytes]:
        """Status and body of an answer; `body`, if given, is POSTed as JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}{path}", data=data)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def get(self, path: str, timeout: float = 60) -> Any:
        """The JSON that a path answers."""
        status, body = self.request(path, timeout=timeout)
        if status != 200:
            raise HostError(f"GET {path}: {status} {body[:500]!r}\n{self.log_tail()}")
        return json.loads(body)

    def view(self, file: dict[str, str]) -> bytes:
        """Bytes of a file named in a node's outputs: `{"filename", "subfolder", "type"}`."""
        path = f"/view?{urllib.parse.urlencode(file)}"
        status, body = self.request(path)
        if status != 200:
            raise HostError(f"GET {path}: {status}\n{self.log_tail()}")
        return body

    def object_info(self) -> dict[str, Any]:
        """Every node that the server knows, with its inputs and outputs."""
        return self.get("/object_info")

    def interrupt(self) -> None:
        """Cancel what is running, as the front end's button does."""
        self.request("/interrupt", {})

    def ask_to_free(self) -> None:
        """What the front end's button posts. The host reads it after a prompt or when it is woken,
        so that one posted as it falls asleep waits until a prompt after this has run."""
        self.request("/free", {"unload_models": True, "free_memory": True})

    def free(self) -> None:
        """Cached results are forgotten and models unloaded before the next prompt."""
        self.ask_to_free()
        text = {"class_type": "PrimitiveString", "inputs": {"value": "free"}}
        shown = {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}
        self.run({"1": text, "2": shown})  # after any prompt the host looks at what was asked

    # ------------------------------------------------------------ running

    def run(
        self,
        prompt: dict[str, Any],
        *,
        timeout: float = JOB_SECONDS,
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> Outcome:
        """Post an API-format prompt, follow it to its end, and return what it made.

        on_event: called with every websocket message while it runs (to interrupt it, say).
        Raises PromptRejected, ExecutionFailed, Interrupted, or HostError after `timeout` seconds.
        """
        import websocket

        client = os.urandom(8).hex()
        link = websocket.create_connection(f"ws://{self.address}/ws?clientId={client}", timeout=30)
        try:
            status, body = self.request("/prompt", {"prompt": prompt, "client_id": client})
            answer = json.loads(body)
            if status != 200:
                raise PromptRejected(answer, self.log_tail())
            outcome = Outcome(answer["prompt_id"], {})
            deadline = time.monotonic() + timeout
            while not self._ended(link, outcome, on_event):
                if self.process is not None and self.process.poll() is not None:
                    raise HostError(f"the server died\n{self.log_tail()}")
                if time.monotonic() > deadline:
                    raise HostError(f"still running after {timeout} s\n{self._cancelled()}")
        finally:
            link.close()
        outcome.outputs = self._history(outcome.prompt_id)["outputs"]
        return outcome

    def _cancelled(self) -> str:
        """Cancel what runs, so that the next test has a server that does nothing; the log's tail.
        Where that does not help, end it: what comes after fails at once instead of waiting, too."""
        tail = self.log_tail()
        with contextlib.suppress(OSError, HostError):
            self.interrupt()
            deadline = time.monotonic() + CANCEL_SECONDS
            while time.monotonic() < deadline:
                if not self.get("/queue")["queue_running"]:
                    return tail
                time.sleep(0.5)
        self.abort()
        return f"{tail}\nnot cancelled in {CANCEL_SECONDS} s\n{self.log_tail(400)}"

    def _ended(self, link: Any, outcome: Outcome, on_event: Callable[..., None] | None) -> bool:
        """Take one message; whether it says that the prompt is done. Raises what it failed with."""
        import websocket

        link.settimeout(1.0)
        try:
            message = link.recv()
        except websocket.WebSocketTimeoutException:
            return False
        except (websocket.WebSocketException, OSError) as error:
            raise HostError(f"the server hung up: {error}\n{self.log_tail()}") from error
        if isinstance(message, bytes):
            event: dict[str, Any] = {"type": "binary", "data": unpacked(message)}
        else:
            event = json.loads(message)
        data = event.get("data") or {}
        if data.get("prompt_id", outcome.prompt_id) != outcome.prompt_id:
            return False
        outcome.events.append(event)
        if on_event is not None:
            on_event(event)
        if event["type"] == "execution_error":
            raise ExecutionFailed(data, self.log_tail())
        if event["type"] == "execution_interrupted":
            raise Interrupted(data, self.log_tail())
        return event["type"] == "execution_success"

    def _history(self, prompt_id: str) -> dict[str, Any]:
        """The record of a finished prompt; it appears a moment after the last message."""
        for _ in range(100):
            record = self.get(f"/history/{prompt_id}").get(prompt_id)
            if record is not None:
                return record
            time.sleep(0.05)
        raise HostError(f"no history of {prompt_id}\n{self.log_tail()}")


PICTURE, TEXT = 1, 3  # numbers of the host's binary messages (its protocol.py)


def unpacked(message: bytes) -> dict[str, Any]:
    """A binary message: `size`, `event` (its number), and `image` (bytes) or `node` and `text`, as
    the page shows it."""
    number = int.from_bytes(message[:4], "big")
    data: dict[str, Any] = {"size": len(message), "event": number}
    if number == PICTURE:
        data["image"] = message[8:]
    elif number == TEXT:
        end = 8 + int.from_bytes(message[4:8], "big")
        data["node"], data["text"] = message[8:end].decode(), as_seen(message[end:].decode())
    return data
