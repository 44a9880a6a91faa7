"""A digest of the code of a function: the function itself, and the code of its package that it uses.

Each function of a module has its own digest, so that an edited reward does not count as an edited parser. The digest is made
from the syntax tree: comments, docstrings, layout and the version of Python do not change it. Code of other packages is not
included; their versions identify it. Of a module without source, only the name is included.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any


def source_digest(implementations: Iterable[tuple[object, Callable[..., Any]]]) -> str:
    """Return the digest of some functions: 16 hexadecimal digits.

    Args:
        implementations: pairs of an owner (a module, or an instance whose class has the method) and its function.
    """
    parts: dict[tuple[str, str], str] = {}
    for owner, function in implementations:
        module, name = _locate(function)
        code = _CodeCollector(module.partition(".")[0], parts)
        if isinstance(owner, ModuleType):
            code.add(module, name)
        else:
            for base in type(owner).__mro__:
                if base.__module__.partition(".")[0] == type(owner).__module__.partition(".")[0]:
                    code.root = base.__module__.partition(".")[0]
                    code.add_method(base.__module__, base.__qualname__.partition(".")[0], function.__name__)
    text = "\n".join(f"{module} {name} {part}" for (module, name), part in sorted(parts.items()))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _locate(function: Callable[..., Any]) -> tuple[str, str]:
    """Return the module of a function and the name in that module under which it is found."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return getattr(function, "__module__", "") or "", name.partition(".")[0]


#: Fields of a syntax tree that do not change what the code does.
_IGNORED_FIELDS = ("ctx", "kind", "type_comment")


class _CodeCollector:
    """Collects the top-level statements of a package that some code uses, by following names.

    Attributes:
        root: the top-level package whose code is collected.
        parts: (module, name) -> the code that binds the name, as text.
    """

    def __init__(self, root: str, parts: dict[tuple[str, str], str]) -> None:
        self.root, self.parts = root, parts

    def add(self, module: str, name: str) -> None:
        """Add the statements that bind a name of a module, and all code that they use."""
        if (module, name) in self.parts:
            return
        self.parts[module, name] = ""
        source = _read_module(module)
        if source is None:
            return
        statements = source.names.get(name, ())
        self.parts[module, name] = " ".join(map(_write_tree, statements))
        for statement in statements:
            self._follow(source, statement)
        for number, statement in enumerate(source.unnamed):  # they run whenever the module is imported
            if (module, f"{number}") not in self.parts:
                self.parts[module, f"{number}"] = _write_tree(statement)
                self._follow(source, statement)

    def add_method(self, module: str, cls: str, method: str) -> None:
        """Add a method of a plugin's class and the rest of the class, without the hooks that the method does not use."""
        source = _read_module(module)
        classes = [node for node in source.names.get(cls, ()) if isinstance(node, ast.ClassDef)] if source else []
        if source is None or not classes:
            self.parts[module, cls] = ""
            return
        for node in classes:
            hooks = {str(getattr(member, "name", "")): member for member in node.body if _is_hook(member)}
            members: list[ast.AST] = [member for member in node.body if member not in hooks.values()]
            members += [hooks.pop(method)] if method in hooks else []
            while used := [
                hooks.pop(name) for name in list(hooks) if any(name in _get_attributes(item) for item in members)
            ]:
                members += used
            others = [*node.bases, *node.keywords, *node.decorator_list]
            for item in [*others, *members]:
                text = _write_tree(item)
                self.parts[module, f"{cls}.{getattr(item, 'name', text)}"] = text
                self._follow(source, item)

    def _add_module(self, module: str) -> None:
        source = _read_module(module)
        if source is not None:
            for name in source.names:
                self.add(module, name)

    def _follow(self, source: _Module, item: ast.AST) -> None:
        for node in ast.walk(item):
            if isinstance(node, ast.Name) and node.id in source.names:
                self.add(source.name, node.id)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.partition(".")[0] == self.root:
                        self._add_module(alias.name)
            elif isinstance(node, ast.ImportFrom):
                origin = source.resolve_import(node)
                if origin.partition(".")[0] == self.root:
                    for alias in node.names:
                        self._follow_from(origin, alias.name)

    def _follow_from(self, origin: str, name: str) -> None:
        source = _read_module(origin)
        is_name = source is not None and name in source.names
        is_module = name != "*" and _read_module(f"{origin}.{name}") is not None
        if is_name:
            self.add(origin, name)
        if is_module:
            self._add_module(f"{origin}.{name}")
        if not is_name and not is_module:
            self._add_module(origin)


