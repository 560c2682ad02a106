"""A file of subjects to train, read into jobs; or all that is wrong with it.

model: {checkpoint: NAME}        # or micro
defaults: {...}                  # keys of a subject, for all of them
subjects:
  - photos: {folder: ..., category: ...}
    preset: paper                # or method: dreambooth
    settings: {...}              # of every stage, as in attndb/config
    stages: [1, 2, {stage: 3, steps: 300}]

or, for subjects that are the sub-folders of one folder, instead of the list:

folders: {NAME: {...}}           # keys of a subject, for the folder of this name
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

from ..artifacts.file_name import check_name, check_new_name
from ..config.choices import CategoryToken
from ..config.compared import COMPARED, published
from ..config.presets import PRESETS
from ..config.stage import StageConfig
from ..data.photo import DatasetError
from ..data.placeholder import default_placeholder
from ..data.scan import Listing, scan
from .document import Item, Problem, Problems, Section, read_document
from .job import (
    MICRO,
    Job,
    LoRAChoice,
    ModelChoice,
    PhotoChoice,
    PreviewChoice,
    PriorChoice,
    SaveChoice,
)
from .settings import asks_for_ties, not_read, stage_settings
from .subject_checks import check_photos, check_prior, check_stages
from .subject_folders import SubjectFoldersError, folder_subjects, gather

T = TypeVar("T")
_LEAST = {"checkpoint_every": 0, "checkpoint_concepts": 0, "kept_concepts": 1}
_HOW = (*_LEAST, "low_memory_if_needed", "keep_state")
_TOP = ("model", "defaults", "subjects", "folders")
_OF_ALL = (
    *("model", "photos", "prior", "preset", "method", "stages", "settings", "preview", "save"),
    *("concept", "category_tie"),
    *_HOW,
)
_OF_ONE = ("name",)


class JobFileError(ValueError):
    """A file of subjects cannot be used: every reason, with its line."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path, self.problems = path, problems
        super().__init__("\n".join(f"{path}:{p.line}: {p.text}" for p in problems))


def read_jobs(path: Path, subjects: Path | None = None) -> list[Job]:
    """The subjects that a file asks to train, in its order; with `subjects` the sub-folders of that
    folder, by name. JobFileError has all that is wrong with it; OSError if it cannot be read."""
    problems = Problems()
    document = read_document(path, problems)
    jobs: list[Job] = []
    if document is not None:
        document.only(_TOP)
        home = path.resolve().parent
        jobs = _listed(document, home, problems, subjects)
    if len(problems):
        raise JobFileError(path, problems.sorted())
    return jobs


def _listed(document: Section, home: Path, problems: Problems, folder: Path | None) -> list[Job]:
    listed, of_each = document.get("subjects"), document.get("folders")
    if folder is None:
        if of_each is not None:
            of_each.problem("folders is read with --subjects FOLDER alone")
        entries = [] if listed is None else listed.items()
        if listed is None or (listed.word is None and not entries):
            document.problem(
                "there is no subject: list them below subjects, each with '- '", "subjects"
            )
        return _jobs(document, [s for e in entries if (s := e.section()) is not None], home)
    if listed is not None:
        listed.problem("--subjects names a folder of subjects, and here is a list: leave one out")
    try:
        found = folder_subjects(folder, document.section("folders"))
    except SubjectFoldersError as error:
        document.problem(str(error))
        return []
    jobs = _jobs(document, [subject.section for subject in found], home)
    gather(found, problems)
    return jobs


def _jobs(document: Section, sections: Sequence[Section], home: Path) -> list[Job]:
    defaults = document.section("defaults")
    if defaults is not None:
        defaults.only(_OF_ALL)
    jobs: list[Job] = []
    names: dict[str, Job] = {}
    for section in sections:
        own_model = section.get("model") or (defaults and defaults.get("model"))
        model = own_model or document.get("model")
        job = _Subject(section.over(defaults), home).job(model)
        if job is None:
            continue
        first = names.setdefault(job.name.casefold(), job)
        if first is not job:
            section.problem(
                f"two subjects are called {job.name!r} (line {first.line}): give one another name",
                "name",
            )
        jobs.append(job)
    return jobs


