"""From the entry point of a plugin to one bound and checked plugin.

Only the chosen plugin is imported, so a broken plugin harms no run that does not use it. Each plugin gets a PluginManager
of its own: the specifications of its kind, the defaults, the plugin, then the local overrides. A plugin that does not fit
its contract is refused by name.
"""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Literal, cast, overload

import pluggy

from dsrl.errors import DsrlError, PluginError, SettingsError
from dsrl.plugins.defaults import OWN_PARTS, SamplerDefaults, TaskDefaults
from dsrl.plugins.discovery import Loadable, PluginInfo, find_plugin, split_name
from dsrl.plugins.files import import_file
from dsrl.plugins.guard import FAULTS, Guard, Source, describe_fault
from dsrl.plugins.hook_calls import WATCHED, show_calls
from dsrl.plugins.source_digest import source_digest
from dsrl.plugins.specs import (
    API_VERSION,
    KINDS,
    Hook,
    Kind,
    RetrieverSpec,
    SamplerSpec,
    TaskSpec,
    TeacherSpec,
    TrainerSpec,
)
from dsrl.types import PluginRef, S_co


@dataclass(frozen=True)
class Plugin(Generic[S_co]):
    """A bound and checked plugin. ``plugin.hook.reward(output=..., label=...)`` calls a hook, with keyword arguments only.

    Attributes:
        ref: what a worker process needs to bind the plugin again.
        distribution: the name of the plugin's distribution.
        version: the version of that distribution.
        hook: the hooks of the plugin's kind. A caller may leave out the optional arguments of a hook.
    """

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
        """Return whether the plugin, an override or a default implements the hook."""
        return any(not impl.wrapper for impl in getattr(self._manager.hook, hook).get_hookimpls())

    def accepts(self, hook: str, argument: str) -> bool:
        """Return whether the plugin or an override implements the hook with this argument."""
        impls = getattr(self._manager.hook, hook).get_hookimpls()
        return any(argument in impl.argnames for impl in impls if impl.plugin_name not in OWN_PARTS)

    def implementations(self, hook: str) -> list[tuple[object, Callable[..., Any]]]:
        """List what implements the hook, without defaults: pairs of plugin (or module) and function, first called first."""
        impls = reversed(getattr(self._manager.hook, hook).get_hookimpls())
        return [(i.plugin, i.function) for i in impls if not i.wrapper and i.plugin_name not in OWN_PARTS]

    def digest_code(self, *hooks: str) -> str:
        """Return a digest of the code that implements the hooks, without dsrl's defaults: other code, another digest."""
        return source_digest(pair for hook in hooks for pair in self.implementations(hook))


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

    Args:
        ref: names the plugin, its options and its overrides. The name ``NAME:ARGUMENT`` is the plugin ``NAME`` with the
            option ``argument``.
        kind: the kind that the caller expects.

    Raises:
        PluginError: the plugin is unknown (the error names the nearest ones), declared twice, not importable, or against
            its contract; the error names the distribution, the fault and what to do.
        SettingsError: the plugin does not take an option, or no argument after a colon.
    """
    if ref.kind != kind:
        raise ValueError(f"{ref} is not a {kind}")
    entry, info = find_plugin(ref.kind, ref.name)
    target = _import(entry, info)
    options = _add_argument(ref, target, info) if ":" in ref.name else ref.options
    return _bind(ref, info, _make_instance(target, info, options))


def takes_option(kind: str, name: str, option: str) -> bool:
    """Return whether a plugin takes an option of this name.

    Raises:
        PluginError: there is no such plugin, or it cannot be imported.
    """
    target = _import(*find_plugin(kind, name))
    if not inspect.isclass(target):
        return False
    parameters = inspect.signature(target).parameters
    return option in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def find_own_settings(kind: str, name: str) -> Mapping[str, Any]:
    """Return setting -> value that a plugin gives for a run that uses it (its attribute ``dsrl_settings``).

    Raises:
        PluginError: there is no such plugin, it cannot be imported, or it gives something else than numbers by name.
    """
    entry, info = find_plugin(kind, name)
    settings = getattr(_import(entry, info), "dsrl_settings", {})
    is_valid = isinstance(settings, Mapping) and all(
        isinstance(key, str) and isinstance(value, (int, float)) for key, value in settings.items()
    )
    if not is_valid:
        raise PluginError(f"{info}: dsrl_settings must hold the names of settings with numbers")
    return dict(settings)


def check_contract(info: PluginInfo) -> None:
    """Import an installed plugin and check its hooks against their contract, without making an instance of it.

    Raises:
        DsrlError: what is wrong with the plugin.
    """
    entry, _ = find_plugin(info.kind, info.name)
    target = _import(entry, info)
    _bind(PluginRef(info.kind, info.name), info, target, as_class=inspect.isclass(target))
    _refuse_unmarked(KINDS[info.kind], str(info), target)


# --- importing -------------------------------------------------------------------------------------------------------


def _import(entry: Loadable, info: PluginInfo) -> Any:
    try:
        return entry.load()
    except DsrlError:
        raise
    except FAULTS as error:
        raise PluginError(
            f"{info} cannot be imported: {type(error).__name__}: {error} (entry point {info.target!r}); "
            f"{_advise_on_import(error, entry, info)}"
        ) from error


def _advise_on_import(error: BaseException, entry: Loadable, info: PluginInfo) -> str:
    missing = _find_missing_module(error, info)
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "dsrl":
        requirements = (entry.dist.requires if entry.dist else None) or []
        wish = next((f" (it asks for {text})" for text in requirements if text.startswith("data-synthesis-rl")), "")
        return (
            f"the package was written for another version of dsrl{wish}, and this dsrl has version {API_VERSION} of the "
            "hook API; upgrade dsrl or install another version of the plugin"
        )
    return f"is a dependency missing? try: pip install {missing}" if missing else "reinstall or correct that package"


def _find_missing_module(error: BaseException, info: PluginInfo) -> str:
    """Return the name of another package's module that could not be imported; empty if that is not the fault."""
    name = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
    own = info.target.partition(":")[0].partition(".")[0]
    return "" if name.partition(".")[0] == own else name.partition(".")[0]


