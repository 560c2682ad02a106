"""ComfyUI as a library in this process, as its server would be set up: no server, no other pack."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VARIABLE = "COMFYUI_PATH"


class HostMissingError(RuntimeError):
    """There is no ComfyUI, or it cannot be used; the message has the remedy."""


def host_folder(environ: Mapping[str, str], root: Path = ROOT) -> Path:
    """Where ComfyUI is: COMFYUI_PATH; else the one that has this pack in its custom_nodes; else the
    newest that `dev.py setup` fetched. HostMissingError if there is none."""
    own = environ.get(VARIABLE, "").strip()
    if own:
        folder = Path(os.path.realpath(os.path.expanduser(own)))
        if not (folder / "main.py").is_file():
            raise HostMissingError(f"{VARIABLE} is {folder}, and there is no ComfyUI in it")
        return folder
    around = root.parent.parent
    if root.parent.name == "custom_nodes" and (around / "main.py").is_file():
        return around
    wanted = environ.get("ATTNDB_HOST_VERSION") or "*"
    fetched = [path.parent for path in root.glob(f".host/ComfyUI-{wanted}/main.py")]
    if not fetched:
        raise HostMissingError(
            f"no ComfyUI was found: set {VARIABLE} to the folder of yours (it holds main.py), or "
            "put this pack into its custom_nodes"
        )
    return max(fetched, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])


_CARDS = {
    "cuda": ("CUDA_VISIBLE_DEVICES",),
    "hip": ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
    "xpu": ("ZE_AFFINITY_MASK",),
}
"""Variables that say which cards a process sees, by the kind that PyTorch was built for: NVIDIA's,
AMD's, Intel's. AMD's runtime takes the second where the first is not set, and PyTorch passes the
second over where ROCR_VISIBLE_DEVICES is set, by whose numbers the first counts."""
_BELOW = "ROCR_VISIBLE_DEVICES"
"""What the driver below AMD's runtime leaves of the machine's cards, which are numbered anew."""


def choose_card(environ: MutableMapping[str, str], kind: str = "") -> None:
    """Of the cards of this machine, this process's alone (torchrun's LOCAL_RANK). `kind`: one of
    _CARDS; empty: that of this PyTorch. ValueError where variables contradict each other, and the
    process would train on the CPU."""
    kind = kind or kind_of_card()
    variables = _CARDS[kind]
    named = [_listed(environ[name]) for name in variables if name in environ]
    below = _listed(environ[_BELOW]) if kind == "hip" and _BELOW in environ else None
    if below == [] or [] in named[:1]:
        return  # somebody hides all of them
    cards = named[0] if named else [str(number) for number in range(len(below or ()))]
    local = int(environ.get("LOCAL_RANK", "0"))
    own = cards[local % len(cards)] if cards else str(local)
    if below is not None and own.isdigit() and int(own) >= len(below):
        raise ValueError(
            f"{_BELOW} leaves {len(below)} GPUs, counted from 0, and {variables[0]} or "
            f"{variables[1]} names GPU {own} of them: this process would see none. Leave one of "
            "the variables unset"
        )
    environ.update(dict.fromkeys(variables, own))


def _listed(cards: str) -> list[str]:
    return [card.strip() for card in cards.split(",") if card.strip()]


def kind_of_card(version: Path | None = None) -> str:
    """Of _CARDS, that for which PyTorch was built, as its `version.py` says; `cuda` where it says
    nothing. It is read and not imported: what cards there are is settled before that."""
    if version is None:
        spec = find_spec("torch")
        folders = list(spec.submodule_search_locations or ()) if spec is not None else []
        version = Path(folders[0]) / "version.py" if folders else None
    try:
        text = "" if version is None else version.read_text("utf-8")
    except OSError:
        text = ""
    built = re.findall(r"^(hip|xpu)\b[^=\n]*=\s*['\"]", text, re.MULTILINE)
    return built[0] if built else "cuda"


def become_host(folder: Path, arguments: Sequence[str]) -> None:
    """Makes ComfyUI's modules importable, with the command line that its server would get: devices,
    memory, folders. Nothing of its server is started. HostMissingError if it cannot be imported."""
    sys.path[:] = [str(folder), *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
    # Other packs are not loaded: their nodes are not needed, and their start-up scripts run code.
    sys.argv = [str(folder / "main.py"), "--disable-all-custom-nodes", *arguments]
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        from comfy.cli_args import args

        _as_its_main_does(args)
        import main  # noqa: F401  (reads folders and extra model paths; starts nothing)
    except ImportError as error:
        raise HostMissingError(
            f"ComfyUI in {folder} cannot be imported ({error}): start this with the Python that "
            f"starts ComfyUI. This one is {sys.executable}"
        ) from error


def _as_its_main_does(args: object) -> None:
    """What ComfyUI's main.py sets before torch is imported, and only if it is the program."""
    device = getattr(args, "cuda_device", None)
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ["HIP_VISIBLE_DEVICES"] = str(device)
    if getattr(args, "deterministic", False):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import cuda_malloc  # noqa: F401  (chooses the allocator)
