"""AttnDreamBooth for ComfyUI: the entry point the host looks for."""

from __future__ import annotations

from comfy_api.v0_0_2 import ComfyExtension, io

from .nodes import all_nodes
from .nodes.host.compat import check_host
from .nodes.host.page.routes import add_routes

WEB_DIRECTORY = "./web"


class AttnDreamBooth(ComfyExtension):
    """The pack as the host sees it."""

    async def on_load(self) -> None:
        add_routes()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return all_nodes()


async def comfy_entrypoint() -> AttnDreamBooth:
    """Called by ComfyUI when it loads the pack. ImportError on a host that is too old."""
    check_host()
    return AttnDreamBooth()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
