"""A YAML file as it was written: every value keeps its line, and is read as what it should be.

YAML's own guesses are not used: `no` is a word where a word is asked for, `1e-3` is a number where
a number is. What is wrong is noted and the reading goes on, so that a user sees all of it at once.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from ..config.printable import printable, quoted

_LARGEST = 4_000_000
_LONGEST_INT = 30
"""Characters of a whole number: no setting has more."""
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with a file."""

    line: int
    """From 1."""
    text: str
    """What it is, and the remedy."""


class Problems:
    """What is wrong with a file, each thing once, by line."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def add(self, line: int, text: str) -> None:
        """Notes a problem."""
        self._found[Problem(line, printable(text))] = None

    def sorted(self) -> list[Problem]:
        """All of them, from the top of the file."""
        return sorted(self._found)

    def __len__(self) -> int:
        return len(self._found)


def read_document(path: Path, problems: Problems) -> Section | None:
    """The mapping that a file holds; None, and a problem, if it holds none. OSError if it cannot be
    read."""
    if path.stat().st_size > _LARGEST:
        problems.add(1, f"larger than {_LARGEST // 10**6} MB: not a file of settings")
        return None
    try:
        root = yaml.compose(path.read_bytes(), Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or str(error)
        problems.add(mark.line + 1 if mark else 1, f"not YAML: {said}")
        return None
    except (UnicodeError, RecursionError) as error:
        problems.add(1, f"not YAML: {error}")
        return None
    if not isinstance(root, yaml.MappingNode):
        problems.add(1, "holds no keys: see docs/headless.md for an example")
        return None
    return Section("the file", [root], problems)


class Item:
    """A value in a file that is read as what it should be."""

    def __init__(self, name: str, nodes: Sequence[Any], problems: Problems) -> None:
        """`nodes`: the value, and those that it replaces, the nearest first."""
        self.name, self._nodes, self._problems = name, list(nodes), problems

    @property
    def line(self) -> int:
        """From 1."""
        return self._nodes[0].start_mark.line + 1

    @property
    def word(self) -> str | None:
        """The text of a single value; None if it is a list or a mapping."""
        node = self._nodes[0]
        return node.value if isinstance(node, yaml.ScalarNode) else None

    def problem(self, text: str) -> None:
        """Notes what is wrong with it."""
        self._problems.add(self.line, text)

    def read(self, kind: Any) -> Any:
        """The value as a type: bool, int, float, str, a Literal, or a tuple of one of them. None,
        and a problem, if it is no such value."""
        try:
            return _read(self._nodes[0], kind, self.name)
        except ValueError as error:
            self.problem(str(error))
            return None

    def section(self) -> Section | None:
        """The value as a mapping, over those that it replaces."""
        nodes = [node for node in self._nodes if isinstance(node, yaml.MappingNode)]
        if not isinstance(self._nodes[0], yaml.MappingNode):
            self.problem(f"{self.name} = {_shown(self._nodes[0])}: keys are wanted below it")
            return None
        return Section(self.name, nodes, self._problems)

    def items(self) -> list[Item]:
        """The entries of a list; none, and a problem, if it is no list."""
        node = self._nodes[0]
        if not isinstance(node, yaml.SequenceNode):
            self.problem(f"{self.name} = {_shown(node)}: a list is wanted (lines with '- ')")
            return []
        return [Item(self.name, [entry], self._problems) for entry in node.value]


class Section:
    """Keys and their values, some of which may stand in mappings behind it (defaults)."""

    def __init__(self, name: str, nodes: Sequence[Any], problems: Problems) -> None:
        """`nodes`: mappings, the one that counts first."""
        self.name, self._nodes, self._problems = name, list(nodes), problems
        self._layers = [self._keys(node) for node in nodes]

    @property
    def line(self) -> int:
        """From 1."""
        return self._nodes[0].start_mark.line + 1

    def over(self, behind: Section | None) -> Section:
        """This section; what it does not say is asked of another."""
        more = [] if behind is None else behind._nodes
        return Section(self.name, [*self._nodes, *more], self._problems)

    def with_problems(self, problems: Problems) -> Section:
        """This section, which notes what is wrong with it elsewhere from now on."""
        return Section(self.name, self._nodes, problems)

    @property
    def keys(self) -> tuple[str, ...]:
        """What stands here itself, in its order."""
        return tuple(self._layers[0])

    def get(self, key: str) -> Item | None:
        """The value of a key, if it is there."""
        nodes = [layer[key][1] for layer in self._layers if key in layer]
        return Item(key, nodes, self._problems) if nodes else None

    def own(self, key: str) -> bool:
        """Whether the key is here and not only behind it."""
        return key in self._layers[0]

    def read(self, key: str, kind: Any, default: Any = None) -> Any:
        """The value of a key as a type; the default if it is not there or is no such value."""
        item = self.get(key)
        value = None if item is None else item.read(kind)
        return default if value is None else value

    def section(self, key: str) -> Section | None:
        """The mapping below a key, if there is one."""
        item = self.get(key)
        return None if item is None else item.section()

    def empty(self, name: str) -> Section:
        """A section without keys, at this place."""
        node = yaml.MappingNode("", [], self._nodes[0].start_mark)
        return Section(name, [node], self._problems)

    def problem(self, text: str, key: str = "") -> None:
        """Notes what is wrong with a key, or with all of it."""
        item = self.get(key) if key else None
        self._problems.add(self.line if item is None else item.line, text)

    def only(self, known: Collection[str], own: Collection[str] = ()) -> None:
        """Notes every key that is not one of these; `own`: what may be here, not behind it."""
        for number, layer in enumerate(self._layers):
            allowed = [*known, *(() if number else own)]
            for key, (node, _) in layer.items():
                if key not in allowed:
                    close = difflib.get_close_matches(key, allowed, 1)
                    remedy = f"did you mean {close[0]}?" if close else f"known: {_list(allowed)}"
                    self._problems.add(
                        node.start_mark.line + 1,
                        f"unknown key {quoted(key)} in {self.name}: {remedy}",
                    )

    def _keys(self, node: Any) -> dict[str, tuple[Any, Any]]:
        found: dict[str, tuple[Any, Any]] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._problems.add(line, f"a key in {self.name} is no word")
            elif key.value in found:
                self._problems.add(line, f"{quoted(key.value)} is said twice in {self.name}")
            else:
                found[key.value] = (key, value)
        return found


def _read(node: Any, kind: Any, name: str) -> Any:
    if get_origin(kind) is tuple:
        return _read_list(node, kind, name)
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f"{name} = {_shown(node)}: one value is wanted")
    text, plain = node.value, node.style is None
    if plain and text in ("", "~", "null"):
        raise ValueError(f"{name} has no value: give one, or leave the line out")
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError(f"{name} = {quoted(text)}: choose one of {_list(get_args(kind))}")
        return text
    if kind is str:
        return text
    wanted, read = _PLAIN[kind]
    value = read(text)
    if value is None:
        raise ValueError(f"{name} = {_shown(node)}: {wanted} is wanted")
    if not plain:
        raise ValueError(f"{name} = {_shown(node)}: {wanted} is wanted, so take the quotes away")
    return value


def _bool(text: str) -> bool | None:
    word = text.lower()
    return word in _TRUE if word in (*_TRUE, *_FALSE) else None


def _int(text: str) -> int | None:
    whole = re.fullmatch(r"[+-]?\d+(_\d+)*", text) and len(text) <= _LONGEST_INT
    return int(text) if whole else None


def _float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


_PLAIN: dict[Any, tuple[str, Callable[[str], Any]]] = {
    bool: ("true or false", _bool),
    int: ("a whole number", _int),
    float: ("a number", _float),
}
"""What is wanted of a value without quotes, by its type, and the value of a text; None: it is no
such thing."""


def _read_list(node: Any, kind: Any, name: str) -> tuple[Any, ...]:
    first, *rest = get_args(kind)
    if not isinstance(node, yaml.SequenceNode):
        raise ValueError(f"{name} = {_shown(node)}: a list is wanted, [..., ...]")
    if rest != [...] and len(node.value) != len(rest) + 1:
        raise ValueError(f"{name} has {len(node.value)} values, and {len(rest) + 1} are wanted")
    return tuple(_read(entry, first, name) for entry in node.value)


def _shown(node: Any) -> str:
    if isinstance(node, yaml.ScalarNode):
        return quoted(node.value)
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def _list(words: Collection[str]) -> str:
    return ", ".join(words)
