"""From a job to the settings of verl: a flat mapping from a key of verl's configuration to a value."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrl import SettingsError, TrainJob
from dsrl_verl.layout import Cluster, Layout
from dsrl_verl.options import FLAG, SET, TrainerOptions

#: The prefix of the settings of most parts.
_ARR = "actor_rollout_ref"
#: The module of verl's custom reward function; it must be installed wherever a worker runs.
REWARD_MODULE = "dsrl_verl.reward"
#: Renders a prompt that is no chat as it is. ``bos_token`` is added where the tokenizer adds it.
PLAIN_TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
#: What dsrl's own settings decide -> how the user sets it. Two places for one setting would be one too many.
OWNED: Mapping[str, str] = {
    "algorithm.adv_estimator": f"{FLAG} algorithm=..",
    "data.train_batch_size": "--batch-size",
    "data.gen_batch_size": "--batch-size",
    "data.train_files": "the selected samples",
    "data.val_files": "the development items",
    "data.shuffle": "the order that dsrl gives the samples",
    "data.seed": "--seed",
    "data.max_prompt_length": "--max-prompt-tokens",
    "data.max_response_length": "--max-completion-tokens",
    "data.custom_cls.path": "dsrl's own rows",
    "trainer.total_epochs": "--epochs",
    "trainer.total_training_steps": "--epochs",
    "trainer.nnodes": f"{FLAG} nodes=..",
    "trainer.n_gpus_per_node": f"{FLAG} gpus_per_node=..",
    "trainer.save_freq": f"{FLAG} checkpoint_steps=..",
    "trainer.default_local_dir": "the folder of the run",
    "trainer.default_hdfs_dir": "the folder of the run",
    "trainer.resume_mode": "the checkpoints in the folder of the run",
    "trainer.resume_from_path": "the checkpoints in the folder of the run",
    "trainer.device": "--device",
    "trainer.use_v1": "the trainer of verl that dsrl was tested with",
    "trainer.v1.trainer_mode": "the trainer of verl that dsrl was tested with",
    "trainer.test_freq": "--eval-every",
    f"{_ARR}.rollout.val_kwargs.n": "dsrl's own evaluation",
    "trainer.val_only": "dsrl's own evaluation",
    "trainer.del_local_ckpt_after_load": "the checkpoints in the folder of the run",
    "trainer.max_actor_ckpt_to_keep": "the checkpoints in the folder of the run",
    "trainer.max_critic_ckpt_to_keep": "the checkpoints in the folder of the run",
    f"{_ARR}.model.path": "--base-model",
    f"{_ARR}.model.tokenizer_path": "--base-model",
    f"{_ARR}.model.hf_config_path": "--base-model",
    f"{_ARR}.model.custom_chat_template": "--chat-template",
    f"{_ARR}.model.lora_rank": "--lora-rank",
    f"{_ARR}.model.lora_adapter_path": "--lora-rank",
    f"{_ARR}.actor.strategy": f"{FLAG} strategy=..",
    f"{_ARR}.actor.checkpoint.save_contents": "what dsrl brings back",
    f"{_ARR}.actor.checkpoint.load_contents": "what dsrl brings back",
    f"{_ARR}.actor.checkpoint.async_save": "what dsrl brings back",
    f"{_ARR}.rollout.name": f"{FLAG} engine=..",
    f"{_ARR}.rollout.n": "--group-size",
    f"{_ARR}.rollout.temperature": "--train-temperature",
    f"{_ARR}.rollout.top_p": "--train-top-p",
    f"{_ARR}.rollout.tensor_model_parallel_size": f"{FLAG} tensor_parallel=..",
    f"{_ARR}.rollout.mode": "the engine that verl runs in a process of its own",
    "reward.custom_reward_function.path": "the task's own reward",
    "reward.custom_reward_function.name": "the task's own reward",
    "reward.reward_model.enable": "the task's own reward",
    "reward.reward_manager.source": "the task's own reward",
    "reward.reward_manager.name": "the task's own reward",
    "algorithm.filter_groups.enable": "the number of steps, which dsrl plans",
    "critic.model.path": "--base-model",
    "ray_kwargs.ray_init.num_cpus": f"{FLAG} ray_address=..",
    "model_engine": f"{FLAG} strategy=..",
}


@dataclass(frozen=True, slots=True)
class Places:
    """The files of an attempt at a training.

    Attributes:
        train: the rows to train on.
        validation: the rows of verl's validation.
        reward: what the reward needs in the workers.
        checkpoints: the folder of verl's checkpoints.
        resume_from: the checkpoint to go on from; None begins at the first step.
        ray: the folder of a local Ray's own files; its path must be short.
        metrics: the file for verl's metrics.
    """

    train: Path
    validation: Path
    reward: Path
    checkpoints: Path
    resume_from: Path | None = None
    ray: Path | None = None
    metrics: Path = Path("metrics.jsonl")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of a training before it begins.

    Attributes:
        steps: number of steps.
        batch: prompts of a step.
        answers: answers of a step on one GPU.
        is_cpu: whether verl runs in dsrl's CPU mode.
        template: the chat template that replaces the model's; None keeps it.
        has_flash_attention: whether the package flash_attn is installed.
        checkpoint_steps: number of steps from one checkpoint to the next.
    """

    steps: int
    batch: int
    answers: int
    is_cpu: bool
    template: str | None = None
    has_flash_attention: bool = False
    checkpoint_steps: int = 1


