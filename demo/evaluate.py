"""Does attndb-micro follow its prompts? Prints the table of the model card (see evaluation.py)."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from launch import run

    raise SystemExit(run("evaluation"))
