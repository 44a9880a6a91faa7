"""The Python API, for notebooks and other programs.

Example:

    import dsrl

    forecast = dsrl.plan(task="mednli", teacher="openai:gpt-4o")
    result = dsrl.run(task="mednli", samples=100, select=100, name="trial")
    print(result.base_accuracy, result.trained_accuracy, result.model_path)

The keyword arguments are the settings of a run. They have the names that they have in a settings file, and `dsrl run --help`
explains them. The functions also work in a notebook, where an event loop is already running. The command line calls these
functions, and `dsrl run --json` prints the object that `dsrl.run` returns.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, cast

from dsrl.errors import DsrlError, SettingsError
from dsrl.pipeline import signals
from dsrl.pipeline.ablation import Ablation, AblationOrder, VariantPlan
from dsrl.pipeline.ablation import ablate as ablate_run
from dsrl.pipeline.context import resolve_run
from dsrl.pipeline.forecast import Range, StageForecast, make_plan
from dsrl.pipeline.given_data import store_given_items
from dsrl.pipeline.inputs import compute_digest
from dsrl.pipeline.model_eval import ModelAccuracy, evaluate_model
from dsrl.pipeline.paper import describe_paper
from dsrl.pipeline.preflight import check_data_path
from dsrl.pipeline.progress import LineProgress, Progress, SilentProgress, progress_on_stderr
from dsrl.pipeline.run import run_pipeline
from dsrl.pipeline.setup import open_run, resolve_settings
from dsrl.pipeline.stages.evaluated import evaluate_teacher as ask_teacher
from dsrl.pipeline.summary import load_result
from dsrl.pipeline.task_results import PartResult
from dsrl.pipeline.variants import parse_variants
from dsrl.pipeline.workspace import Workspace
from dsrl.settings import Settings, convert, default_of
from dsrl.storage import STAGES
from dsrl.storage.run_log import run_log
from dsrl.storage.run_store import RunStore, SampleCounts
from dsrl.teaching.reply_store import SpendingLine

#: How to show progress: ``auto`` shows bars on a terminal and lines elsewhere.
ProgressChoice = Literal["auto", "lines", "none"]


class SettingArguments(TypedDict, total=False):
    """The keyword arguments of :func:`run` and :func:`plan`: the fields of :class:`dsrl.settings.Settings`."""

    name: str
    seed: int
    iterations: int
    force: bool
    hook_timeout: float
    log_to: Sequence[str]
    task: Sequence[str]
    task_instruction: Sequence[str]
    rubric: Sequence[str]
    dataset_path: Sequence[str]
    input_column: Sequence[str]
    output_column: Sequence[str]
    test_size: int
    domain: Sequence[str]
    demos: Sequence[str]
    demos_from_train: int
    override: Sequence[str]
    task_option: Mapping[str, Any]
    retriever: str
    corpus: Sequence[str]
    max_bad: float
    passage_length: int
    passages: int
    passage_queries: str
    passage_distinct: bool
    passage_diversity: float
    passage_spread: bool
    passage_rerank: str
    passage_rerank_top: int
    retriever_option: Mapping[str, Any]
    teacher: str
    teacher_temperature: float
    teacher_max_tokens: int
    teacher_option: Mapping[str, Any]
    solve_teacher: str
    solve_teacher_option: Mapping[str, Any]
    rewrite_teacher: str
    rewrite_teacher_option: Mapping[str, Any]
    judge_teacher: str
    judge_teacher_option: Mapping[str, Any]
    votes: int
    vote_confidence: float
    retries_unreadable: int
    concurrency: int
    requests_per_minute: int
    tokens_per_minute: int
    budget: float | None
    price: Sequence[str]
    batch: bool
    samples: int
    adapt: bool
    decontaminate: bool
    base_model: str
    sampler: str
    chat_template: str
    system_prompt: str
    attempts: int
    attempt_confidence: float
    attempt_temperature: float
    sampler_option: Mapping[str, Any]
    select: int
    selection: str
    min_agreement: float
    max_pass_rate: float
    fill: bool
    never_solved: str
    balance: bool
    eval_every: int
    eval_data: str
    trainer: str
    output_model: str
    learning_rate: float
    epochs: int
    batch_size: int
    group_size: int
    train_temperature: float
    train_top_p: float
    kl_coef: float
    max_completion_tokens: int
    max_prompt_tokens: int
    lora_rank: int
    trainer_option: Mapping[str, Any]
    device: str
    dtype: str


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run; ``dsrl run --json`` prints the same object.

    Attributes:
        run, task: the names of the run and of its task; several tasks are separated by commas.
        base_accuracy, trained_accuracy: share of the test items that the model answers correctly; None until evaluated.
            With several tasks it is the mean over the tasks (macro average), and so is the gain.
        gain_ci95: bounds of the paired 95% confidence interval of the gain in accuracy; None until evaluated.
        n_test: number of test items.
        parts: the results for each task if there are several, and for each domain of a task that has several.
        n_contaminated: number of test items that a training sample copies; they were given after the training.
        clean_base_accuracy, clean_trained_accuracy: the accuracies without these items; None if there are none.
        samples: number of samples after each stage, and number of dropped samples by reason.
        teacher_calls: number of calls that were billed, or may have been.
        cost_usd: cost in dollars; None if the cost of a call is not known.
        known_usd: dollars of the calls whose cost is known.
        unknown_bills: number of calls for which it is not known what the provider billed.
        uncertain_usd: maximum cost, in addition to ``known_usd``, of calls in flight and of calls with an unknown bill.
        budget_usd: the budget; None if there is no limit.
        spending: calls, tokens and cost by purpose, teacher and model.
        seconds: time spent in each stage; the stages overlap.
        model_path: folder of the trained model; None until it is trained.
        warnings: what the user should know before trusting the result; oldest first.
    """

    run: str
    task: str
    base_accuracy: float | None
    trained_accuracy: float | None
    gain_ci95: tuple[float, float] | None
    n_test: int
    parts: tuple[PartResult, ...]
    n_contaminated: int
    clean_base_accuracy: float | None
    clean_trained_accuracy: float | None
    samples: SampleCounts
    teacher_calls: int
    cost_usd: float | None
    known_usd: float
    unknown_bills: int
    uncertain_usd: float
    budget_usd: float | None
    spending: tuple[SpendingLine, ...]
    seconds: Mapping[str, float]
    model_path: str | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TotalForecast:
    """The forecast of a whole run.

    Attributes:
        calls, prompt_tokens, completion_tokens: numbers over all stages.
        dollars: None if a price is not known.
        seconds: the least time that the run takes; None if batches are used.
    """

    calls: Range
    prompt_tokens: Range
    completion_tokens: Range
    dollars: Range | None
    seconds: Range | None


