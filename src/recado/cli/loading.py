"""Finding a user's object by ``module:attribute`` or ``path.py`` in the working directory."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TypeVar

from recado.errors import ConfigurationError

__all__ = ["load_object"]

T = TypeVar("T")


def load_object(name: str, kind: type[T], default_attribute: str) -> T:
    """Import ``module:attribute`` (or ``path.py``) and check its type. Raises ConfigurationError that says why not.

    Errors inside the user's module are raised as they are: their traceback is what helps.
    """
    path, colon, attribute = name.partition(":")
    module_name = path.removesuffix(".py").strip("./").replace("/", ".")
    if not module_name or (colon and not attribute):
        what = "module" if not module_name else kind.__name__
        raise ConfigurationError(f"{name!r} names no {what}; it must be like shop.jobs:{default_attribute} or jobs.py.")
    attribute = attribute or default_attribute
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, something that it imports is not
        raise ConfigurationError(f"There is no module {module_name!r} in {os.getcwd()} (from {name!r}).") from None
    found = getattr(module, attribute, None)
    if not isinstance(found, kind):
        what = "nothing of that name" if found is None else f"a {type(found).__name__}"
        raise ConfigurationError(f"{name!r}: {attribute!r} must be a {kind.__name__}; the module has {what}.")
    return found