# --- binding ---------------------------------------------------------------------------------------------------------


def _make_instance(target: Any, info: PluginInfo, options: Mapping[str, Any]) -> Any:
    if not inspect.isclass(target):
        if options:
            raise SettingsError(f"{info} takes no options; remove {', '.join(sorted(options))}")
        return target
    parameters = inspect.signature(target).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        unknown = sorted(set(options) - set(parameters))
        if unknown:
            takes = f"its options are {', '.join(parameters)}" if parameters else "it takes no options"
            raise SettingsError(f"{info} has no option {', '.join(unknown)}; {takes}")
    missing = [p.name for p in parameters.values() if _is_required(p) and p.name not in options]
    if missing:
        raise SettingsError(f"{info} needs the option {', '.join(missing)}")
    try:
        return target(**options)
    except DsrlError:
        raise
    except FAULTS as error:
        where = Source(str(info), _list_files(info, target)).locate(error)
        raise PluginError(f"{info} cannot be started: {describe_fault(error)}{where}") from error


def _add_argument(ref: PluginRef, target: Any, info: PluginInfo) -> Mapping[str, Any]:
    """Return the options of a plugin with the text that stands after the colon of its name."""
    if not inspect.isclass(target) or "argument" not in inspect.signature(target).parameters:
        raise SettingsError(f"{info} takes nothing after a colon; write {info.name!r}, not {ref.name[:200]!r}")
    if "argument" in ref.options:
        raise SettingsError(
            f"{ref.kind} {ref.name[:200]!r} already gives the option argument after the colon; remove the other one"
        )
    return {**ref.options, "argument": split_name(ref.name)[1]}


