"""ComfyUI in this process: its folders in one place; the pack's nodes, called as it calls them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


class Graph:
    """The pack's nodes called as ComfyUI calls them: widgets that are not named keep defaults."""

    def __init__(self) -> None:
        from ..nodes import all_nodes

        self._nodes = {node.define_schema().node_id: node for node in all_nodes()}

    def __call__(self, node_id: str, **values: Any) -> tuple[Any, ...]:
        node = self._nodes[node_id]
        defaults = {}
        for widget in node.define_schema().inputs:
            default = getattr(widget, "default", None)
            if default is None and getattr(widget, "options", None):
                default = widget.options[0]
            if default is not None:
                defaults[widget.id] = default
        return node.execute(**{**defaults, **values}).args


def trained_stage(
    wires: tuple[Any, Any, Any], dataset: Any, config: Any, concept: Any
) -> tuple[Any, Any]:
    """What a stage makes of a concept (None: of nothing) on (MODEL, CLIP, VAE), and its losses; no
    page follows it."""
    from ..attndb.training.session import train_stage
    from ..attndb.training.stage_request import StageRequest
    from ..nodes.host.ui.plan import plan_of
    from ..nodes.host.workbench import HostWorkbench

    title = f"stage {config.stage}"
    bench = HostWorkbench(*wires, plan_of([title], [config]))
    request = StageRequest(dataset=dataset, config=config, concept=concept, title=title)
    return train_stage(bench, request)


def host_folders(output: Path) -> None:
    """ComfyUI in this process keeps everything below `output` from now on."""
    import comfy.options  # noqa: F401  (parses no command line unless asked)
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()
    args.use_pytorch_cross_attention = True
    import folder_paths

    folder_paths.set_output_directory(str(output))
    folder_paths.set_input_directory(str(output))
    for kind in ("embeddings", "loras"):
        folder = output / "models" / kind
        folder.mkdir(parents=True, exist_ok=True)
        extensions = folder_paths.folder_names_and_paths[kind][1]
        folder_paths.folder_names_and_paths[kind] = ([str(folder)], extensions)
