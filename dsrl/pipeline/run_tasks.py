"""The tasks of a run: one bound task with its definition, its domains and its teachers for each task that is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dsrl.datasets import Columns, read_demos
from dsrl.errors import SettingsError
from dsrl.pipeline.instructor import Definition
from dsrl.pipeline.task_data import choose_demos, label_items
from dsrl.pipeline.task_settings import get_task_options, get_task_value, get_task_values, name_task
from dsrl.pipeline.teachers import TeacherRoles, resolve_teachers
from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.specs import TaskSpec
from dsrl.plugins.task_files import FileTask
from dsrl.settings import Settings
from dsrl.types import Example, PluginRef, Price


@dataclass(frozen=True)
class RunTask:
    """One task of a run.

    Attributes:
        name: the name that the user typed.
        plugin: the bound task.
        definition: the task in words, with the demonstrations of the whole task; the user's texts replace the task's own.
        domains: the domains of the task; empty if the teacher has to name one.
        domain_demos: domain -> demonstrations, for the domains that have demonstrations of their own.
        teachers: the teacher for each purpose.
        dataset_path: the value of ``--dataset-path``; empty for the task's own data.
        columns: the columns of the user's data; None if the user has named none.
        rubric: what a teacher judges answers by; empty if the task is not judged.
    """

    name: str
    plugin: Plugin[TaskSpec]
    definition: Definition
    domains: tuple[str, ...] = ()
    domain_demos: Mapping[str, tuple[Example, ...]] = field(default_factory=dict)
    teachers: TeacherRoles = field(default_factory=dict)
    dataset_path: str = ""
    columns: Columns | None = None
    rubric: str = ""

    def get_definition(self, domain: str) -> Definition:
        """Return the definition with the demonstrations of a domain, or those of the whole task if it has none."""
        demos = self.domain_demos.get(domain)
        return self.definition if demos is None else replace(self.definition, demos=demos)

    def get_named_domain(self, domain: str) -> str:
        """Return the domain that the teacher's prompt names for a sample; empty if the task has only one domain."""
        return domain if len(self.domains) > 1 else ""

    def list_pattern_domains(self) -> list[str]:
        """List the domains that need a pattern of their own; the empty text stands for the whole task."""
        is_shared = not self.domains or any(domain not in self.domain_demos for domain in self.domains)
        return [*([""] if is_shared and self.definition.demos else []), *self.domain_demos]


#: The tasks of a run by the name that samples and test items have (:attr:`dsrl.types.Sample.task`): in a run of one task,
#: the name is empty.
RunTasks = Mapping[str, RunTask]


def list_judged(tasks: RunTasks) -> list[str]:
    """List the keys of the tasks whose answers a teacher judges."""
    return [key for key, task in tasks.items() if task.rubric]


def bind_tasks(settings: Settings) -> dict[str, RunTask]:
    """Bind the tasks of a run, without their teachers.

    Raises:
        DsrlError: a task, an option or a file of demonstrations is wrong.
    """
    tasks = settings.task
    return {name_task(task) if len(tasks) > 1 else "": _bind_task(settings, task) for task in tasks}


def add_teachers(tasks: RunTasks, settings: Settings, prices: Mapping[str, Price]) -> dict[str, RunTask]:
    """Add the teachers of each task. Tasks share a teacher, unless it prepares itself for one task.

    Raises:
        DsrlError: a teacher cannot work.
    """
    complete: dict[str, RunTask] = {}
    for key, task in tasks.items():
        others = [other.teachers for other in complete.values()]
        complete[key] = replace(task, teachers=resolve_teachers(settings, task.plugin, prices, others))
    return complete


def load_task(settings: Settings, name: str) -> Plugin[TaskSpec]:
    """Bind one task with its options and overrides.

    Raises:
        DsrlError: there is no such task, or an option or an override is wrong.
    """
    overrides = get_task_values(settings, "override", name)
    return load(PluginRef("task", name, get_task_options(settings, name), overrides), "task")


def find_base_model(settings: Settings) -> str:
    """Return the base model that the tasks of a run name; empty if they name none.

    Raises:
        SettingsError: two tasks name different base models.
        DsrlError: a task cannot be bound.
    """
    models: dict[str, list[str]] = {}
    for name in settings.task:
        task = load_task(settings, name)
        if model := task.hook.base_model() if task.implements("base_model") else "":
            models.setdefault(model, []).append(name)
    if len(models) > 1:
        wishes = "; ".join(f"{', '.join(names)} is meant for {model!r}" for model, names in models.items())
        raise SettingsError(
            f"the tasks of this run name different base models ({wishes}); choose one with --base-model"
        )
    return next(iter(models), "")


