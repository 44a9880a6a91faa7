"""From an entry point to one bound and checked plugin.

Names are listed without importing anything. Only the chosen plugin is imported, so a broken stranger harms no run that
does not use it. Each plugin gets a PluginManager of its own: the kind's specifications, the defaults, the plugin, then
local overrides; what does not fit the contract is refused by name.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Literal, TypeVar, cast, overload

import pluggy

from dsrl.errors import DsrlError, PluginError, SettingsError
from dsrl.plugins.guard import FAULTS, Guard, Source, innermost, shown_fault
from dsrl.plugins.specs import (
    GROUPS,
    MANDATORY,
    RetrieverSpec,
    SamplerSpec,
    TaskSpec,
    TeacherSpec,
    TrainerSpec,
)

S_co = TypeVar("S_co", covariant=True)


@dataclass(frozen=True, slots=True)
class PluginRef:
    """What a worker process needs to bind a plugin again: names and settings, no objects.

    Attributes:
        kind: a key of :data:`dsrl.plugins.specs.GROUPS`.
        name: the entry point's name.
        options: given to the plugin's class as keyword arguments.
        overrides: files whose hooks win over the plugin's.
    """

    kind: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """A plugin as its distribution declares it; nothing is imported."""

    kind: str
    name: str
    target: str
    distribution: str
    version: str


@dataclass(frozen=True)
class Plugin(Generic[S_co]):
    """A bound and checked plugin. ``plugin.hook.reward(output=..., label=...)`` calls a hook, by keywords only."""

    ref: PluginRef
    distribution: str
    version: str
    hook: S_co
    _manager: pluggy.PluginManager

    @property
    def name(self) -> str:
        """The name that the user typed."""
        return self.ref.name

    def implements(self, hook: str) -> bool:
        """Say whether anything (the plugin, an override, a default) answers the hook."""
        return any(not impl.wrapper for impl in getattr(self._manager.hook, hook).get_hookimpls())

    def implementations(self, hook: str) -> list[tuple[object, Callable[..., Any]]]:
        """Give what answers a hook, first who is asked first: the plugin (or module), and its function; no defaults."""
        found = reversed(getattr(self._manager.hook, hook).get_hookimpls())
        return [(i.plugin, i.function) for i in found if not i.wrapper and i.plugin_name not in ("defaults", "guard")]


def installed(kind: str) -> list[PluginInfo]:
    """List the installed plugins of a kind, sorted by name; a name that clashes is listed once for each distribution."""
    group, _ = GROUPS[kind]
    return sorted((_found(kind, entry) for entry in entry_points(group=group)), key=lambda f: (f.name, f.distribution))


@overload
def load(ref: PluginRef, kind: Literal["task"]) -> Plugin[TaskSpec]: ...
@overload
def load(ref: PluginRef, kind: Literal["teacher"]) -> Plugin[TeacherSpec]: ...
@overload
def load(ref: PluginRef, kind: Literal["retriever"]) -> Plugin[RetrieverSpec]: ...
@overload
def load(ref: PluginRef, kind: Literal["sampler"]) -> Plugin[SamplerSpec]: ...
@overload
def load(ref: PluginRef, kind: Literal["trainer"]) -> Plugin[TrainerSpec]: ...
@overload
def load(ref: PluginRef, kind: str) -> Plugin[Any]: ...
def load(ref: PluginRef, kind: str) -> Plugin[Any]:
    """Import, bind and check the plugin that ``ref`` names.

    Raises:
        PluginError: unknown (with the nearest names), clashing, not importable, or against the contract; the text names
            the distribution, the fault and the mend.
        SettingsError: an option that the plugin does not take.
    """
    entry = _entry(ref.kind, ref.name)
    found = _found(ref.kind, entry)
    target = _instance(_imported(entry, found), found, ref.options)
    return _bind(ref, found, target)


def takes_option(kind: str, name: str, option: str) -> bool:
    """Say whether a plugin takes an option of this name.

    Raises:
        PluginError: there is no such plugin, or it cannot be imported.
    """
    entry = _entry(kind, name)
    target = _imported(entry, _found(kind, entry))
    if not inspect.isclass(target):
        return False
    accepted = inspect.signature(target).parameters
    return option in accepted or any(p.kind is p.VAR_KEYWORD for p in accepted.values())


def check(found: PluginInfo) -> str | None:
    """Import a listed plugin and test it against its contract without making it; give the fault, None if there is none."""
    try:
        target = _imported(_entry(found.kind, found.name), found)
        _bind(PluginRef(found.kind, found.name), found, target, as_class=inspect.isclass(target))
    except DsrlError as error:
        return str(error)
    return None


# --- finding ---------------------------------------------------------------------------------------------------------


def _found(kind: str, entry: EntryPoint) -> PluginInfo:
    distribution = entry.dist
    name, version = (distribution.name, distribution.version) if distribution else ("unknown distribution", "")
    return PluginInfo(kind, entry.name, entry.value, name, version)


def _entry(kind: str, name: str) -> EntryPoint:
    group, _ = GROUPS[kind]
    entries = entry_points(group=group)
    matches = [entry for entry in entries if entry.name == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        owners = " and ".join(f"{f.distribution} {f.version}" for f in (_found(kind, entry) for entry in matches))
        raise PluginError(f"{kind} {name!r} is declared by {owners}; uninstall one of them")
    names = sorted({entry.name for entry in entries})
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif names:
        hint = f"installed: {', '.join(names)}."
    else:
        hint = f"no {kind} plugin is installed."
    raise PluginError(
        f"no {kind} {name!r} is installed; {hint} A plugin is installed with pip (a package with an entry point in the "
        f"group {group!r}); `dsrl plugins` lists what is there."
    )


def _imported(entry: EntryPoint, found: PluginInfo) -> Any:
    try:
        return entry.load()
    except FAULTS as error:
        missing = _missing_module(error, found)
        raise PluginError(
            f"{_title(found)} cannot be imported: {type(error).__name__}: {error} (entry point {found.target!r})"
            f"; {f'is a dependency missing? try: pip install {missing}' if missing else 'reinstall or mend that package'}"
        ) from error


def _missing_module(error: BaseException, found: PluginInfo) -> str:
    """Name the module of somebody else that could not be imported; empty if that is not the fault."""
    name = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
    own = found.target.partition(":")[0].partition(".")[0]
    return "" if name.partition(".")[0] == own else name.partition(".")[0]


def _title(found: PluginInfo) -> str:
    return f"{found.kind} {found.name!r} of {found.distribution} {found.version}".rstrip()


# --- binding ---------------------------------------------------------------------------------------------------------


def _instance(target: Any, found: PluginInfo, options: Mapping[str, Any]) -> Any:
    if not inspect.isclass(target):
        if options:
            raise SettingsError(f"{_title(found)} takes no options; remove {', '.join(sorted(options))}")
        return target
    accepted = inspect.signature(target).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        unknown = sorted(set(options) - set(accepted))
        if unknown:
            takes = f"it takes {', '.join(accepted)}" if accepted else "it takes none"
            raise SettingsError(f"{_title(found)} has no option {', '.join(unknown)}; {takes}")
    missing = [p.name for p in accepted.values() if _required(p) and p.name not in options]
    if missing:
        raise SettingsError(f"{_title(found)} needs the option {', '.join(missing)}")
    try:
        return target(**options)
    except DsrlError:
        raise
    except FAULTS as error:
        where = Source(_title(found), _own_files(found, target)).place(error)
        raise PluginError(f"{_title(found)} cannot be started: {shown_fault(error)}{where}") from error


def _required(parameter: inspect.Parameter) -> bool:
    named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return named and parameter.default is parameter.empty


def _bind(ref: PluginRef, found: PluginInfo, target: Any, as_class: bool = False) -> Plugin[Any]:
    _, spec = GROUPS[ref.kind]
    manager = _Manager("dsrl")
    manager.add_hookspecs(spec)
    if ref.kind == "task":
        from dsrl.plugins.defaults import TaskDefaults

        manager.register(TaskDefaults(cast(TaskSpec, manager.hook)), "defaults")
    _register(manager, spec, _title(found), target, as_class)
    manager.first = True
    for path in ref.overrides:
        _register(manager, spec, f"override file {path}", _module(path), False)
    manager.first = False
    _refuse_missing(manager, ref.kind, found)
    if not as_class:
        # Outermost, so that a fault inside a plugin is told with the plugin's name, wherever it is called from.
        source = Source(_title(found), _own_files(found, target), ref.overrides)
        manager.register(Guard(manager, source), "guard")
    return Plugin(ref, found.distribution, found.version, manager.hook, manager)


class _Manager(pluggy.PluginManager):
    """Puts overrides before everything, also before a plugin's ``tryfirst``."""

    first = False

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        if isinstance(inspect.getattr_static(plugin, name, None), property):
            return None  # pluggy would run its code
        options = super().parse_hookimpl_opts(plugin, name)
        return {**options, "tryfirst": True, "trylast": False} if options and self.first else options