@dataclass(frozen=True, slots=True)
class PlanResult:
    """The forecast of a run; ``dsrl plan --json`` prints the same object.

    Attributes:
        run: the name of the run.
        stages: the forecast of each stage that calls a teacher.
        total: the forecast of the whole run.
        budget_usd: the budget; None if there is no limit.
    """

    run: str
    stages: tuple[StageForecast, ...]
    total: TotalForecast
    budget_usd: float | None


def run(
    *,
    config: str | Path | None = None,
    runs_dir: str | Path = "runs",
    cache_dir: str | Path = ".dsrl",
    stop_after: str = STAGES[-1],
    evaluate_teacher: bool = False,
    paper: bool = False,
    progress: ProgressChoice | Progress = "auto",
    **settings: Unpack[SettingArguments],
) -> RunResult:
    """Run the pipeline from a task to a trained and evaluated model, and return the result.

    The same call continues a run that was stopped or killed. Ctrl-C, or the stop button of a notebook, ends the run with a
    KeyboardInterrupt as soon as the paid calls in flight are stored.

    Args:
        config: settings file (TOML); the keyword arguments are stronger.
        runs_dir: folder of the runs.
        cache_dir: folder of teacher replies and indexes.
        stop_after: the last stage to run.
        paper: use the method of the paper without what dsrl adds to it, and say what that sets.
        evaluate_teacher: let the teacher answer the test items as well, as a baseline; its replies are paid for.
        progress: ``auto`` (bars on a terminal, else lines), ``lines``, ``none``, or a ``dsrl.pipeline.progress.Progress``.
        settings: the settings of the run.

    Raises:
        DsrlError: something is wrong that the user can correct; the text says what, where, and what to do.
    """
    if stop_after not in STAGES:
        raise SettingsError(f"stop_after is {stop_after!r}, but must be one of {', '.join(STAGES)}")
    workspace = Workspace(Path(runs_dir), Path(cache_dir))
    resolved = _resolve(config, settings, paper)
    return signals.call(partial(_run, resolved, workspace, stop_after, progress, teacher=evaluate_teacher, paper=paper))


