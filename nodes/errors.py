"""Errors that name the node they come from."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..attndb.artifacts.concept import ConceptFileError
from ..attndb.training.step_loss import TrainingDivergedError

_USER_ERRORS = (ValueError, OSError, TrainingDivergedError, ConceptFileError)


class NodeError(RuntimeError):
    """What a user should read: the node's name, the value at fault, the remedy."""


def naming_node(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a node's `execute` (below @classmethod): user errors say which node they are from.

    The host's interrupt and programming errors pass unchanged.
    """

    @functools.wraps(execute)
    def wrapped(cls: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return execute(cls, *args, **kwargs)
        except _USER_ERRORS as error:
            raise NodeError(f"{cls.define_schema().display_name}: {error}") from error

    return wrapped
