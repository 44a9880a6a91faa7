"""One training with verl: rows, reward, settings; then verl as a child process, whose steps are told as they come."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dsrl_ray.connection import STARTS, choose_token

from dsrl import DsrlError, PluginError, StoreError, TrainItem, TrainJob, TrainStep, list_tasks
from dsrl_verl.checkpoints import RAY_PREFIX, WorkFolder
from dsrl_verl.environment import check_packages, find_cluster
from dsrl_verl.layout import Cluster, Layout, choose_layout
from dsrl_verl.metrics import convert_metrics, count_left_out, read_step
from dsrl_verl.model import save_model
from dsrl_verl.options import FLAG, TrainerOptions
from dsrl_verl.process import MARK, VerlProcess, end_processes, find_own_paths
from dsrl_verl.prompts import Prompts, select_prompts
from dsrl_verl.reward_log import RewardLog, StepRewards, Tail, is_past_share
from dsrl_verl.reward_setup import RewardSetup, copy_task
from dsrl_verl.rows import Schedule, make_rows, make_schedule, write_rows
from dsrl_verl.verl_settings import Places, Plan, format_overrides, make_settings

log = logging.getLogger(__name__)

#: Seconds between two looks at what verl has written.
_PAUSE = 0.2
#: Seconds that verl gets to end after its last step.
_LAST_WAIT = 60.0
#: The splits in the rows of verl's validation: the development items, and a row that only fills the file.
_DEV, _UNUSED = "dev", "unused"
#: What Ray says if a local one does not start within a time that it does not let one set.
_RAY_IS_SLOW = "node timed out during startup"
_CPU_ENVIRONMENT = {
    "VERL_USE_EXTERNAL_MODULES": "dsrl_verl.cpu",
    "VERL_PLATFORM": "dsrl_cpu",
    # verl looks its training engine up by the device, and has none for a CPU.
    "VERL_ENGINE_DEVICE": "cuda",
    # Otherwise Ray hides the logical GPU from actors that ask for none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class RayNotStarted(DsrlError):
    """A local Ray was too slow to start."""


def is_cpu_mode(job: TrainJob) -> bool:
    """Return whether a job runs in dsrl's CPU mode for verl."""
    return job.device == "cpu"


def make_fingerprint(job: TrainJob, options: TrainerOptions) -> str:
    """Return a short text. Two jobs have the same one if verl's checkpoint of one is valid for the other."""
    from dsrl_transformers.checkpoint import make_fingerprint as digest_job

    facts = [
        digest_job(job),
        options.algorithm,
        options.strategy,
        sorted((k, str(v)) for k, v in options.settings.items()),
    ]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


