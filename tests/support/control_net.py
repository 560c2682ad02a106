"""A small ControlNet as a file that the stock loader takes."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from attndreambooth.devkit.wires import control_net, load


def control_net_file(path: Path) -> Path:
    """Writes one for the small SD 1.5, of seeded weights; `host_on_path` first."""
    save_file(control_net(load("sd15")).control_model.state_dict(), str(path))
    return path
