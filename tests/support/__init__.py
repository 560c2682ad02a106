"""What tests share. Importing it makes the pack importable as `attndreambooth`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "devkit"))

from pack import load_pack

load_pack()