class _Module:
    """The syntax tree of a module.

    Attributes:
        name: the module's full name.
        names: name -> the top-level statements that bind it.
        unnamed: the top-level statements that bind no name.
    """

    def __init__(self, name: str, path: Path, text: str) -> None:
        self.name = name
        self._package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        self.names: dict[str, list[ast.stmt]] = {}
        self.unnamed: list[ast.stmt] = []
        for statement in ast.parse(text).body:
            for part in _split_import(statement):
                bound_names = set(_find_bound_names(part))
                for bound_name in bound_names:
                    self.names.setdefault(bound_name, []).append(part)
                if not bound_names and not _is_text(part):
                    self.unnamed.append(part)

    def resolve_import(self, node: ast.ImportFrom) -> str:
        """Return the full name of the module that a ``from ... import`` names."""
        if not node.level:
            return node.module or ""
        parts = self._package.split(".")
        return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])


def _read_module(name: str) -> _Module | None:
    """Return the syntax tree of a module; None if its source cannot be read."""
    path = _find_file(name)
    try:
        stat = path.stat() if path else None
        return _parse(name, path, (stat.st_mtime_ns, stat.st_size, stat.st_ino)) if path and stat else None
    except (OSError, ValueError, SyntaxError, RecursionError):
        return None


@lru_cache(maxsize=256)
def _parse(name: str, path: Path, _version: tuple[int, ...]) -> _Module:
    return _Module(name, path, path.read_text(encoding="utf-8"))


def _find_file(name: str) -> Path | None:
    origin = getattr(sys.modules.get(name), "__file__", None)
    if not origin:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            spec = None
        origin = spec.origin if spec else None
    return Path(origin) if origin and origin.endswith(".py") else None


def _split_import(statement: ast.stmt) -> Iterator[ast.stmt]:
    """Split an import of several names into imports of one name: code that uses one does not use the others."""
    if isinstance(statement, ast.Import):
        yield from (ast.Import([alias]) for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        yield from (ast.ImportFrom(statement.module, [alias], statement.level) for alias in statement.names)
    else:
        yield statement


def _find_bound_names(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement binds or changes."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Name) and isinstance(statement, (ast.Assign, ast.AugAssign, ast.Delete)):
            # TABLE["x"] = 1 changes TABLE.
            targets = statement.targets if not isinstance(statement, ast.AugAssign) else [statement.target]
            if any(node in ast.walk(target) for target in targets):
                yield node.id
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]


def _is_text(statement: ast.AST) -> bool:
    """Return whether a statement is a docstring, or another text without effect."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _is_hook(member: ast.AST) -> bool:
    decorators = getattr(member, "decorator_list", [])
    return any("hookimpl" in _get_names(decorator) | _get_attributes(decorator) for decorator in decorators)


def _get_names(item: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(item) if isinstance(node, ast.Name)}


def _get_attributes(item: ast.AST) -> set[str]:
    return {node.attr for node in ast.walk(item) if isinstance(node, ast.Attribute)}


def _write_tree(item: Any) -> str:
    """Return a syntax tree as text, without empty fields, so that every version of Python returns the same text."""
    # The stack replaces recursion: a sum of a thousand texts is a tree of a thousand levels.
    parts: list[str] = []
    stack: list[tuple[str, Any]] = [("", item)]
    while stack:
        label, value = stack.pop()
        if isinstance(value, ast.AST):
            parts.append(f"{label}{type(value).__name__}(")
            children = [(f"{name}=", v) for name, v in ast.iter_fields(value) if name not in _IGNORED_FIELDS]
            stack.append((")", None))
            stack += reversed([(name, v) for name, v in children if v not in (None, [])])
        elif isinstance(value, list):
            parts.append(f"{label}[")
            stack.append(("]", None))
            stack += [("", child) for child in reversed(value) if not _is_text(child)]
        else:
            parts.append(label if label in (")", "]") else label + repr(value))
    return " ".join(parts)
