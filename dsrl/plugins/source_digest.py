"""A digest of the code behind a function: its own and what it reaches within its package, and nothing else.

Two functions of one module have digests of their own, so that an edited reward does not count as an edited parser. The
digest rests on the syntax tree: comments, docstrings and layout do not change it, nor does another version of Python. Code
of other packages is not followed; their versions say what they are. A module without source is known by its name only.
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
    """Give 16 hexadecimal digits for functions.

    Args:
        implementations: an object (a module, or an instance whose class has the method), and its function.
    """
    parts: dict[tuple[str, str], str] = {}
    for owner, function in implementations:
        module, _, top = _place(function)
        reached = _Reached(module.partition(".")[0], parts)
        if isinstance(owner, ModuleType):
            reached.add(module, top)
        else:
            for base in type(owner).__mro__:
                if base.__module__.partition(".")[0] == type(owner).__module__.partition(".")[0]:
                    reached.root = base.__module__.partition(".")[0]
                    reached.add_method(base.__module__, base.__qualname__.partition(".")[0], function.__name__)
    text = "\n".join(f"{module} {place} {part}" for (module, place), part in sorted(parts.items()))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _place(function: Callable[..., Any]) -> tuple[str, str, str]:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return getattr(function, "__module__", "") or "", name, name.partition(".")[0]


#: Fields of a syntax tree that say nothing about what the code does.
_UNWRITTEN = ("ctx", "kind", "type_comment")


class _Reached:
    """Collects the top-level statements of a package that some code reaches, by the names that it uses."""

    def __init__(self, root: str, parts: dict[tuple[str, str], str]) -> None:
        self.root, self.parts = root, parts

    def add(self, module: str, name: str) -> None:
        """Add what a name of a module is bound by, and all that this reaches."""
        if (module, name) in self.parts:
            return
        self.parts[module, name] = ""
        source = _module(module)
        if source is None:
            return
        statements = source.names.get(name, ())
        self.parts[module, name] = " ".join(map(_written, statements))
        for statement in statements:
            self._follow(source, statement)
        for number, statement in enumerate(source.nameless):  # run when the module is imported, whatever it is used for
            if (module, f"{number}") not in self.parts:
                self.parts[module, f"{number}"] = _written(statement)
                self._follow(source, statement)

    def add_method(self, module: str, cls: str, method: str) -> None:
        """Add a method of a plugin's class with the rest of the class, but without hooks that it does not use."""
        source = _module(module)
        found = [node for node in source.names.get(cls, ()) if isinstance(node, ast.ClassDef)] if source else []
        if source is None or not found:
            self.parts[module, cls] = ""
            return
        for node in found:
            hooks = {str(getattr(member, "name", "")): member for member in node.body if _is_hook(member)}
            kept: list[ast.AST] = [member for member in node.body if member not in hooks.values()]
            kept += [hooks.pop(method)] if method in hooks else []
            while used := [hooks.pop(name) for name in list(hooks) if any(name in _attributes(item) for item in kept)]:
                kept += used
            others = [*node.bases, *node.keywords, *node.decorator_list]
            for item in [*others, *kept]:
                text = _written(item)
                self.parts[module, f"{cls}.{getattr(item, 'name', text)}"] = text
                self._follow(source, item)

    def _add_module(self, module: str) -> None:
        source = _module(module)
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
                origin = source.absolute(node)
                if origin.partition(".")[0] == self.root:
                    for alias in node.names:
                        self._follow_from(origin, alias.name)

    def _follow_from(self, origin: str, name: str) -> None:
        found = _module(origin)
        named = found is not None and name in found.names
        inner = name != "*" and _module(f"{origin}.{name}") is not None
        if named:
            self.add(origin, name)
        if inner:
            self._add_module(f"{origin}.{name}")
        if not named and not inner:
            self._add_module(origin)


class _Module:
    """The syntax tree of a module, by the names that its top-level statements bind."""

    def __init__(self, name: str, path: Path, text: str) -> None:
        self.name = name
        self._package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        self.names: dict[str, list[ast.stmt]] = {}
        self.nameless: list[ast.stmt] = []
        for statement in ast.parse(text).body:
            pieces = list(_one_by_one(statement))
            for piece in pieces:
                bound = set(_bound(piece))
                for each in bound:
                    self.names.setdefault(each, []).append(piece)
                if not bound and not _is_text(piece):
                    self.nameless.append(piece)

    def absolute(self, node: ast.ImportFrom) -> str:
        """Give the module that a ``from ... import`` means."""
        if not node.level:
            return node.module or ""
        parts = self._package.split(".")
        return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])


def _module(name: str) -> _Module | None:
    path = _file(name)
    try:
        stat = path.stat() if path else None
        return _parsed(name, path, (stat.st_mtime_ns, stat.st_size, stat.st_ino)) if path and stat else None
    except (OSError, ValueError, SyntaxError, RecursionError):
        return None


@lru_cache(maxsize=256)
def _parsed(name: str, path: Path, _version: tuple[int, ...]) -> _Module:
    return _Module(name, path, path.read_text(encoding="utf-8"))


def _file(name: str) -> Path | None:
    origin = getattr(sys.modules.get(name), "__file__", None)
    if not origin:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            spec = None
        origin = spec.origin if spec else None
    return Path(origin) if origin and origin.endswith(".py") else None


def _one_by_one(statement: ast.stmt) -> Iterator[ast.stmt]:
    """Cut an import of several names into imports of one: who uses one does not use the others."""
    if isinstance(statement, ast.Import):
        yield from (ast.Import([alias]) for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        yield from (ast.ImportFrom(statement.module, [alias], statement.level) for alias in statement.names)
    else:
        yield statement


def _bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Name) and isinstance(statement, (ast.Assign, ast.AugAssign, ast.Delete)):
            # TABLE["x"] = 1 changes what TABLE is.
            targets = statement.targets if not isinstance(statement, ast.AugAssign) else [statement.target]
            if any(node in ast.walk(target) for target in targets):
                yield node.id
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]


def _is_text(statement: ast.AST) -> bool:
    """Say whether a statement is a docstring, or a text that stands alone."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _is_hook(member: ast.AST) -> bool:
    decorators = getattr(member, "decorator_list", [])
    return any("hookimpl" in _names(decorator) | _attributes(decorator) for decorator in decorators)


def _names(item: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(item) if isinstance(node, ast.Name)}


def _attributes(item: ast.AST) -> set[str]:
    return {node.attr for node in ast.walk(item) if isinstance(node, ast.Attribute)}


def _written(item: Any) -> str:
    """Write a syntax tree; what is empty is left out, so that it is the same under every version of Python."""
    # With a stack of its own: a sum of a thousand texts is a tree of a thousand levels.
    parts: list[str] = []
    waiting: list[tuple[str, Any]] = [("", item)]
    while waiting:
        label, value = waiting.pop()
        if isinstance(value, ast.AST):
            parts.append(f"{label}{type(value).__name__}(")
            inner = [(f"{name}=", v) for name, v in ast.iter_fields(value) if name not in _UNWRITTEN]
            waiting.append((")", None))
            waiting += reversed([(name, v) for name, v in inner if v not in (None, [])])
        elif isinstance(value, list):
            parts.append(f"{label}[")
            waiting.append(("]", None))
            waiting += [("", one) for one in reversed(value) if not _is_text(one)]
        else:
            parts.append(label if label in (")", "]") else label + repr(value))
    return " ".join(parts)
