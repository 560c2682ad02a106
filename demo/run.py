"""`python dev.py demo`: teach the embedded model a subject, draw it in new scenes."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from launch import run

    raise SystemExit(run("personalise"))
