"""EarlyEnd: the user's wish that the stage which is training ends with what it has learned."""

from __future__ import annotations

import threading


class EarlyEnd:
    """Asked by the page, in a thread of its own; read by the training between two steps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._node = ""
        self._asked = False

    def begin(self, node: str) -> None:
        """A stage of this node (its execution id) trains from now on; an older wish is gone."""
        with self._lock:
            self._node, self._asked = node, False

    def end(self) -> None:
        """No stage trains."""
        self.begin("")

    def ask(self, node: str) -> bool:
        """The stage that the node trains is to end; whether there is one."""
        with self._lock:
            if not node or node != self._node:
                return False
            self._asked = True
            return True

    @property
    def asked(self) -> bool:
        """Whether it was asked for since the stage began."""
        return self._asked


EARLY_END = EarlyEnd()
"""Of this server, which trains one node at a time."""
