"""All checks of a run before the first call of a teacher is paid for.

Everything that can be wrong with the inputs of a run is found here: the teachers and the budget, files and folders, the test
data, the hooks that score answers, the base model (by the sampler's hook ``check``), and the trainer (by its hook
``check``). Nothing is written to the disk. What belongs to a finished stage, or to a stage that ``--stop-after`` leaves out,
is not checked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsrl.datasets import is_local_path
from dsrl.errors import DataError, SettingsError
from dsrl.pipeline.context import RunContext
from dsrl.pipeline.dev_items import check_eval_data
from dsrl.pipeline.dry_run import make_first_judge_request, make_first_request
from dsrl.pipeline.metric_logs import check_logs
from dsrl.pipeline.run_tasks import list_judged
from dsrl.pipeline.stages.evaluated import load_all_items, load_items
from dsrl.pipeline.stages.trained import UNKNOWN_OUTPUT, check_output_empty, make_job, owns_output
from dsrl.pipeline.teachers import TeacherRole
from dsrl.plugins.scoring import compute_reward, grade
from dsrl.plugins.several_tasks import check_trainer_takes_tasks, join_tasks
from dsrl.storage.disk import check_room, check_writable
from dsrl.storage.evaluations import EvalItem
from dsrl.storage.run_store import RunStore
from dsrl.teaching.budget import check_first_call, check_price
from dsrl.teaching.ledger import CallPolicy
from dsrl.teaching.reply_store import read_statistics
from dsrl.types import UNREADABLE, TrainItem

#: A sample takes at least this many bytes in run.db, and its replies take as many in calls.db.
_BYTES_PER_SAMPLE = 1024
_WEIGHTS = (".safetensors", ".bin")
#: Test items of a task that show how long a prompt is.
_EXAMPLES = 50


@dataclass(frozen=True, slots=True)
class RunState:
    """How far a run is, as far as the checks depend on it.

    Attributes:
        output_basis: the output folder of the last training (:func:`dsrl.pipeline.stages.trained.get_output_basis`); None
            if it was not started.
        has_attempts: whether the base model was asked.
        is_selected: whether the last training set is selected.
        is_trained: whether the last training is finished.
        has_unpaid_rows: whether a larger budget would add samples, and the training would be repeated.
        test_items: the stored test items.
        is_evaluated: whether nothing is left to do if the test items are still the same.
    """

    output_basis: str | None = None
    has_attempts: bool = False
    is_selected: bool = False
    is_trained: bool = False
    has_unpaid_rows: bool = False
    test_items: tuple[EvalItem, ...] = ()
    is_evaluated: bool = False


def check_inputs(context: RunContext) -> Sequence[EvalItem] | None:
    """Check everything that this command will use, the cheap things first.

    Returns:
        The test items of all tasks; None if this command does not evaluate.

    Raises:
        DsrlError: the text says what is wrong, where, and what would work.
    """
    state = _read_state(context)
    check_logs(context.settings.log_to)
    check_teachers(context)
    check_files(context)
    if context.includes("trained"):
        judged = [context.tasks[key].name for key in list_judged(context.tasks)]
        check_trainer_takes_tasks(context.trainer, context.tasks, judged)
    _check_model_tasks(context, state)
    _check_first_call(context)
    _check_folders(context)
    if context.includes("trained"):
        _check_output(context, state)
    if context.includes("selected"):
        is_needed = not state.is_selected or state.has_unpaid_rows
        check_eval_data(context.settings, context.tasks, is_needed)
    if context.includes("trained") and not state.is_trained:
        _check_scoring(context)
    items = None
    if context.includes("evaluated"):
        items = load_all_items(context.tasks, context.settings.test_size)
    is_done = state.is_evaluated and (items is None or tuple(items) == state.test_items)
    if context.includes("attempted") and not is_done:
        _check_sampler(context, _find_example_items(context) if items is None else items)
    if context.includes("trained") and (not state.is_trained or state.has_unpaid_rows):
        _check_trainer(context, items or ())
    return items


def check_teachers(context: RunContext) -> None:
    """Refuse prices that no teacher has, a budget without prices, and batches that a teacher does not have.

    Raises:
        DsrlError: the text says what is wrong.
    """
    check_roles(context.teachers.values(), context.policy)


def check_roles(roles: Iterable[TeacherRole], policy: CallPolicy) -> None:
    """Do as :func:`check_teachers` for these teachers.

    Raises:
        DsrlError: the text says what is wrong.
    """
    roles = list(roles)
    names = dict.fromkeys(role.priced_name for role in roles)
    for name in policy.prices:
        if name not in names:
            raise SettingsError(
                f"--price is given for {name!r}, but the teachers of this run are {', '.join(names)}; give the price of one "
                "of these, or leave --price out"
            )
    for role in roles:
        check_price(policy.budget, role.price, role.priced_name)
        if policy.batch and not role.plugin.implements("submit_batch"):
            raise SettingsError(f"teacher {role.plugin.name!r} has no batches; leave --batch out")


def check_files(context: RunContext) -> None:
    """Refuse files of the settings that do not exist, without reading them.

    Raises:
        DataError: names the file and its flag.
    """
    for task in context.tasks.values():
        check_data_path(task.dataset_path, "--dataset-path")
    output = context.settings.output_model
    if output and os.path.exists(output) and not os.path.isdir(output):
        raise DataError(f"--output-model {output} is a file; name a folder that is empty or does not exist")


def check_data_path(path: str, flag: str) -> None:
    """Refuse a local data set that does not exist.

    Raises:
        DataError: names the path and its flag.
    """
    if is_local_path(path) and not os.path.exists(path):
        raise DataError(f"data set {path} does not exist; give {flag} an existing file, a folder or a hub id")


def describe_foreign_task(context: RunContext) -> str:
    """Return a sentence about a base model that was trained for other tasks; empty if it suits or is not used."""
    tasks = context.model_tasks
    foreign = [task.name for task in context.tasks.values() if task.name not in tasks]
    if not tasks or not foreign or not context.includes("attempted"):
        return ""
    return (
        f"the base model {context.settings.base_model!r} was trained for {', '.join(tasks)} only, and will hardly solve a "
        f"sample of the task{'' if len(foreign) == 1 else 's'} {', '.join(map(repr, foreign))}"
    )


# --- the parts of check_inputs -------------------------------------------------------------------------------------------


def _read_state(context: RunContext) -> RunState:
    """Read how far a run is; a run that does not exist, or was stopped at its start, has done nothing."""
    if not (context.folder / "run.db").is_file():
        return RunState()
    store, iterations = RunStore(context.folder, work=False), context.settings.iterations
    try:
        items = tuple(store.items())
        has_answers = items != () and all(len(store.evaluations(m)) == len(items) for m in ("base", "trained"))
        has_unpaid_rows = bool(store.stages.count_unpaid())
        return RunState(
            output_basis=store.stages.get_basis(iterations, "trained"),
            has_attempts=store.stages.has_reached("attempted"),
            is_selected=store.stages.is_finished(iterations, "selected"),
            is_trained=store.stages.is_finished(iterations, "trained"),
            has_unpaid_rows=has_unpaid_rows,
            test_items=items,
            is_evaluated=has_answers and not has_unpaid_rows,
        )
    finally:
        store.close()


def _check_model_tasks(context: RunContext, state: RunState) -> None:
    """Refuse to pay a teacher for samples that the base model will hardly solve; the user can insist with ``--force``."""
    text = describe_foreign_task(context)
    if not text or context.settings.force or state.has_attempts:
        return
    paid = [role for role in context.teachers.values() if role.price is None or role.price.worst(10**6, 10**6) > 0]
    if paid:
        raise SettingsError(
            f"{text}, but the teacher {paid[0].label} {'costs money' if paid[0].price else 'may cost money'}. Give another "
            "--base-model; --force goes on"
        )


def _check_first_call(context: RunContext) -> None:
    """Refuse a budget that is too small for the first call of a teacher, or of the judge; stored replies are free."""
    policy = context.policy
    if policy.budget is None:
        return
    requests = [make_first_request(context)]
    if context.includes("verified") and (judging := make_first_judge_request(context)):
        requests.append(judging)
    for request in requests:
        role = context.teachers[request.purpose]
        stored = read_statistics(context.workspace.reply_store, request.purpose, role.plugin.name, role.model)
        if role.price is not None and not stored:
            batch = policy.batch and request.purpose in ("write", "judge")
            check_first_call(policy.budget, role.price, request, role.label, batch)


def _check_scoring(context: RunContext) -> None:
    """Score a demonstration of each task as an answer to itself, so that a hook that fails on every answer is told now."""
    for task in context.tasks.values():
        for demo in () if task.rubric else task.definition.demos[:1]:
            label = task.plugin.hook.process_label(output=demo.output, input=demo.input)
            if label is not UNREADABLE:
                grade(task.plugin, demo.output, str(label), demo.input)
                compute_reward(task.plugin, demo.output, str(label), demo.input)


def _check_folders(context: RunContext) -> None:
    check_writable(context.folder, "--runs-dir")
    check_writable(context.workspace.cache, "--cache-dir")
    samples = context.settings.samples
    needs = dict.fromkeys((context.folder, context.workspace.cache), samples * _BYTES_PER_SAMPLE)
    check_room(needs, f"a run of {samples} samples")


def _check_output(context: RunContext, state: RunState) -> None:
    """Refuse a folder for the trained model that cannot be used."""
    settings = context.settings
    output = context.get_output_folder(settings.iterations)
    is_own = owns_output(state.output_basis, settings, settings.iterations)
    if state.is_trained:
        if not is_own and state.output_basis != UNKNOWN_OUTPUT:
            path = (state.output_basis or "").removeprefix("output: ")
            flag = f"give --output-model {path} again" if path else "leave --output-model out"
            raise SettingsError(
                f"run {settings.name!r} is already trained, and its model is in {path or 'the folder of the run'}; "
                f"{flag}, and copy the model to where you want it"
            )
        return
    if not is_own:
        check_output_empty(output)
    for folder in (context.folder / "data", context.folder / "rounds", context.workspace.cache):
        own_path, output_path = folder.resolve(), output.resolve()
        if own_path.is_relative_to(output_path) or output_path.is_relative_to(own_path):
            raise SettingsError(
                f"--output-model {output} overlaps with {folder}, which the run writes to; name another folder"
            )
    check_writable(output.parent, "--output-model")
    check_room({output: _measure_weights(context.base_model)}, "the trained model")


def _find_example_items(context: RunContext) -> Sequence[EvalItem]:
    """Return a few test items of a command that does not evaluate; they are compared with the samples later anyway."""
    if not context.settings.decontaminate:
        return ()
    tasks = context.tasks.items()
    try:
        return [
            i for key, task in tasks for i in load_items(task.plugin, task.dataset_path, _EXAMPLES, key, task.columns)
        ]
    except DataError:
        return ()


def _check_sampler(context: RunContext, test_items: Sequence[EvalItem]) -> None:
    if context.sampler.implements("check"):
        prompts = [example.prompt for example in _make_examples(context, test_items)]
        context.sampler.hook.check(prompts=prompts, max_tokens=context.settings.max_completion_tokens)


def _check_trainer(context: RunContext, test_items: Sequence[EvalItem]) -> None:
    if not context.trainer.implements("check"):
        return
    last = context.settings.iterations
    output, work = context.get_output_folder(last), context.get_work_folder(last)
    # The samples do not exist yet, and neither does the model of the iteration before.
    job = make_job(context.settings, context.base_model, _make_examples(context, test_items), output, work)
    task = join_tasks({key: task.plugin for key, task in context.tasks.items()})
    context.trainer.hook.check(job=job, task=task)


def _make_examples(context: RunContext, test_items: Sequence[EvalItem]) -> tuple[TrainItem, ...]:
    """Return items without labels that show how long a prompt is: demonstrations, and the shortest test item of a task.

    For a task that has none, it is one item with an empty input: every prompt is at least as long.
    """
    examples = []
    for key, task in context.tasks.items():
        inputs = [demo.input for demo in task.definition.demos]
        own = [item.input for item in test_items if item.task == key]
        inputs += [min(own, key=len)] if own else []
        for number, text in enumerate(inputs or [""], 1):
            prompt = task.definition.make_prompt(text)
            examples.append(TrainItem(f"example-{key}-{number}", prompt, text, label="", task=key))
    return tuple(examples)


def _measure_weights(model: str) -> int:
    """Return the bytes of a base model's weights; 0 for a hub id, whose size the plugins find out."""
    folder = Path(model)
    if not folder.is_dir():
        return 0
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in _WEIGHTS and path.is_file())
