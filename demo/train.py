"""Train attndb-micro from nothing, or go on where a run was cut off (see training.py)."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from launch import run

    raise SystemExit(run("training"))
