"""Load an environment of verifiers, and refuse one that is more than a question with a rated answer."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions
from itertools import islice
from typing import Any

from dsrl import PluginError, SettingsError

_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w-]*(@[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class Environment:
    """A loaded environment.

    Attributes:
        name: the name that the user typed.
        taskset: the taskset, as its configuration made it.
        config: the configuration of its tasks.
        task_type: the class of its tasks.
        has_splits: whether its configuration has a field ``split``.
    """

    name: str
    taskset: Any
    config: Any
    task_type: type[Any]
    has_splits: bool

    def read_tasks(self, limit: int) -> Iterator[Any]:
        """Yield the tasks of the taskset; of an endless one, so many.

        Raises:
            PluginError: the taskset fails.
        """
        try:
            yield from self.taskset if self.taskset.bounded else islice(self.taskset, limit)
        except Exception as error:
            raise PluginError(f"environment {self.name!r}: its items cannot be read: {_describe(error)}") from error

    def make_task(self, data: Any) -> Any:
        """Return a task of the environment with other data."""
        return self.task_type(data, self.config)

    def describe(self) -> str:
        """Return what the environment says of itself: the docstring of its taskset or module, or its summary.

        Raises:
            SettingsError: it says nothing.
        """
        kind = type(self.taskset)
        module = inspect.getmodule(kind)
        package = kind.__module__.partition(".")[0]
        candidates = [kind.__dict__.get("__doc__"), getattr(module, "__doc__", None), _read_summary(package)]
        text = next((" ".join(text.split()) for text in candidates if text and text.strip()), "")
        if not text:
            raise SettingsError(
                f"environment {self.name!r} does not say what it is about; say it with --task-option description='...'"
            )
        return text


def load_environment(name: str, options: Mapping[str, Any]) -> Environment:
    """Import an environment and make its taskset.

    Args:
        name: the name of an installed environment, as ``vf-eval`` takes it.
        options: fields of the configuration of the taskset.

    Raises:
        PluginError: there is no such environment, it cannot be loaded, or it needs more than a single turn.
        SettingsError: the configuration does not take an option.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name[:100]!r} is not the name of an environment; write --task verifiers:NAME, where NAME is an installed "
            "package, for example verifiers:my-env"
        )
    import verifiers.v1 as vf
    from pydantic import ValidationError

    try:
        config_type = vf.taskset_config_type(name)
        environment_type = vf.environment_class(name)
        has_harness = vf.default_harness_id(name) == name
    except Exception as error:
        raise PluginError(f"environment {name!r} cannot be loaded: {_explain_import(name, error)}") from error
    try:
        config = config_type.model_validate({"id": name, **options})
    except ValidationError as error:
        raise SettingsError(f"environment {name!r}: {_describe_validation(error)}") from error
    try:
        taskset = vf.load_taskset(config)
        task_type = vf.task_type(name)
        reason = _find_obstacle(vf, taskset, task_type, config) if environment_type is vf.SingleAgentEnv else ""
    except Exception as error:
        raise PluginError(f"environment {name!r} cannot be loaded: {_describe(error)}") from error
    if environment_type is not vf.SingleAgentEnv:
        reason = "it lets several agents play, or has rules of its own for a conversation"
    elif has_harness:
        reason = "it brings a program of its own that uses the model"
    if reason:
        raise PluginError(
            f"environment {name!r} cannot be a task: {reason}. dsrl asks a model once for each input and rates the answer"
        )
    return Environment(name, taskset, config.task, task_type, "split" in config_type.model_fields)


def _find_obstacle(vf: Any, taskset: Any, task_type: type[Any], config: Any) -> str:
    """Return why an environment needs more than one answer of a model; empty if it does not."""
    if taskset.toolsets(config) or task_type.toolsets(config.task):
        return "it gives the model tools"
    if task_type.NEEDS_CONTAINER:
        return "it needs a container"
    for hook in ("setup", "finalize", "stage_verifier"):
        if getattr(task_type, hook) is not getattr(vf.Task, hook):
            return f"its tasks prepare or use a machine (their method {hook})"
    if config.task.judges or any(isinstance(value, vf.JudgeConfig) for _, value in config.task):
        return "its reward asks a judge model, whose cost dsrl would not see"
    # The hooks are functions of the class; an instance needs data, which only an item has.
    bare = object.__new__(task_type)
    bare.config = config.task
    if bare.hooks("stop"):
        return "it says itself when a conversation ends, so it has several turns"
    rewards = bare.hooks("reward")
    if not rewards:
        return "it has no reward"
    for reward in rewards:
        parameter = inspect.signature(reward).parameters.get("runtime")
        if parameter is not None and parameter.default is parameter.empty:
            return f"its reward {reward.__name__} looks into the machine on which an agent worked"
    return ""


def _explain_import(name: str, error: Exception) -> str:
    """Say in one sentence why an environment was not found."""
    module = name.rsplit("/", 1)[-1].split("@", 1)[0].replace("-", "_").lower()
    if isinstance(error, ModuleNotFoundError) and error.name in (None, module):
        return f"no package with the module {module!r} is installed; install the environment with pip"
    if isinstance(error, (AttributeError, TypeError)):
        import sys

        if hasattr(sys.modules.get(module), "load_environment"):
            return (
                "it has the form of verifiers before 0.4 (load_environment), which the library no longer reads; it must "
                "export a taskset"
            )
    return _describe(error)


def _read_summary(package: str) -> str:
    """Return the summary of the distribution that a package belongs to; empty without one."""
    for distribution in packages_distributions().get(package, ()):
        try:
            return next(iter(metadata(distribution).get_all("Summary") or ()), "")
        except PackageNotFoundError:
            continue
    return ""


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:500]}"


def _describe_validation(error: Any) -> str:
    """Return the complaints of pydantic about options, in one line."""
    complaints = (
        f"option {'.'.join(map(str, problem['loc'])) or '(all)'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False)[:5]
    )
    return "; ".join(complaints)
