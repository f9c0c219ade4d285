"""What `package.module:callable` names."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from simulator.errors import TrainwattError, first_line, unknown


def import_callable(spec: str) -> Callable[..., Any]:
    """Return what `package.module:callable` names; the current directory is searched too.

    Raises `TrainwattError` where the module cannot be imported or has no such callable.
    """
    module_name, _, attribute = spec.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # importing runs the user's code, which may fail in any way
        what = f"{type(error).__name__}: " if not isinstance(error, ImportError) else ""
        raise TrainwattError(
            f"cannot import {module_name!r} ({what}{first_line(error)}); give package.module:callable"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [n for n in dir(found) if not n.startswith("_")]
            raise unknown(f"callable in {module_name}", part, public, "check its spelling")
        found = getattr(found, part)
    if not callable(found):
        raise TrainwattError(f"{spec} is a {type(found).__name__}; give something that can be called")
    return found  # type: ignore[no-any-return]
