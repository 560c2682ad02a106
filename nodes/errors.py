"""Errors that name the node they come from."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..attndb.artifacts.concept import ConceptFileError
from ..attndb.config.printable import LONGEST, printable
from ..attndb.training.step_loss import TrainingDivergedError

_USER_ERRORS = (ValueError, OSError, TrainingDivergedError, ConceptFileError)


class NodeError(RuntimeError):
    """What a user should read: the node's name, the value at fault, the remedy."""


def naming_node(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a node's `execute` (below @classmethod): user errors say which node they are from.

    The host's interrupt and programming errors pass unchanged. File names and values in a message
    are made printable, and what led to the error is dropped if it is not: the host writes both
    into its log and sends them to the page, and what cannot be encoded would stop its queue.
    """

    @functools.wraps(execute)
    def wrapped(cls: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return execute(cls, *args, **kwargs)
        except _USER_ERRORS as error:
            message = printable(f"{cls.define_schema().display_name}: {error}")
            raise NodeError(message) from (error if _is_printable(error) else None)

    return wrapped


def _is_printable(error: BaseException | None) -> bool:
    """Whether an error and all that led to it can be written into a log."""
    while error is not None:
        text = str(error)
        if len(text) > LONGEST or printable(text.replace("\n", " ")) != text.replace("\n", " "):
            return False
        error = error.__cause__ or error.__context__
    return True
