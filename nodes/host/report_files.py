"""Reports below the host's output folder."""

from __future__ import annotations

import itertools
from pathlib import Path

import folder_paths

from ...attndb.artifacts.folder_claim import claim_folder, folder_holds
from ...attndb.artifacts.partial_files import remove_stale_partial_files
from ...attndb.artifacts.tensor_file import Writer, bytes_writer, text_writer
from ...attndb.evaluation.report import HTML, PICTURE


def report_folder(name: str) -> Path:
    """Where a report of this name lies."""
    return Path(folder_paths.get_output_directory()) / "reports" / name


def save_report(wanted: str, text: str, picture: bytes) -> Path:
    """Writes report.html and report.png into a folder of this name, and gives it; where another
    report has the name, into the next free one: wanted-2, ... OSError names what could not be
    written."""
    remove_stale_partial_files(report_folder(wanted).parent)
    files: dict[str, Writer] = {
        PICTURE: bytes_writer(picture),
        HTML: text_writer(text),
    }
    for number in itertools.count(1):
        folder = report_folder(wanted if number == 1 else f"{wanted}-{number}")
        if folder_holds(folder, files) or claim_folder(folder, files):
            return folder
    raise AssertionError("there is always a next name")