def _is_required(parameter: inspect.Parameter) -> bool:
    has_name = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return has_name and parameter.default is parameter.empty


def _bind(ref: PluginRef, info: PluginInfo, target: Any, as_class: bool = False) -> Plugin[Any]:
    kind = KINDS[ref.kind]
    _refuse_api_version(str(info), target)
    manager = _Manager("dsrl")
    assert kind.spec is not None, f"a {kind.name} has no hooks"
    manager.add_hookspecs(kind.spec)
    if ref.kind == "task":
        manager.register(TaskDefaults(cast(TaskSpec, manager.hook)), "defaults")
    elif ref.kind == "sampler":
        manager.register(SamplerDefaults(cast(SamplerSpec, manager.hook)), "defaults")
    _register(manager, kind, str(info), target, as_class)
    manager.registers_overrides = True
    for path in ref.overrides:
        module = import_file(path, "override file")
        _register(manager, kind, f"override file {path}", module, False)
        _refuse_unmarked(kind, f"override file {path}", module)
    manager.registers_overrides = False
    _refuse_missing(manager, kind, info)
    source = Source(str(info), _list_files(info, target), ref.overrides)
    if not as_class:
        # The guard is outermost, so that the error of a faulty hook names the plugin, whoever calls the hook.
        manager.register(Guard(kind, source), "guard")
    return Plugin(ref, info.distribution, info.version, _Hooks(manager, kind, source), manager)


class _Hooks:
    """The hooks of a bound plugin as callers see them: a caller may leave out the optional arguments of a hook."""

    def __init__(self, manager: pluggy.PluginManager, kind: Kind, source: Source) -> None:
        for hook in kind.hooks.values():
            caller = getattr(manager.hook, hook.name)
            if hook.name in WATCHED:
                caller = show_calls(caller, hook, source)
            elif hook.optional_arguments:
                caller = _fill_arguments(caller, hook)
            setattr(self, hook.name, caller)