def _bind_task(settings: Settings, name: str) -> RunTask:
    task = load_task(settings, name)
    domains = get_task_values(settings, "domain", name) or tuple(task.hook.domains())
    dataset_path = get_task_value(settings, "dataset_path", name)
    named = Columns(get_task_values(settings, "input_column", name), get_task_value(settings, "output_column", name))
    columns = None if named == Columns() else named
    demos, domain_demos = _find_demos(settings, task, domains, dataset_path, columns)
    description = get_task_value(settings, "task_instruction", name) or task.hook.description()
    definition = Definition(
        description=description,
        input_instruction=task.hook.input_instruction(),
        output_instruction=task.hook.output_instruction(),
        demos=demos,
        system_prompt=settings.system_prompt,
    )
    return RunTask(
        name,
        task,
        definition,
        domains,
        domain_demos,
        dataset_path=dataset_path,
        columns=columns,
        rubric=get_rubric(settings, task),
    )


def get_rubric(settings: Settings, task: Plugin[TaskSpec]) -> str:
    """Return the rubric of a task: the user's, or its own; empty if the task is not judged.

    Raises:
        SettingsError: the user's rubric has no words.
    """
    own = get_task_value(settings, "rubric", task.name)
    if own and not own.strip():
        raise SettingsError("--rubric has no words; say what makes an answer good, or leave it out")
    return (own or task.hook.rubric()).strip()


#: The demonstrations of a whole task, and those of the domains that have their own.
_Demos = tuple[tuple[Example, ...], dict[str, tuple[Example, ...]]]


def _find_demos(
    settings: Settings, task: Plugin[TaskSpec], domains: tuple[str, ...], dataset_path: str, columns: Columns | None
) -> _Demos:
    """Return the demonstrations of the user's file or train split, or else the task's own.

    Raises:
        DsrlError: they cannot be read, or no answer can be read in one of them.
    """
    path = get_task_value(settings, "demos", task.name)
    count = settings.demos_from_train
    if path and count:
        raise SettingsError("--demos and --demos-from-train both name demonstrations; give one of them")
    if count:
        return choose_demos(task, dataset_path, count, settings.seed, columns), {}
    if not path:
        return _get_own_demos(task, domains)
    demos = read_demos(path, columns or _find_own_columns(task))
    if not get_rubric(settings, task):
        for _ in label_items(task, demos, f"the demonstrations {path}"):
            pass
    return _sort_demos(path, tuple(demos), domains)


def _find_own_columns(task: Plugin[TaskSpec]) -> Columns:
    """Return the columns that the file of a task names; the usual ones if it is not in a file or names none."""
    owners = (owner for owner, _ in task.implementations("load_dataset"))
    return next((owner.columns for owner in owners if isinstance(owner, FileTask)), Columns())


def _get_own_demos(task: Plugin[TaskSpec], domains: tuple[str, ...]) -> _Demos:
    """Return the demonstrations of a task; a task whose hook takes no domain has the same for all domains."""
    demos = tuple(task.hook.demos(domain=""))
    if not task.accepts("demos", "domain"):
        return demos, {}
    by_domain = {domain: tuple(task.hook.demos(domain=domain)) for domain in domains}
    return demos, {domain: own for domain, own in by_domain.items() if own and own != demos}


def _sort_demos(path: str, demos: tuple[Example, ...], domains: tuple[str, ...]) -> _Demos:
    """Sort demonstrations by domain. Those of the whole task are all of them if none is without a domain.

    Raises:
        SettingsError: a demonstration names a domain that the task does not have.
    """
    for demo in demos:
        if demo.domain and demo.domain not in domains:
            known = f"the domains are {', '.join(domains)}" if domains else "the task has no domains; give --domain"
            raise SettingsError(f"--demos {path}: a demonstration has the domain {demo.domain!r}; {known}")
    by_domain = {domain: tuple(demo for demo in demos if demo.domain == domain) for domain in domains}
    return tuple(demo for demo in demos if not demo.domain) or demos, {d: own for d, own in by_domain.items() if own}