class _Subject:
    """One entry of the list of subjects."""

    def __init__(self, section: Section, home: Path) -> None:
        """`home`: the folder that paths of the file start from."""
        self._section, self._home = section, home
        self._made: list[tuple[StageConfig, StageConfig]] = []
        self._found: dict[Path, Listing] = {}
        self._recipe = ""
        section.only(_OF_ALL, _OF_ONE)

    def job(self, model: Item | None) -> Job | None:
        """The job; None, and problems, if it cannot be made."""
        section = self._section
        chosen = self._model(model)
        photos = self._photos()
        name = "unknown" if photos is None else photos.placeholder.strip("<>")
        concept = section.read("concept", str, "")
        stages = self._stages()
        self._check_used()
        prior = self._part("prior", PriorChoice)
        if photos is not None:
            check_stages(stages, photos, section)
        if photos is not None and prior is not None:
            check_prior(prior, photos, section.section("prior") or section)
        more = _read_fields(Job, section, _HOW)
        for key, least in _LEAST.items():
            if more.get(key, least) < least:
                section.problem(f"{key} = {more[key]}: use {least} or more", key)
        values = {
            "name": self._checked(section.read("name", str, name), "name", check_new_name),
            "concept": concept and self._checked(concept, "concept", check_name),
            "category_tie": section.read("category_tie", CategoryToken, "last word"),
            "recipe": self._recipe,
            "prior": prior,
            "preview": self._part("preview", PreviewChoice, several=("prompt",)),
            "save": self._part("save", SaveChoice) or SaveChoice(),
            **more,
        }
        if chosen is None or photos is None or not stages:
            return None
        lines = {key: item.line for key in _OF_ALL if (item := section.get(key)) is not None}
        return Job(
            model=chosen, photos=photos, stages=stages, line=section.line, lines=lines, **values
        )

    def _model(self, item: Item | None) -> ModelChoice | None:
        if item is None:
            self._section.problem(
                "no model: say model: {checkpoint: NAME} for this subject, or at the top for all"
            )
            return None
        if item.word is not None:
            if item.word != MICRO:
                item.problem(f"model = {item.word!r}: say {MICRO}, or {{checkpoint: NAME}}")
            return ModelChoice(checkpoint=MICRO, line=item.line)
        section = item.section()
        if section is None:
            return None
        section.only(("checkpoint", "vae", "loras"))
        listed = section.get("loras")
        loras = [] if listed is None else [_lora(entry) for entry in listed.items()]
        checkpoint = section.read("checkpoint", str)
        if not checkpoint:
            section.problem(
                "model has no checkpoint: give the name of a file in models/checkpoints"
            )
            return None
        path = self._path(checkpoint)
        return ModelChoice(
            checkpoint=str(path) if os.path.isfile(path) else checkpoint,
            vae=section.read("vae", str, ""),
            loras=tuple(lora for lora in loras if lora is not None),
            line=item.line,
        )

    def _photos(self) -> PhotoChoice | None:
        section = self._section.section("photos")
        if section is None:
            if self._section.get("photos") is None:
                self._section.problem("no photos: say photos: {folder: ..., category: ...}")
            return None
        photos = self._choice(section, PhotoChoice, several=("template",))
        if photos is None:
            return None
        if not photos.placeholder.strip():
            placeholder = default_placeholder(
                str(photos.folder), plain=photos.captions == "plain text files"
            )
            photos = dataclasses.replace(photos, placeholder=placeholder)
        check_photos(photos, self._found.get(photos.folder), section)
        return photos

    def _stages(self) -> tuple[StageConfig, ...]:
        section = self._section
        common = section.section("settings")
        if section.get("method") is not None and self._of_a_compared_method():
            return self._compared(common)
        preset = section.read("preset", Literal[tuple(PRESETS)], "paper")  # type: ignore[valid-type]
        self._recipe = preset
        recipe = {config.stage: config for config in PRESETS[preset]()}
        entries = section.get("stages")
        if entries is None:
            return tuple(self._settings(base, None, common) for base in recipe.values())
        stages = [self._stage(entry, recipe, common) for entry in entries.items()]
        if not stages:
            section.problem("stages is empty: list some of 1, 2, 3, or leave it out", "stages")
        return tuple(stage for stage in stages if stage is not None)

    def _stage(
        self, entry: Item, recipe: dict[int, StageConfig], common: Section | None
    ) -> StageConfig | None:
        own = None if entry.word is not None else entry.section()
        number = entry.read(int) if own is None else own.read("stage", int)
        if number not in recipe:
            entry.problem("a stage is one of 1, 2, 3: say its number, or {stage: 2, steps: 100}")
            return None
        return self._settings(recipe[number], own, common)

    def _of_a_compared_method(self) -> bool:
        """Whether `method` counts, and not `preset` or `stages`: what the subject itself says does
        before the defaults."""
        section = self._section
        ours = [key for key in ("preset", "stages") if section.get(key) is not None]
        if nearer := [key for key in ours if section.own(key) == section.own("method")]:
            section.problem(
                f"{nearer[0]} belongs to AttnDreamBooth, and method is another: leave one out",
                nearer[0],
            )
        return section.own("method") or not any(map(section.own, ours))

    def _compared(self, common: Section | None) -> tuple[StageConfig, ...]:
        section = self._section
        method = section.read("method", Literal[COMPARED])  # type: ignore[valid-type]
        return () if method is None else (self._settings(published(method), None, common),)

    def _settings(
        self, base: StageConfig, own: Section | None, common: Section | None
    ) -> StageConfig:
        made = stage_settings(base, own, common)
        self._made.append((base, made))
        return made

    def _check_used(self) -> None:
        """Notes settings that none of the stages reads; those of the defaults only where the
        subject does not choose its method itself."""
        section, common = self._section, self._section.section("settings")
        if common is None:
            return
        chosen = any(map(section.own, ("method", "preset", "stages")))
        said_here = common.keys if section.own("settings") else ()
        asked = ("regularization",) if asks_for_ties(common) else ()
        for name, text in not_read(self._made, asked).items():
            if common.get(name) is not None and (name in said_here or not chosen):
                common.problem(text, name)

    def _part(self, key: str, kind: type[T], several: tuple[str, ...] = ()) -> T | None:
        section = self._section.section(key)
        return None if section is None else self._choice(section, kind, several)

    def _choice(self, section: Section, kind: type[T], several: tuple[str, ...] = ()) -> T | None:
        """A dataclass from a section, its folder found; `several`: texts that may be lists."""
        names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
        section.only(names)
        values = _read_fields(kind, section, [n for n in names if n not in ("folder", *several)])
        for key in several:
            item = section.get(key)
            if item is not None:
                read = item.read(str if item.word is not None else tuple[str, ...])
                if read is not None:  # an empty one is what the file says, not the default
                    values[key] = read if isinstance(read, str) else "\n".join(read)
        if "folder" in names:
            folder = section.read("folder", str)
            if not folder:
                section.problem(f"{section.name} has no folder: say where the pictures are")
                return None
            values["folder"] = self._path(folder)
            try:
                self._found[values["folder"]] = scan(values["folder"])
            except (DatasetError, ValueError) as error:
                section.problem(str(error), "folder")
        try:
            return kind(**values)
        except ValueError as error:
            section.problem(str(error), str(error).partition(" ")[0])
            return None

    def _path(self, text: str) -> Path:
        """Absolute, or from the file's folder on. ~ is a home folder where there is one."""
        return self._home / os.path.expanduser(text)

    def _checked(self, value: str, key: str, check: Any) -> str:
        try:
            return check(value)
        except ValueError as error:
            self._section.problem(str(error), key)
            return value


def _lora(entry: Item) -> LoRAChoice | None:
    """A name alone, or with strengths."""
    if entry.word is not None:
        return LoRAChoice(name=entry.word, line=entry.line) if entry.read(str) else None
    section = entry.section()
    if section is None:
        return None
    section.only(("name", "strength", "clip_strength"))
    name = section.read("name", str)
    if not name:
        section.problem("a LoRA has no name: give that of a file in models/loras")
        return None
    given = {key: section.read(key, float) for key in ("strength", "clip_strength")}
    values = {key: value for key, value in given.items() if value is not None}
    return LoRAChoice(name=name, line=section.line, **values)


def _read_fields(kind: Any, section: Section, names: Any) -> dict[str, Any]:
    """Fields of a dataclass that a section says."""
    hints = get_type_hints(kind)
    read = {name: section.read(name, hints[name]) for name in names}
    return {name: value for name, value in read.items() if value is not None}