def _fill_arguments(caller: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        return caller(**{**hook.optional_arguments, **arguments})

    return call


class _Manager(pluggy.PluginManager):
    """Calls overrides before everything else, also before a plugin's ``tryfirst``."""

    registers_overrides = False

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        if isinstance(inspect.getattr_static(plugin, name, None), property | cached_property):
            return None  # pluggy 1.6 would run the property's code, and so before the plugin is bound
        options = super().parse_hookimpl_opts(plugin, name)
        return {**options, "tryfirst": True, "trylast": False} if options and self.registers_overrides else options


def _register(manager: pluggy.PluginManager, kind: Kind, title: str, target: Any, as_class: bool) -> None:
    hooks = _find_hooks(target)
    if not hooks:
        raise PluginError(f"{title} has no hook: its functions need the mark @hookimpl (from dsrl import hookimpl)")
    for name, (hook, function) in hooks.items():
        if hook not in kind.hooks:
            near = difflib.get_close_matches(hook, sorted(kind.hooks), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the hooks are {', '.join(sorted(kind.hooks))}."
            raise PluginError(f"{title}: {hook!r} is not a hook of a {kind.name}; {hint}")
        _refuse_arguments(title, name, kind.hooks[hook], function)
    if as_class:
        # A check must not start the plugin: an instance without __init__ has the same methods.
        target = object.__new__(target)
    try:
        manager.register(target, title)
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{title}: {error}") from error


def _find_hooks(target: Any) -> dict[str, tuple[str, Callable[..., Any]]]:
    """Return attribute -> (hook, function) for everything that is marked with ``@hookimpl``."""
    hooks = {}
    for name in dir(target):
        attribute = inspect.getattr_static(target, name)
        function = getattr(attribute, "__func__", attribute)
        marks = getattr(function, "dsrl_impl", None)
        if isinstance(marks, dict) and callable(function):
            hooks[name] = (marks.get("specname") or name, function)
    return hooks


def _refuse_api_version(title: str, target: Any) -> None:
    needed = getattr(target, "dsrl_api", API_VERSION)
    if type(needed) is not int or needed < 1:
        raise PluginError(
            f"{title}: dsrl_api is {needed!r}, but must be the number of a version of the hook API, e.g. 1"
        )
    if needed > API_VERSION:
        raise PluginError(
            f"{title} needs version {needed} of the hook API, and this dsrl has version {API_VERSION}; upgrade dsrl (pip "
            "install --upgrade data-synthesis-rl) or install an older version of the plugin"
        )


def _refuse_arguments(title: str, name: str, hook: Hook, function: Callable[..., Any]) -> None:
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    unknown = [p.name for p in parameters if p.name not in hook.arguments]
    if unknown:
        raise PluginError(
            f"{title}: {name} has the argument {', '.join(unknown)}, which the hook does not have: {hook}"
        )
    with_default = [p.name for p in parameters if p.default is not p.empty]
    if with_default:
        # pluggy would silently leave such an argument out of the call.
        raise PluginError(
            f"{title}: {name} gives {', '.join(with_default)} a default value; a hook takes its arguments without "
            f"one: {hook}"
        )
    if inspect.iscoroutinefunction(function) != hook.is_async:
        raise PluginError(f"{title}: {name} must {'' if hook.is_async else 'not '}be `async def`")


def _refuse_unmarked(kind: Kind, title: str, target: Any) -> None:
    """Refuse a function that has the name of a hook and no mark: dsrl would silently never call it."""
    implemented = {hook for hook, _ in _find_hooks(target).values()}
    for hook in kind.hooks:
        function = inspect.getattr_static(target, hook, None)
        function = getattr(function, "__func__", function)
        if hook in implemented or not inspect.isfunction(function):
            continue
        if inspect.ismodule(target) and function.__module__ != target.__name__:
            continue  # the module imports something of this name
        raise PluginError(
            f"{title}: {hook} has the name of a hook but no mark, so dsrl would never call it; mark it with @hookimpl, or "
            f"give it another name, e.g. _{hook}"
        )


def _refuse_missing(manager: pluggy.PluginManager, kind: Kind, info: PluginInfo) -> None:
    missing = [
        hook.name
        for hook in kind.hooks.values()
        if hook.is_mandatory and not getattr(manager.hook, hook.name).get_hookimpls()
    ]
    if missing:
        raise PluginError(f"{info} lacks the mandatory hook {', '.join(missing)}")
    if kind.name == "task":
        own = (plugin for name, plugin in manager.list_name_plugin() if name not in OWN_PARTS)
        implemented = {hook for plugin in own for hook, _ in _find_hooks(plugin).values()}
        needed = ("output_instruction",) if "rubric" in implemented else ("output_instruction", "process_prediction")
        missing = [hook for hook in needed if hook not in implemented]
        if missing and "answer_format" not in implemented:
            raise PluginError(
                f"{info} lacks {' and '.join(missing)}; write them, or write the one hook answer_format, from which both "
                "follow; a task whose answers a teacher judges has the hook rubric instead of process_prediction"
            )


def _list_files(info: PluginInfo, target: Any) -> tuple[str, ...]:
    """List the files and folders of a plugin's code: those of its package, and those of the functions of its hooks."""
    package = sys.modules.get(info.target.partition(":")[0].partition(".")[0])
    folders = getattr(package, "__path__", None) or [getattr(package, "__file__", None)]
    functions = (function for _, function in _find_hooks(target).values())
    hooks = {function.__code__.co_filename for function in functions if hasattr(function, "__code__")}
    return tuple(dict.fromkeys(str(file) for file in (*folders, *hooks) if file))


def parse_options(pairs: tuple[str, ...], flag: str) -> dict[str, Any]:
    """Parse ``key=value`` flags into options. A value is parsed as TOML; if that fails, it is a text.

    Raises:
        SettingsError: a flag is not of the form key=value.
    """
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