def _register(manager: pluggy.PluginManager, spec: type, title: str, target: Any, as_class: bool) -> None:
    hooks = _hooks(target)
    if not hooks:
        raise PluginError(
            f"{title} holds no hook: its functions must be marked with @hookimpl (from dsrl import hookimpl)"
        )
    known = {name for name in vars(spec) if not name.startswith("_")}
    for name, (hook, function) in hooks.items():
        if hook not in known:
            near = difflib.get_close_matches(hook, sorted(known), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the hooks are {', '.join(sorted(known))}."
            raise PluginError(f"{title}: {hook!r} is no hook of this kind; {hint}")
        _refuse_arguments(title, name, hook, function, spec)
    if as_class:
        # Checking must not start the plugin: an instance without __init__ has the same methods.
        target = object.__new__(target)
    try:
        manager.register(target, title)
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{title}: {error}") from error


def _hooks(target: Any) -> dict[str, tuple[str, Callable[..., Any]]]:
    """Give attribute -> (hook, function) of everything marked with ``@hookimpl``."""
    hooks = {}
    for name in dir(target):
        attribute = inspect.getattr_static(target, name)
        function = getattr(attribute, "__func__", attribute)
        marks = getattr(function, "dsrl_impl", None)
        if isinstance(marks, dict) and callable(function):
            hooks[name] = (marks.get("specname") or name, function)
    return hooks


def _refuse_arguments(title: str, name: str, hook: str, function: Callable[..., Any], spec: type) -> None:
    given = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    allowed = [p for p in inspect.signature(getattr(spec, hook)).parameters if p != "self"]
    takes = f"{hook}({', '.join(allowed)})"
    unknown = [p.name for p in given if p.name not in allowed]
    if unknown:
        raise PluginError(f"{title}: {name} has the argument {', '.join(unknown)}, which the hook has not: {takes}")
    defaulted = [p.name for p in given if p.default is not p.empty]
    if defaulted:
        # pluggy would leave such an argument out of the call, silently.
        raise PluginError(f"{title}: {name} gives {', '.join(defaulted)} a default; a hook takes {takes}, without any")
    if inspect.iscoroutinefunction(getattr(spec, hook)) and not inspect.iscoroutinefunction(function):
        raise PluginError(f"{title}: {name} must be `async def`")
    if inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(getattr(spec, hook)):
        raise PluginError(f"{title}: {name} must not be `async def`")


def _refuse_missing(manager: pluggy.PluginManager, kind: str, found: PluginInfo) -> None:
    missing = [hook for hook in MANDATORY[kind] if not getattr(manager.hook, hook).get_hookimpls()]
    if missing:
        raise PluginError(f"{_title(found)} lacks the mandatory hook {', '.join(missing)}")
    if kind == "task":
        own = [
            {hook for hook, _ in _hooks(plugin).values()}
            for name, plugin in manager.list_name_plugin()
            if name != "defaults"
        ]
        written = set().union(*own)
        if "answer_format" not in written:
            missing = [hook for hook in ("output_instruction", "process_prediction") if hook not in written]
            if missing:
                raise PluginError(
                    f"{_title(found)} lacks {' and '.join(missing)}; write them, or the one hook answer_format "
                    "from which both follow"
                )


def _module(path: str) -> ModuleType:
    """Import the file of ``--override``; its functions marked with ``@hookimpl`` win over the plugin's."""
    file = Path(path).absolute()
    if not file.is_file():
        raise SettingsError(f"override file {path} is not there")
    name = f"dsrl_override_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise SettingsError(f"override file {path} is no Python file (*.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look there
    try:
        spec.loader.exec_module(module)
    except FAULTS as error:
        del sys.modules[name]
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        found = innermost(error, [str(file)])
        line = line or (f":{found[1]}" if found else "")
        raise PluginError(f"override file {path}{line} cannot be run: {shown_fault(error)}") from error
    return module


def _own_files(found: PluginInfo, target: Any) -> tuple[str, ...]:
    """Give the files and folders that hold a plugin's code: of its package, and of the functions that are its hooks."""
    package = sys.modules.get(found.target.partition(":")[0].partition(".")[0])
    folders = getattr(package, "__path__", None) or [getattr(package, "__file__", None)]
    hooks = {function.__code__.co_filename for _, function in _hooks(target).values() if hasattr(function, "__code__")}
    return tuple(dict.fromkeys(str(file) for file in (*folders, *hooks) if file))


def parse_options(pairs: tuple[str, ...], flag: str) -> dict[str, Any]:
    """Read ``key=value`` flags into options; values are TOML where they parse as such, else text."""
    import tomllib

    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"{flag} {pair!r} is not of the form key=value")
        try:
            document = tomllib.loads(f"value = {value}")
        except tomllib.TOMLDecodeError:
            document = {}
        options[key.strip()] = document["value"] if len(document) == 1 else value
    return options
