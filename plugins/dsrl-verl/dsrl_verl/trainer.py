"""The trainer ``verl``: the released verl, on a local Ray or on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dsrl import BoundPlugin, Finding, SettingsError, TrainJob, TrainStep, hookimpl
from dsrl_verl.options import FLAG, parse_options

if TYPE_CHECKING:
    from dsrl.plugins.specs import TaskSpec


class VerlTrainer:
    """Trains with verl by GRPO or PPO; see :class:`dsrl.plugins.specs.TrainerSpec`.

    Args:
        options: each is one of these; unknown ones are refused.

            ``algorithm``: ``grpo`` (default), or ``ppo`` with a critic of the base model's size.

            ``ray_address``: a Ray cluster that runs already, ``HOST:PORT``; without it, a local Ray is started for the
            training. The folder of the run must be one that all nodes share.

            ``nodes``, ``gpus_per_node``, ``tensor_parallel``: the GPUs to use, and how many of them answer together; 0
            chooses.

            ``strategy``: ``fsdp2`` (default) or ``megatron``. ``engine``: ``vllm`` (default) or ``sglang``, which answers.

            ``checkpoint_steps``: steps from one checkpoint to the next; 0 chooses.

            ``reward_seconds``, ``reward_memory_mb``: limits of one reward. ``max_reward_faults``: the share of the rewards
            of a step that may fail before the run stops.

            ``set.KEY``: a setting of verl, for example ``set.actor_rollout_ref.actor.optim.lr``. ``actor``, ``rollout``,
            ``ref`` and ``model`` may stand without ``actor_rollout_ref.``.
    """

    def __init__(self, **options: Any) -> None:
        self._options = parse_options(options)

    @hookimpl
    def train(self, job: TrainJob, task: BoundPlugin[TaskSpec], on_step: Callable[[TrainStep], None]) -> None:
        """Train ``job.model`` on ``job.items``; see :meth:`dsrl.plugins.specs.TrainerSpec.train`.

        The metrics also have ``reward_faults`` (rewards of the step that failed and count 0), ``left_out`` (items whose
        prompt is too long), ``equal_groups``, ``reward/<part>``, and all of verl's own under their names.

        Raises:
            DataError: there is no readable model to start from.
            DsrlError: verl is not installed as it was proved, or ended before the last step; its last lines are shown.
            PluginError: the task cannot be bound by a worker, or too many rewards failed.
            SettingsError: there are too few GPUs, or the model does not fit.
            StoreError: a file cannot be written, or the checkpoints belong to another job.
        """
        # Not at the top: `dsrl plugins list` imports this module.
        from dsrl_verl.training import Training

        Training(job, task, self._options).run(on_step)

    @hookimpl
    def takes_several_tasks(self) -> bool:
        """Return True: the reward of an item is that of its task."""
        return True

    @hookimpl
    def check(self, job: TrainJob, task: BoundPlugin[TaskSpec] | None) -> None:
        """Check a job before it has its own items; see :meth:`dsrl.plugins.specs.TrainerSpec.check`.

        Raises:
            DataError: there is no readable model to start from.
            DsrlError: a package is missing or has an unproven version.
            PluginError: verl's workers could not bind the task.
            SettingsError: a setting of verl is misspelt, has a wrong type or would not be read; there are no GPUs, or too
                few for the model; the device or dtype does not fit.
            StoreError: the model cannot be put into the output folder, or the disk has no space for the checkpoints.
        """
        from dsrl_transformers.checkpoint import check_output_place, check_training_room
        from dsrl_transformers.language_model import hide_progress_bars
        from dsrl_transformers.model_files import check_model
        from dsrl_transformers.prompts import check_prompt_room
        from dsrl_transformers.weights_check import check_weights

        from dsrl_verl.environment import check_cpu_memory, check_packages
        from dsrl_verl.reward import check_task
        from dsrl_verl.training import choose_machines, is_cpu_mode
        from dsrl_verl.verl_config import check_settings, read_configuration
        from dsrl_verl.verl_settings import refuse_owned

        options = self._options
        is_cpu = is_cpu_mode(job)
        check_packages(options.engine, is_cpu, options.algorithm == "ppo")
        refuse_owned(options.settings)
        check_settings(options.settings, read_configuration(options.strategy))
        _refuse_unfitting(job, options.checkpoint_steps, options.strategy, bool(options.ray_address))
        check_output_place(job.output_dir)
        with hide_progress_bars():
            facts = check_model(job.model)
        prompts = [item.prompt for item in job.items]
        check_prompt_room(job.model, facts.context, prompts, job.max_completion_tokens, job.max_prompt_tokens)
        choose_machines(job, options, facts.weights)
        if is_cpu and facts.weights is not None:
            check_cpu_memory(facts.weights, job.lora_rank > 0, options.algorithm == "ppo")
        if facts.weight_bytes is not None:
            check_training_room(job, facts.weight_bytes, facts.itemsize)
        check_weights(job.model)
        if task is not None:
            check_task(task, options.reward_seconds, options.reward_memory_mb)

    @hookimpl
    def diagnose(self, model: str) -> list[Finding]:
        """Say whether verl can be used, on which GPUs, and which sizes of models it can train there."""
        from dsrl_verl.diagnosis import diagnose

        return diagnose(self._options, model)


def _refuse_unfitting(job: TrainJob, checkpoint_steps: int, strategy: str, has_address: bool) -> None:
    """Refuse settings that do not go together.

    Raises:
        SettingsError: which, and what to do.
    """
    if checkpoint_steps and job.eval_every and job.eval_every % checkpoint_steps:
        raise SettingsError(
            f"--eval-every {job.eval_every} needs a checkpoint at each evaluation, and {FLAG} "
            f"checkpoint_steps={checkpoint_steps} does not divide it; leave it out, or give a divisor"
        )
    if job.device == "cpu":
        if strategy == "megatron":
            raise SettingsError(f"{FLAG} strategy=megatron needs GPUs; leave it out with --device cpu")
        if has_address:
            raise SettingsError(f"--device cpu starts a Ray of its own; leave out {FLAG} ray_address")
        if job.dtype not in ("auto", "float32"):
            raise SettingsError(f"--device cpu trains in float32; leave out --dtype {job.dtype}")
    if strategy == "megatron" and job.lora_rank:
        raise SettingsError(f"{FLAG} strategy=megatron trains all weights here; give strategy=fsdp2 for --lora-rank")
