"""The host's server, where one runs."""

from __future__ import annotations

import sys
from typing import Any


def running_server() -> Any:
    """ComfyUI's PromptServer; None in a test or a program. A running server has loaded its own
    module."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