def choose_checkpoint_steps(job: TrainJob, options: TrainerOptions, steps: int) -> int:
    """Return the number of steps from one checkpoint to the next.

    Without an option it is one in CPU mode, the steps between two evaluations if there are such, or a twentieth of the
    training.
    """
    if options.checkpoint_steps:
        return options.checkpoint_steps
    if is_cpu_mode(job):
        return 1
    return job.eval_every if job.eval_every and job.dev_items else max(1, steps // 20)


class Training:
    """The training of one job.

    Args:
        job: what to train on, and how.
        task: the argument ``task`` of the trainer's hook.
        options: the options of the trainer.
    """

    def __init__(self, job: TrainJob, task: Any, options: TrainerOptions) -> None:
        self.job, self.options = job, options
        self.tasks = list_tasks(task)
        self.is_evaluated = job.eval_every > 0 and bool(job.dev_items)
        self.best_step, self.best_accuracy = 0, -1.0

    def run(self, on_step: Callable[[TrainStep], None]) -> None:
        """Train to the end and save the model."""
        from dsrl_transformers.checkpoint import check_output_is_free

        job = self.job
        self.on_step = on_step
        self.work = WorkFolder(job.work_dir, make_fingerprint(job, self.options))
        if self.work.is_finished and (job.output_dir / "config.json").exists():
            self.work.remove()
            return
        check_output_is_free(job.output_dir)
        for leftover in self.work.list_ray_folders():  # of an attempt that was killed; it may still write checkpoints
            end_processes(str(leftover))
            shutil.rmtree(leftover, ignore_errors=True)
        self._prepare()
        told = self.work.read_told()
        self._remember_best(told)
        self.last_told = told[-1].step if told else 0
        step, checkpoint = self.work.choose_checkpoint(self.last_told)
        if told:
            # A kill may have come between the note of the step and its telling; a step may be told twice.
            self.on_step(told[-1])
        if step < self.schedule.steps:
            self._run_verl_once_ray_starts(step, checkpoint)
        self.work.mark_finished()
        best = self.work.folder / "best"
        save_model(job, best if self.is_evaluated and best.is_dir() else self.work.get_checkpoint(self.schedule.steps))
        self.work.remove()
        shutil.rmtree(best, ignore_errors=True)

    # --- before verl starts ---

    def _prepare(self) -> None:
        job = self.job
        self.is_cpu = is_cpu_mode(job)
        check_packages(self.options.engine, self.is_cpu, self.options.algorithm == "ppo")
        self.prompts, weights = _read_prompts(job)
        if self.prompts.left_out:
            log.warning(
                "%d training items are left out: their prompts have more than %d tokens.",
                self.prompts.left_out, job.max_prompt_tokens,
            )  # fmt: skip
        self.items = self.prompts.items
        self.schedule: Schedule = make_schedule(len(self.items), job.batch_size, job.epochs, job.seed)
        if self.schedule.steps < 1:
            raise DsrlError("The training has no step: give at least one epoch (--epochs) and one item.")
        self.cluster, self.layout = choose_machines(job, self.options, weights)
        answers = self.schedule.batch * job.group_size
        if answers % self.cluster.gpus:
            raise DsrlError(
                f"A step has {answers} answers ({self.schedule.batch} prompts times --group-size {job.group_size}), which "
                f"verl cannot divide among {self.cluster.gpus} GPUs; give a --batch-size or --group-size that they divide"
            )
        self.plan = Plan(
            steps=self.schedule.steps,
            batch=self.schedule.batch,
            answers=answers // self.cluster.gpus,
            is_cpu=self.is_cpu,
            template=self.prompts.template,
            has_flash_attention=not self.is_cpu and find_spec("flash_attn") is not None,
            checkpoint_steps=choose_checkpoint_steps(job, self.options, self.schedule.steps),
        )

    def _write_files(self, attempt: int, folder: Path, checkpoint: Path | None, ray: Path | None) -> Places:
        """Write what verl and its workers read."""
        names = {key: task.name for key, task in self.tasks.items()}
        data = {item.task: names.get(item.task, item.task) for item in (*self.items, *self.job.dev_items)}
        places = Places(
            train=self.work.folder / "train.parquet",
            validation=self.work.folder / "validation.parquet",
            reward=folder / "reward.json",
            checkpoints=self.work.checkpoints,
            resume_from=checkpoint,
            ray=ray,
            metrics=folder / "metrics.jsonl",
        )
        write_rows(places.train, make_rows(self.items, self.schedule.order, "train", data))
        dev, split = (self.job.dev_items, _DEV) if self.is_evaluated else (self.items[:1], _UNUSED)
        write_rows(places.validation, make_rows(dev, range(len(dev)), split, data))
        # In a run of one task an item may name it or not.
        copies = {key: copy_task(task) for key, task in self.tasks.items()}
        if len(copies) == 1:
            (only,) = copies.values()
            copies = dict.fromkeys({"", *copies, *data}, only)
        setup = RewardSetup(
            copies, self.work.rewards, attempt, self.options.reward_seconds, self.options.reward_memory_mb
        )
        setup.write(places.reward)
        return places

    def _check_reward(self, setup: Path) -> None:
        """Start the process of the rewards once in this process, so that a task that it cannot import is told now."""
        from dsrl_verl.reward import Guard

        guard = Guard(setup)
        try:
            item = self.items[0]
            guard.require_start(task=item.task, output="", label=item.label, input=item.input, is_graded=False)
        finally:
            guard.close()

    # --- verl ---

    def _run_verl_once_ray_starts(self, step: int, checkpoint: Path | None) -> None:
        for remaining in reversed(range(STARTS)):
            try:
                self._run_verl(step, checkpoint)
                return
            except RayNotStarted:
                if not remaining:
                    raise
                log.warning("Ray took more than its 30 seconds to start on this busy machine; it is started again.")

    def _run_verl(self, step: int, checkpoint: Path | None) -> None:
        attempt, folder = self.work.begin_attempt()
        # The paths of Ray's sockets must be shorter than 108 characters, so its folder cannot be in that of the run.
        ray = None if self.options.ray_address else Path(tempfile.mkdtemp(prefix=RAY_PREFIX))
        self.work.note_ray_folder(folder, ray)
        try:
            places = self._write_files(attempt, folder, checkpoint, ray)
            self._check_reward(places.reward)
            self.log = RewardLog(self.work.rewards, attempt)
            settings = make_settings(self.job, self.options, self.plan, self.cluster, self.layout, places)
            if self.is_evaluated:
                settings["trainer.test_freq"] = self.job.eval_every
            environment = self._make_environment(places.metrics, ray)
            with VerlProcess(format_overrides(settings), folder / "verl.log", folder, environment) as verl:
                self._follow(verl, Tail(places.metrics), step)
        finally:
            if ray is not None:
                shutil.rmtree(ray, ignore_errors=True)

    def _make_environment(self, metrics: Path, ray: Path | None) -> dict[str, str]:
        paths = [*find_own_paths(), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        environment = {
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
            "VERL_FILE_LOGGER_PATH": str(metrics),
            "HYDRA_FULL_ERROR": "1",
            "RAY_DEDUP_LOGS": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "TOKENIZERS_PARALLELISM": "false",
            **choose_token(self.options.ray_address),
        }
        if ray is not None:
            # verl leaves lock files in the folder for temporary files.
            environment |= {MARK: str(ray), "TMPDIR": str(ray)}
        if self.is_cpu:
            environment |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), **_CPU_ENVIRONMENT}
        elif self.job.device.startswith("cuda:"):
            environment["CUDA_VISIBLE_DEVICES"] = self.job.device.removeprefix("cuda:")
        if Path(self.job.model).is_dir():
            environment.setdefault("HF_HUB_OFFLINE", "1")
        return environment

    def _follow(self, verl: VerlProcess, metrics: Tail, step: int) -> None:
        """Tell the steps of verl until it ends.

        Args:
            verl: the running process.
            metrics: its file of metrics.
            step: the last step that is done already.
        """
        ended = 0.0
        while True:
            code = verl.code
            records = metrics.read()
            self.log.poll()
            for record in records:
                if (number := read_step(record)) is not None:
                    self._tell(number, record["data"])
                    step = number
                else:
                    self.log.grade()  # an evaluation before the first step, if the user has asked verl for one
            if step < self.schedule.steps:
                self._watch_faults(step + 1)
            if step >= self.schedule.steps:
                ended = ended or time.monotonic()
                # What Ray says when it ends does not matter any more, nor whether it ends.
                if code is not None or time.monotonic() - ended > _LAST_WAIT:
                    return
            if code is not None and not records:
                raise self._explain_end(code, step, verl)
            if not records:
                time.sleep(_PAUSE)

    def _watch_faults(self, step: int) -> None:
        answers = self.schedule.batch * self.job.group_size
        faults = self.log.count_faults(self.schedule.get_rows(step))
        if is_past_share(faults, answers, self.options.max_reward_faults):
            examples = "; ".join(self.log.examples)
            raise PluginError(
                f"The training stopped at step {step}: the reward failed for {faults} of {answers} answers, and "
                f"{FLAG} max_reward_faults allows a share of {self.options.max_reward_faults:g}. It said: {examples}. "
                "Correct the task's reward; the same command goes on from the last checkpoint"
            )

    def _tell(self, step: int, data: Mapping[str, Any]) -> None:
        self._watch_faults(step)
        found = self.log.summarise(self.schedule.get_rows(step))
        evaluation = self._evaluate(step) if self.is_evaluated else {}
        if step <= self.last_told:
            return  # a step that is repeated keeps its first telling
        self._refuse_lost_answers(step, found, data)
        own = [self.items[self.schedule.order[row]] for row in self.schedule.get_rows(step)]
        rewards = _average_by_item(own, found.means)
        metrics = {**convert_metrics(data), **found.metrics, "left_out": float(self.prompts.left_out)}
        metrics |= _average_tasks(own, rewards) | evaluation
        if evaluation and step == self.schedule.steps:
            metrics["best_step"] = float(self.best_step)
        told = TrainStep(
            step=step,
            steps=self.schedule.steps,
            epoch=self.schedule.get_epoch(step),
            metrics=metrics,
            rewards=rewards,
        )
        self.work.add_told(told)
        self.last_told = step
        self.on_step(told)

    def _refuse_lost_answers(self, step: int, found: StepRewards, data: Mapping[str, Any]) -> None:
        answers = self.schedule.batch * self.job.group_size
        left_out = count_left_out(data)
        if found.answers < answers or left_out:
            raise DsrlError(
                f"verl trained in step {step} on {found.answers} of {answers} answers"
                + (f" and left out {left_out} groups" if left_out else "")
                + f", so the training is not what was asked for; its log is in {self.work.folder}"
            )

    def _explain_end(self, code: int, step: int, verl: VerlProcess) -> DsrlError:
        last = verl.read_last_lines()
        kind = RayNotStarted if _RAY_IS_SLOW in last else DsrlError
        ended = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        advice = "The same command goes on from the last checkpoint."
        if "out of memory" in last.lower() or code == -9:
            advice += (
                " If the memory was too small: give a smaller --batch-size or --max-completion-tokens, --lora-rank, or more "
                "GPUs."
            )
        return kind(
            f"verl {ended} after step {step} of {self.schedule.steps}. {advice} The end of its log ({verl.log}):\n{last}"
        )

    # --- evaluation ---

    def _evaluate(self, step: int) -> dict[str, float]:
        """Return the accuracy that verl's validation after a step has found, and keep the weights if none were better."""
        if step % self.job.eval_every and step != self.schedule.steps:
            return {}
        right, faults = self.log.grade()
        if is_past_share(faults, len(self.job.dev_items), self.options.max_reward_faults):
            raise PluginError(
                f"The training stopped at step {step}: the reward failed for {faults} of {len(self.job.dev_items)} "
                f"development items. It said: {'; '.join(self.log.examples)}. Correct the task's reward; the same command "
                "goes on"
            )
        by_task: dict[str, list[bool]] = {}
        for row, item in enumerate(self.job.dev_items):
            by_task.setdefault(item.task, []).append(right.get(row, False))
        accuracies = {task: sum(own) / len(own) for task, own in by_task.items()}
        accuracy = sum(accuracies.values()) / len(accuracies)
        if accuracy >= self.best_accuracy and step > self.last_told:
            self.best_step, self.best_accuracy = step, accuracy
            self._keep_best(step)
        named = {f"dev_accuracy/{task}": value for task, value in accuracies.items() if len(accuracies) > 1}
        return {"dev_accuracy": accuracy, "dev_reward_faults": float(faults), **named}

    def _keep_best(self, step: int) -> None:
        best, partial = self.work.folder / "best", self.work.folder / "best.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            # The optimizer's state is most of a checkpoint, and nothing goes on from here.
            ignored = shutil.ignore_patterns("optim_*", "extra_state_*", "critic")
            shutil.copytree(self.work.get_checkpoint(step), partial, ignore=ignored)
            shutil.rmtree(best, ignore_errors=True)
            partial.rename(best)
        except OSError as error:
            raise StoreError(f"the best model so far cannot be kept in {best}: {error}") from error

    def _remember_best(self, told: list[TrainStep]) -> None:
        for step in told:
            accuracy = step.metrics.get("dev_accuracy", -1.0)
            if accuracy >= self.best_accuracy and accuracy >= 0:
                self.best_step, self.best_accuracy = step.step, accuracy