def make_settings(
    job: TrainJob, options: TrainerOptions, plan: Plan, cluster: Cluster, layout: Layout, places: Places
) -> dict[str, Any]:
    """Make the settings of verl for a job: those that dsrl decides, then the user's.

    Args:
        job: what to train on, and how.
        options: the options of the trainer.
        plan: what is known of the training.
        cluster: the GPUs; in CPU mode one logical one.
        layout: how the model is placed.
        places: the files of this attempt.
    """
    has_critic = options.algorithm == "ppo"
    settings: dict[str, Any] = {
        **_make_data_settings(job, plan, places),
        **_make_model_settings(job, plan),
        **_make_actor_settings(job, options, plan),
        **_make_rollout_settings(job, options, plan, cluster, layout),
        **(_make_critic_settings(job, options, plan) if has_critic else {}),
        "algorithm.adv_estimator": "gae" if has_critic else "grpo",
        # A term of the loss as in the paper of GRPO; PPO takes it off the reward.
        "algorithm.use_kl_in_reward": has_critic and job.kl_coef > 0,
        f"{_ARR}.actor.use_kl_loss": not has_critic and job.kl_coef > 0,
        f"{_ARR}.actor.kl_loss_coef": job.kl_coef,
        f"{_ARR}.actor.kl_loss_type": "low_var_kl",
        "algorithm.kl_ctrl.kl_coef": job.kl_coef,
        "reward.custom_reward_function.path": f"pkg://{REWARD_MODULE}",
        "reward.custom_reward_function.name": "compute_score",
        "reward.custom_reward_function.reward_kwargs.setup": str(places.reward),
        "reward.num_workers": 1 if plan.is_cpu else 8,
        "trainer.device": "cpu" if plan.is_cpu else "cuda",
        "trainer.nnodes": cluster.nodes,
        "trainer.n_gpus_per_node": cluster.gpus_per_node,
        "trainer.total_epochs": 1,
        "trainer.total_training_steps": plan.steps,
        "trainer.val_before_train": False,
        "trainer.test_freq": -1,
        "trainer.save_freq": plan.checkpoint_steps,
        "trainer.logger": ["console", "file"],
        "trainer.default_local_dir": str(places.checkpoints),
        # Two: one is whole while the next one is written, also if the last step was not told yet.
        "trainer.max_actor_ckpt_to_keep": 2,
        "trainer.max_critic_ckpt_to_keep": 2,
        "trainer.project_name": "dsrl",
        "trainer.experiment_name": "training",
    }
    if places.resume_from is None:
        settings["trainer.resume_mode"] = "disable"
    else:
        settings["trainer.resume_mode"] = "resume_path"
        settings["trainer.resume_from_path"] = str(places.resume_from)
    settings |= _make_ray_settings(options, plan, places)
    if plan.is_cpu:
        settings |= _make_cpu_settings(options)
    return settings | dict(options.settings)


def format_overrides(settings: Mapping[str, Any]) -> list[str]:
    """Write settings as arguments of verl's command. ``++`` sets a key whether the configuration has it or not."""
    return [f"{'' if key == 'model_engine' else '++'}{key}={_write(value)}" for key, value in settings.items()]


def find_owner(key: str) -> str:
    """Return how the user decides a setting that dsrl owns; empty for every other key."""
    return OWNED.get(key, "")


def refuse_owned(settings: Mapping[str, Any]) -> None:
    """Refuse settings of the user that dsrl decides elsewhere.

    Raises:
        SettingsError: names the setting and what decides it.
    """
    for key in settings:
        owner = find_owner(key)
        if owner:
            raise SettingsError(f"{FLAG} {SET}.{key}: this setting of verl is decided by {owner}; remove it")


