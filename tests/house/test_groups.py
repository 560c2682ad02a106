"""Tests that share something dear (a server, a trained model) run in one worker: pytest and xdist
have to agree on where an item's group is written, and nothing is said where they do not."""

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from attndreambooth.devkit.suite import plan

SHARED = """
import pytest

@pytest.mark.xdist_group("{group}")
@pytest.mark.parametrize("i", range(6))
def test_where(i, worker_id):
    with open("{folder}/{group}", "a") as file:
        print(worker_id, file=file)
"""


def test_a_group_stays_in_one_worker(tmp_path: Path):
    groups = ("server", "faulty", "a_file")
    for group in groups:
        text = SHARED.format(group=group, folder=tmp_path.as_posix())
        (tmp_path / f"test_{group}.py").write_text(text)
    asked = [text for text in plan([]).arguments if text != "-n" and not text.isdigit()]
    command = [sys.executable, "-m", "pytest", "-n", "2", *asked, "-p", "no:cacheprovider"]
    subprocess.run([*command, "."], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    workers: dict[str, set[str]] = defaultdict(set)
    for group in groups:
        workers[group] |= set((tmp_path / group).read_text().split())
    assert {len(found) for found in workers.values()} == {1}, dict(workers)
    assert len(set.union(*workers.values())) == 2