def train(
    data: str | Path,
    *,
    config: str | Path | None = None,
    runs_dir: str | Path = "runs",
    cache_dir: str | Path = ".dsrl",
    progress: ProgressChoice | Progress = "auto",
    **settings: Unpack[SettingArguments],
) -> RunResult:
    """Train the base model on given items instead of samples, evaluate it as :func:`run` does, and return the result.

    No teacher is asked, unless it judges the answers. At most ``select`` items are trained on.

    Args:
        data: the items: a file, a folder or a hub id, as for ``dataset_path``; the split ``train`` is read.
        config, runs_dir, cache_dir, progress, settings: as for :func:`run`.

    Raises:
        DsrlError: something is wrong that the user can correct; the text says what, where, and what to do.
    """
    workspace = Workspace(Path(runs_dir), Path(cache_dir))
    check_data_path(str(data), "--data")
    resolved = _resolve(config, settings)
    if "name" not in settings:
        # A run with the same settings that a teacher writes the samples for is another run.
        resolved = replace(resolved, name=f"{resolved.name}-given-{compute_digest(str(data))[:6]}")
    return signals.call(partial(_run, resolved, workspace, STAGES[-1], progress, data=str(data)))


def plan(
    *,
    config: str | Path | None = None,
    probe: int | None = None,
    paper: bool = False,
    runs_dir: str | Path = "runs",
    cache_dir: str | Path = ".dsrl",
    progress: ProgressChoice | Progress = "auto",
    **settings: Unpack[SettingArguments],
) -> PlanResult:
    """Forecast the calls, tokens, dollars and time of a run.

    Args:
        config: settings file (TOML); the keyword arguments are stronger.
        probe: number of samples that the teacher writes and verifies first, to improve the forecast; they are paid for.
        paper: as in :func:`run`.
        runs_dir: folder of the runs.
        cache_dir: folder of teacher replies and indexes.
        progress: how to show the progress of the probe, as in :func:`run`.
        settings: the settings of the run.

    Raises:
        DsrlError: something is wrong that the user can correct; the text says what, where, and what to do.
    """
    if probe is not None and probe < 1:
        raise SettingsError(f"probe is {probe}, but must be at least 1")
    workspace = Workspace(Path(runs_dir), Path(cache_dir))
    resolved = _resolve(config, settings, paper)
    return signals.call(partial(_plan, resolved, workspace, probe, progress, paper))


def ablate(
    run: str,
    *,
    variants: Sequence[str] | None = None,
    seeds: int = 3,
    budget: float | None = None,
    plan_only: bool = False,
    keep_models: bool = False,
    on_plan: Callable[[Sequence[VariantPlan]], None] = lambda plans: None,
    runs_dir: str | Path = "runs",
    cache_dir: str | Path = ".dsrl",
    progress: ProgressChoice | Progress = "auto",
) -> Ablation:
    """Train a finished run again with other settings, one by one, from what is stored, and compare the models.

    Args:
        run: the name of the run.
        variants: what differs, e.g. ``selection=random`` or ``votes=4``; None: the variants of the paper's Table 4.
        seeds: number of trainings of each variant; the first has the seed of the run.
        budget: dollars for replies that are not stored; None: variants that need some are left out.
        plan_only: train nothing; only find out what each variant needs.
        keep_models: keep the trained models.
        on_plan: receives the plan before anything is trained or paid.
        runs_dir: folder of the runs.
        cache_dir: folder of teacher replies and indexes.
        progress: how to show the progress, as in :func:`run`.

    Raises:
        DsrlError: something is wrong that the user can correct; the text says what, where, and what to do.
    """
    if seeds < 1:
        raise SettingsError(f"seeds is {seeds}, but must be at least 1")
    if budget is not None and budget < 0:
        raise SettingsError(f"budget is {budget}, but must be at least 0")
    chosen = None if variants is None else parse_variants(variants)
    order = AblationOrder(chosen, seeds, budget, plan_only, keep_models)
    workspace = Workspace(Path(runs_dir), Path(cache_dir))

    def work() -> Ablation:
        store = RunStore(workspace.runs / run, work=False)
        try:
            with _open_progress(progress) as display:
                return ablate_run(store, workspace, order, display, on_plan)
        finally:
            store.close()

    return signals.call(work)


