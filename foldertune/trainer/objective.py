"""Finds the objective, a user's own training code, by its name MODULE:FUNCTION."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

from foldertune.errors import UserError
from foldertune.shipped import DEFAULT_OBJECTIVE, HOME
from foldertune.text import in_a_line
from foldertune.trainer.report import Report

Objective = Callable[[dict[str, Any], Report], dict[str, Any]]


def load_objective(name: str, device: str) -> Objective:
    """The function MODULE:FUNCTION. If the module has a function `prepare(device)`, that is called first.

    Raises UserError, with the error of the import or of the preparation.
    """
    module, function_name = import_objective(name)
    objective = getattr(module, function_name, None)
    if not callable(objective):
        raise UserError(f"--objective {name}: {module.__name__} has no function '{function_name}'")
    try:
        getattr(module, "prepare", lambda device: None)(device)
    except Exception as error:
        raise UserError(f"{module.__name__} can't train here: {_reason(error)}") from error
    return objective  # type: ignore[no-any-return]


def shipped_check() -> Callable[[dict[str, Any]], object]:
    """The shipped objective's `check(settings)`. It raises ValueError for settings with which it can't train."""
    module, _ = import_objective(DEFAULT_OBJECTIVE)
    return getattr(module, "check", lambda settings: None)  # a user's own exercise3.py may have none


def import_objective(name: str) -> tuple[ModuleType, str]:
    """The module of an objective, and the name of its function. Raises UserError if the import fails."""
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise UserError(f"--objective {name}: write MODULE:FUNCTION, such as {DEFAULT_OBJECTIVE}")
    look_first_where_it_is(module_name)
    try:
        return importlib.import_module(module_name), function_name
    except Exception as error:  # a user's own module may raise anything
        raise UserError(f"--objective {name}: can't import {module_name}: {_reason(error)}") from error


def look_first_where_it_is(module: str) -> None:
    """Put the directory that holds this module first on `sys.path`, as Python does for a script.

    That is the current directory; or, if the module is not there, the directory of the shipped objective. A directory
    without the module comes last, so that a user's file `training.py` does not hide the `training` that the shipped
    objective imports.
    """
    here, home = os.path.realpath(os.getcwd()), os.path.realpath(HOME)
    candidates = [here] if here == home else [here, home]
    holder = next((directory for directory in candidates if _holds(directory, module)), None)
    known = [os.path.realpath(entry) for entry in sys.path]
    others = [entry for entry, place in zip(sys.path, known, strict=True) if place not in candidates]
    last = [place for place in candidates if place != holder and (place == here or place in known)]
    sys.path[:] = [*([holder] if holder else []), *others, *last]
    importlib.invalidate_caches()


def _holds(directory: str, module: str) -> bool:
    """Is this module a file in that directory? Nothing is imported."""
    places, found = [directory], None
    for name in module.split("."):
        found = PathFinder.find_spec(name, places)
        if found is None:
            return False
        places = list(found.submodule_search_locations or ())
    return found is not None and found.origin is not None  # no origin: a directory that happens to have that name


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else in_a_line(error)