def choose_machines(job: TrainJob, options: TrainerOptions, weights: int | None) -> tuple[Cluster, Layout]:
    """Return the GPUs of a training and how the model is placed on them.

    Args:
        job: says whether it runs in CPU mode.
        options: the options of the trainer.
        weights: number of weights of the model; None if it is not known.

    Raises:
        SettingsError: there are too few GPUs, or the model does not fit.
    """
    if is_cpu_mode(job):
        return Cluster(1, 1, 16e9), Layout(1, "none", 0.5)
    cluster = find_cluster(options, job.device)
    layout = choose_layout(
        weights or 0,
        cluster,
        has_adapters=job.lora_rank > 0,
        has_critic=options.algorithm == "ppo",
        tensor_parallel=options.tensor_parallel,
    )
    return cluster, layout


def _read_prompts(job: TrainJob) -> tuple[Prompts, int | None]:
    """Return the prompts of a job, and the number of the model's weights if it is known."""
    from dsrl_transformers.language_model import hide_progress_bars
    from dsrl_transformers.model_files import check_model, translate_errors
    from transformers import AutoTokenizer

    with hide_progress_bars():
        facts = check_model(job.model)
        with translate_errors(job.model, "tokenizer"):
            tokenizer = AutoTokenizer.from_pretrained(job.model, trust_remote_code=False)
    return select_prompts(job, tokenizer, facts.context), facts.weights


def _average_by_item(items: list[TrainItem], means: tuple[float, ...]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for item, mean in zip(items, means, strict=True):
        values.setdefault(item.id, []).append(mean)
    return {name: sum(own) / len(own) for name, own in values.items()}


def _average_tasks(items: list[TrainItem], rewards: Mapping[str, float]) -> dict[str, float]:
    by_task: dict[str, list[float]] = {}
    for item in items:
        by_task.setdefault(item.task, []).append(rewards[item.id])
    return {f"task_reward/{task}": sum(own) / len(own) for task, own in by_task.items() if task}