def evaluate(*, progress: ProgressChoice | Progress = "auto", **settings: Unpack[SettingArguments]) -> ModelAccuracy:
    """Let the base model of the settings answer the test items of a task, and return its accuracy. Nothing is stored.

    Args:
        progress: how to show the progress, as in :func:`run`.
        settings: the task and its data, the model, and how it is asked.

    Raises:
        DsrlError: something is wrong that the user can correct; the text says what, where, and what to do.
    """
    resolved = _resolve(None, settings)

    def work() -> ModelAccuracy:
        with _open_progress(progress) as display:
            return evaluate_model(resolved, display)

    return signals.call(work)


def read_result(store: RunStore, workspace: Workspace) -> RunResult:
    """Read the result of an open run.

    Raises:
        StoreError, SettingsError: the run's files cannot be read.
    """
    values = load_result(store, workspace)
    values["spending"] = tuple(SpendingLine(**line) for line in values["spending"])
    values["parts"] = tuple(PartResult(**part) for part in values["parts"])
    values["warnings"] = tuple(values["warnings"])
    values["gain_ci95"] = tuple(values["gain_ci95"]) if values["gain_ci95"] else None
    return RunResult(**values)


def _run(
    settings: Settings,
    workspace: Workspace,
    stop_after: str,
    progress: ProgressChoice | Progress,
    data: str = "",
    teacher: bool = False,
    paper: bool = False,
) -> RunResult:
    folder = workspace.runs / settings.name
    try:
        with (
            run_log(folder),
            _open_progress(progress) as display,
            open_run(resolve_run(settings, workspace, stop_after), display) as opened,
        ):
            if paper:
                display.note(describe_paper(settings))
            if data:
                store_given_items(opened, data)
            run_pipeline(opened)
            if teacher:
                ask_teacher(opened)
            _write_report(opened.store, workspace)
            return read_result(opened.store, workspace)
    except KeyboardInterrupt as stop:
        stop.add_note(f"Everything that was done is kept in {folder}.")
        raise


def _write_report(store: RunStore, workspace: Workspace) -> None:
    """Write the report of a run; a run does not fail because of its report."""
    from dsrl.pipeline.report.page import write_report

    try:
        write_report(store, workspace)
    except (DsrlError, OSError) as error:
        logging.getLogger(__name__).warning("the report of the run was not written: %s", error)


def _plan(
    settings: Settings, workspace: Workspace, probe: int | None, progress: ProgressChoice | Progress, paper: bool
) -> PlanResult:
    context = resolve_run(settings, workspace, "verified")
    if paper:
        with _open_progress(progress) as display:
            display.note(describe_paper(settings))
    if probe is not None:
        with (
            run_log(workspace.runs / settings.name),
            _open_progress(progress) as display,
            open_run(context, display) as opened,
        ):
            run_pipeline(opened, slots=probe)
    values = make_plan(context)
    values["stages"] = tuple(StageForecast(**_make_ranges(stage)) for stage in values["stages"])
    values["total"] = TotalForecast(**_make_ranges(values["total"]))
    return PlanResult(**values)


def _make_ranges(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Range(**value) if isinstance(value, dict) else value for name, value in values.items()}


def _resolve(config: str | Path | None, arguments: SettingArguments, paper: bool = False) -> Settings:
    settings = {setting.name: setting for setting in fields(Settings)}
    values: dict[str, Any] = {}
    for name, value in cast(Mapping[str, Any], arguments).items():
        if name not in settings:
            from difflib import get_close_matches

            near = get_close_matches(name, settings, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(settings)}"
            raise SettingsError(f"there is no setting {name!r}; {hint}")
        is_default = value is None and default_of(settings[name]) is None
        values[name] = value if is_default else convert(settings[name], value, name)
    return resolve_settings(Path(config) if config is not None else None, values, paper)


@contextmanager
def _open_progress(progress: ProgressChoice | Progress) -> Iterator[Progress]:
    if not isinstance(progress, str):
        yield progress
    elif progress == "none":
        yield SilentProgress()
    elif progress == "auto" and sys.stderr is not None and sys.stderr.isatty():
        with progress_on_stderr() as display:
            yield display
    elif progress in ("auto", "lines"):
        yield LineProgress()
    else:
        raise SettingsError(f"progress is {progress!r}, but must be auto, lines, none or a progress object")
