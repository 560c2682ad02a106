"""A folder whose sub-folders are subjects: what a file says of all of them, and of each."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..config.printable import quoted
from ..data.scan import natural_key
from .document import Problem, Problems, Section


class SubjectFoldersError(ValueError):
    """A folder that has no subjects in it; the message names it."""


@dataclass(frozen=True)
class FolderSubject:
    """One sub-folder as an entry of the list of subjects."""

    name: str
    section: Section
    problems: Problems
    """Of this subject alone."""


def subject_folders(folder: Path) -> list[Path]:
    """The sub-folders in the order of their names, the same in every process; hidden ones are
    passed over. SubjectFoldersError if there is none, or the folder cannot be read."""
    try:
        found = [Path(e.path) for e in os.scandir(folder) if e.is_dir() and e.name[0] != "."]
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise SubjectFoldersError(
            f"--subjects {quoted(folder, 200)} cannot be read ({said}): give the folder that holds "
            "a folder of photos for each subject"
        ) from error
    if not found:
        raise SubjectFoldersError(
            f"--subjects {quoted(folder, 200)} holds no folder: put the photos of each subject "
            "into one of its own"
        )
    return sorted(found, key=lambda path: (natural_key(path.name), path.name))


def folder_subjects(folder: Path, of_each: Section | None) -> list[FolderSubject]:
    """An entry for each sub-folder, which is its photos' folder. `of_each`: by a folder's name what
    it has of its own. SubjectFoldersError as `subject_folders`."""
    folders = subject_folders(Path(os.path.realpath(os.path.expanduser(folder))))
    names = [path.name for path in folders]
    if of_each is not None:
        for name in of_each.keys:
            if name not in names:
                close = difflib.get_close_matches(name, names, 1)
                remedy = f"did you mean {quoted(close[0])}?" if close else f"it has {len(names)}"
                of_each.problem(
                    f"no folder {quoted(name)} in {quoted(folder, 200)}: {remedy}", name
                )
    subjects = []
    for path in folders:
        problems = Problems()
        section = Section(f"folder {path.name}", [_photos_in(path)], problems)
        own = None if of_each is None else of_each.section(path.name)
        if own is not None:
            section = own.with_problems(problems).over(section)
        subjects.append(FolderSubject(path.name, section, problems))
    return subjects


def gather(subjects: Sequence[FolderSubject], into: Problems) -> None:
    """What is wrong with each of them, by name; what is wrong with all of them, once."""
    of: dict[Problem, list[str]] = {}
    for subject in subjects:
        for problem in subject.problems.sorted():
            of.setdefault(problem, []).append(subject.name)
    for problem, names in of.items():
        if len(names) == len(subjects) > 1:
            into.add(problem.line, problem.text)
        else:
            for name in names:
                into.add(problem.line, f"{name}: {problem.text}")


def _photos_in(path: Path) -> yaml.MappingNode:
    """`photos: {folder: PATH}`, as if it stood at the top of the file."""
    mark = yaml.Mark("", 0, 0, 0, None, 0)
    kind = "tag:yaml.org,2002:str"

    def word(text: str) -> yaml.ScalarNode:
        return yaml.ScalarNode(kind, text, mark, mark)

    inner = yaml.MappingNode("", [(word("folder"), word(str(path)))], mark, mark)
    return yaml.MappingNode("", [(word("photos"), inner)], mark, mark)
