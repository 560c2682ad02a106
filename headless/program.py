"""`python -m attndb train`: subjects of a file are trained one after the other, without a server.

What follows `--` is ComfyUI's own command line: `-- --cpu`, `-- --base-directory FOLDER`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..attndb.jobs.document import Problem
from ..attndb.jobs.job_file import JobFileError, read_jobs
from .command_line import refused, split, standard_output, tell
from .host import HostMissingError, become_host, choose_card, host_folder
from .processes import processes


def main(arguments: Sequence[str]) -> int:
    """Command line. 0: all are trained. 1: some failed. 2: nothing was begun."""
    own, host = split(arguments)
    options = _parse(own)
    with standard_output() as out:
        try:
            jobs = read_jobs(options.file, options.subjects)
            if options.only:
                jobs = [job for job in jobs if job.name in options.only]
                if left := set(options.only) - {job.name for job in jobs}:
                    raise ValueError(f"--only {', '.join(sorted(left))}: no such subject")
            array = options.subjects is not None
            group = processes(options.part, options.together, os.environ, array=array)
            jobs = group.own(jobs)
            if group.of_torchrun:
                choose_card(os.environ)
            become_host(host_folder(os.environ), host)
        except JobFileError as error:
            return refused(error.problems, out, as_json=options.json, file=options.file)
        except (OSError, ValueError, HostMissingError) as error:
            return refused([Problem(0, str(error))], out, as_json=options.json, file=options.file)
        from .report import report
        from .subjects import train_jobs
        from .wires import doubtful, missing

        problems = sorted({problem for job in jobs for problem in missing(job)})
        if problems:
            return refused(problems, out, as_json=options.json, file=options.file)
        if options.check:
            doubts = sorted({doubt for job in jobs for doubt in doubtful(job)})
            tell("warning", doubts, out, as_json=options.json, file=options.file)
            warned = f", {len(doubts)} warnings" if doubts else ""
            sys.stderr.write(f"{options.file}: {len(jobs)} subjects, nothing wrong{warned}\n")
            return 0
        group.join()
        with report(options.json, out if group.writes else None) as told:
            return train_jobs(jobs, told, group)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m attndb train", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("file", type=Path, metavar="CONFIG.yaml", help="see docs/headless.md")
    parser.add_argument(
        "--subjects",
        type=Path,
        metavar="FOLDER",
        help="each of its sub-folders is a subject; tasks of a SLURM array share them",
    )
    parser.add_argument("--json", action="store_true", help="JSON lines on standard output")
    parser.add_argument("--check", action="store_true", help="say what is wrong, train nothing")
    parser.add_argument("--only", action="append", metavar="NAME", help="this subject (repeatable)")
    parser.add_argument("--part", default="", metavar="K/N", help="every Nth subject, from the Kth")
    parser.add_argument(
        "--together", action="store_true", help="under torchrun: all processes on each subject"
    )
    return parser.parse_args(arguments)
