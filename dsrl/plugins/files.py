"""Python files of the user that hold hooks: overrides, and tasks without a package."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from dsrl.errors import PluginError, SettingsError
from dsrl.plugins.guard import FAULTS, describe_fault, find_innermost_line


def name_module(path: str, purpose: str) -> str:
    """Return the name of the module of a file; another folder makes another name."""
    file = Path(path).absolute()
    return f"dsrl_{purpose.split()[0]}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}_{file.stem}"


def import_file(path: str, purpose: str) -> ModuleType:
    """Import a Python file whose functions are marked with ``@hookimpl``.

    Args:
        path: the file.
        purpose: what the file is, for the error texts: ``override file`` or ``task file``.

    Raises:
        SettingsError: the file is not there, or is not a Python file.
        PluginError: the file cannot be run; the text names the line.
    """
    file = Path(path).absolute()
    if not file.is_file():
        raise SettingsError(f"{purpose} {path} does not exist")
    name = name_module(path, purpose)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise SettingsError(f"{purpose} {path} is not a Python file (*.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look there
    try:
        spec.loader.exec_module(module)
    except FAULTS as error:
        del sys.modules[name]
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        innermost = find_innermost_line(error, [str(file)])
        line = line or (f":{innermost[1]}" if innermost else "")
        raise PluginError(f"{purpose} {path}{line} cannot be run: {describe_fault(error)}") from error
    return module