def _write(value: Any) -> str:
    """Write a value in the grammar of hydra's command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f".{value}"
    if isinstance(value, list | tuple):
        return f"[{','.join(_write(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(str(key))}:{_write(item)}" for key, item in value.items()) + "}"
    # In quotes, a backslash only means something before a quote. `${` would be a reference to another setting.
    text = str(value).replace("${", "\\${")
    quoted = ""
    for piece in text.split("'"):
        trailing = len(piece) - len(piece.rstrip("\\"))
        quoted += piece + "\\" * trailing + "\\'"
    return f"'{quoted[:-2]}'"


def _make_data_settings(job: TrainJob, plan: Plan, places: Places) -> dict[str, Any]:
    return {
        "data.train_files": str(places.train),
        "data.val_files": str(places.validation),
        "data.train_batch_size": plan.batch,
        "data.max_prompt_length": job.max_prompt_tokens,
        "data.max_response_length": job.max_completion_tokens,
        # The rows are in their order already, and those with a long prompt are left out.
        "data.shuffle": False,
        "data.filter_overlong_prompts": False,
        "data.truncation": "error",
        "data.dataloader_num_workers": 0,
        "data.seed": job.seed,
    }


def _make_model_settings(job: TrainJob, plan: Plan) -> dict[str, Any]:
    settings: dict[str, Any] = {
        f"{_ARR}.model.path": job.model,
        f"{_ARR}.model.trust_remote_code": False,
        f"{_ARR}.model.use_remove_padding": plan.has_flash_attention and not plan.is_cpu,
        f"{_ARR}.model.enable_gradient_checkpointing": not plan.is_cpu,
        f"{_ARR}.model.lora_rank": job.lora_rank,
    }
    if job.lora_rank > 0:
        settings[f"{_ARR}.model.lora_alpha"] = 2 * job.lora_rank
        settings[f"{_ARR}.model.target_modules"] = "all-linear"
    if plan.is_cpu or not plan.has_flash_attention:
        settings[f"{_ARR}.model.override_config.attn_implementation"] = "eager" if plan.is_cpu else "sdpa"
    if plan.template is not None:
        settings[f"{_ARR}.model.custom_chat_template"] = plan.template
    return settings


def _make_actor_settings(job: TrainJob, options: TrainerOptions, plan: Plan) -> dict[str, Any]:
    contents = ["model", "optimizer", "extra"] + (["hf_model"] if job.lora_rank == 0 else [])
    settings: dict[str, Any] = {
        f"{_ARR}.actor.ppo_mini_batch_size": plan.batch,
        # As in the paper: each answer weighs the same, AdamW without decay, a constant rate after a short warm-up.
        f"{_ARR}.actor.loss_agg_mode": "seq-mean-token-mean",
        f"{_ARR}.actor.optim.lr": job.learning_rate,
        f"{_ARR}.actor.optim.weight_decay": 0.0,
        f"{_ARR}.actor.optim.lr_warmup_steps": min(10, plan.steps // 10),
        f"{_ARR}.actor.checkpoint.save_contents": contents,
        f"{_ARR}.rollout.log_prob_micro_batch_size_per_gpu": _get_micro_batch(plan),
        f"{_ARR}.ref.log_prob_micro_batch_size_per_gpu": _get_micro_batch(plan),
        f"{_ARR}.actor.ppo_micro_batch_size_per_gpu": _get_micro_batch(plan),
    }
    if options.strategy == "megatron":
        settings["model_engine"] = "megatron"
        settings[f"{_ARR}.actor.megatron.use_mbridge"] = True
        return settings
    settings[f"{_ARR}.actor.strategy"] = "fsdp2"
    dtype = _get_forward_dtype(job, plan)
    for part in ("actor", "ref"):
        settings[f"{_ARR}.{part}.fsdp_config.dtype"] = dtype
    return settings


def _make_rollout_settings(
    job: TrainJob, options: TrainerOptions, plan: Plan, cluster: Cluster, layout: Layout
) -> dict[str, Any]:
    settings: dict[str, Any] = {
        f"{_ARR}.rollout.name": options.engine,
        f"{_ARR}.rollout.n": job.group_size,
        f"{_ARR}.rollout.temperature": job.temperature,
        f"{_ARR}.rollout.top_p": job.top_p,
        f"{_ARR}.rollout.tensor_model_parallel_size": layout.tensor_parallel,
        f"{_ARR}.rollout.gpu_memory_utilization": layout.engine_memory,
        f"{_ARR}.rollout.seed": job.seed % 2**31,
        f"{_ARR}.rollout.dtype": _get_forward_dtype(job, plan),
        f"{_ARR}.rollout.load_format": "safetensors" if job.lora_rank else "dummy",
    }
    if options.strategy == "megatron":
        settings[f"{_ARR}.actor.megatron.tensor_model_parallel_size"] = layout.tensor_parallel
        offloaded = layout.offload != "none"
        settings |= {f"{_ARR}.actor.megatron.{part}_offload": offloaded for part in ("param", "optimizer")}
    else:
        settings |= {
            f"{_ARR}.actor.fsdp_config.param_offload": layout.offload == "moved",
            f"{_ARR}.actor.fsdp_config.optimizer_offload": layout.offload == "moved",
            f"{_ARR}.actor.fsdp_config.offload_policy": layout.offload == "host",
        }
    return settings


def _make_critic_settings(job: TrainJob, options: TrainerOptions, plan: Plan) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "critic.model.path": job.model,
        "critic.model.use_remove_padding": plan.has_flash_attention and not plan.is_cpu,
        "critic.model.enable_gradient_checkpointing": not plan.is_cpu,
        "critic.ppo_micro_batch_size_per_gpu": _get_micro_batch(plan),
        "critic.optim.lr": max(1e-5, job.learning_rate),
        "critic.optim.weight_decay": 0.0,
    }
    if options.strategy == "fsdp2":
        settings |= {"critic.strategy": "fsdp2", "critic.fsdp.dtype": _get_forward_dtype(job, plan)}
    if plan.is_cpu or not plan.has_flash_attention:
        settings["critic.model.override_config.attn_implementation"] = "eager" if plan.is_cpu else "sdpa"
    if plan.template is not None:
        settings["critic.model.custom_chat_template"] = plan.template
    return settings


def _make_ray_settings(options: TrainerOptions, plan: Plan, places: Places) -> dict[str, Any]:
    if options.ray_address:
        # verl's workers on other nodes do not inherit the environment of this process.
        return {
            "ray_kwargs.ray_init.address": options.ray_address,
            "ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH": str(places.metrics),
        }
    settings: dict[str, Any] = {
        # Without "local" verl would join a cluster that already runs on this machine, and fail.
        "ray_kwargs.ray_init.address": "local",
        "ray_kwargs.ray_init.include_dashboard": False,
    }
    if places.ray is not None:
        settings["ray_kwargs.ray_init._temp_dir"] = str(places.ray)
    if plan.is_cpu:
        # Logical numbers: verl asks for a CPU for each of its many small actors, which mostly wait.
        settings |= {"ray_kwargs.ray_init.num_cpus": 32, "ray_kwargs.ray_init.num_gpus": 1}
    return settings


def _make_cpu_settings(options: TrainerOptions) -> dict[str, Any]:
    """Return what only dsrl's CPU mode needs; :mod:`dsrl_verl.cpu` says why."""
    settings: dict[str, Any] = {
        f"{_ARR}.rollout.name": "dsrl_cpu",
        f"{_ARR}.rollout.load_format": "auto",
        f"{_ARR}.rollout.free_cache_engine": False,
        # verl only compares them with its own, for a metric; the CPU engine has none.
        f"{_ARR}.rollout.calculate_log_probs": False,
        f"{_ARR}.rollout.agent.num_workers": 1,
        f"{_ARR}.model.lora.merge": True,
        # With the default of 8 units and few CPUs the queue waits for ever.
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
        "trainer.v1.sampler.custom_sampler.path": "pkg://dsrl_verl.cpu_buffer",
        "trainer.v1.sampler.custom_sampler.name": "QuickReplayBuffer",
    }
    for part in ("actor", "ref"):
        settings[f"{_ARR}.{part}.use_torch_compile"] = False
        settings[f"{_ARR}.{part}.fsdp_config.use_torch_compile"] = False
        settings[f"{_ARR}.{part}.fsdp_config.model_dtype"] = "fp32"
    if options.algorithm == "ppo":
        settings["critic.fsdp.model_dtype"] = "fp32"
        settings["critic.fsdp.use_torch_compile"] = False
    return settings


def _get_micro_batch(plan: Plan) -> int:
    """Return the number of answers of one pass; verl asserts that it divides those of a step on one GPU."""
    most = 32 if plan.is_cpu else 8
    return max(size for size in range(1, most + 1) if plan.answers % size == 0)


def _get_forward_dtype(job: TrainJob, plan: Plan) -> str:
    if job.dtype != "auto":
        return job.dtype
    return "float32" if plan.is_cpu else "bfloat16"
