"""From a job to verl's settings, and to the arguments of its command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dsrl_verl.layout import Cluster, Layout
from dsrl_verl.options import TrainerOptions, parse_options
from dsrl_verl.verl_settings import OWNED, Places, Plan, format_overrides, make_settings, refuse_owned

from dsrl import SettingsError, TrainJob

PLACES = Places(Path("/w/train"), Path("/w/val"), Path("/w/reward.json"), Path("/w/checkpoints"))
GPUS, LAYOUT = Cluster(2, 8, 80e9), Layout(4, "moved", 0.6)


def settings_of(
    job: TrainJob, is_cpu: bool = False, places: Places = PLACES, answers: int = 32, **options: Any
) -> dict[str, Any]:
    template = "T" if is_cpu else None
    plan = Plan(steps=40, batch=4, answers=answers, is_cpu=is_cpu, template=template, checkpoint_steps=5)
    return make_settings(job, parse_options(options), plan, GPUS, LAYOUT, places)


@pytest.mark.parametrize(
    ("is_cpu", "answers", "size"),
    [(True, 16, 16), (True, 64, 32), (True, 48, 24), (False, 512, 8), (False, 12, 6), (False, 7, 7), (False, 11, 1)],
)
def test_the_passes_divide_the_answers_of_a_step(make_job: Any, is_cpu: bool, answers: int, size: int) -> None:
    found = settings_of(make_job(), is_cpu, answers=answers, algorithm="ppo")
    sizes = {name: value for name, value in found.items() if "micro_batch_size" in name}
    assert len(sizes) == 4
    assert set(sizes.values()) == {size}, sizes


def test_a_job_says_what_verl_does(make_job: Any) -> None:
    found = settings_of(make_job(learning_rate=2e-6, group_size=16, temperature=0.9, top_p=0.95))
    arr = "actor_rollout_ref"
    assert (
        found
        | {
            "algorithm.adv_estimator": "grpo",
            "data.train_batch_size": 4,
            "data.max_prompt_length": 64,
            "data.max_response_length": 8,
            f"{arr}.model.path": "base",
            f"{arr}.actor.optim.lr": 2e-6,
            f"{arr}.actor.optim.lr_warmup_steps": 4,
            f"{arr}.actor.use_kl_loss": True,
            f"{arr}.actor.kl_loss_coef": 0.001,
            f"{arr}.actor.fsdp_config.param_offload": True,
            f"{arr}.actor.fsdp_config.offload_policy": False,
            f"{arr}.rollout.n": 16,
            f"{arr}.rollout.name": "vllm",
            f"{arr}.rollout.temperature": 0.9,
            f"{arr}.rollout.top_p": 0.95,
            f"{arr}.rollout.tensor_model_parallel_size": 4,
            "trainer.nnodes": 2,
            "trainer.n_gpus_per_node": 8,
            "trainer.total_training_steps": 40,
            "trainer.save_freq": 5,
            "trainer.device": "cuda",
            "trainer.resume_mode": "disable",
        }
        == found
    )
    assert f"{arr}.model.custom_chat_template" not in found
    assert "hf_model" in found[f"{arr}.actor.checkpoint.save_contents"]


def test_without_kl_there_is_no_reference_model(make_job: Any) -> None:
    found = settings_of(make_job(kl_coef=0.0))
    assert not found["actor_rollout_ref.actor.use_kl_loss"]
    assert not found["algorithm.use_kl_in_reward"]


def test_ppo_has_a_critic_and_takes_the_kl_off_the_reward(make_job: Any) -> None:
    found = settings_of(make_job(), algorithm="ppo")
    assert found["algorithm.adv_estimator"] == "gae"
    assert found["critic.model.path"] == "base"
    assert found["algorithm.use_kl_in_reward"]
    assert not found["actor_rollout_ref.actor.use_kl_loss"]
    assert not [key for key in settings_of(make_job()) if key.startswith("critic.")]


def test_adapters_are_not_saved_as_a_model(make_job: Any) -> None:
    found = settings_of(make_job(lora_rank=8))
    assert (found["actor_rollout_ref.model.lora_rank"], found["actor_rollout_ref.model.lora_alpha"]) == (8, 16)
    assert "hf_model" not in found["actor_rollout_ref.actor.checkpoint.save_contents"]


def test_the_cpu_mode_has_an_engine_and_a_ray_of_its_own(make_job: Any) -> None:
    found = settings_of(make_job(), is_cpu=True)
    assert found["actor_rollout_ref.rollout.name"] == "dsrl_cpu"
    assert found["ray_kwargs.ray_init.address"] == "local"
    assert found["actor_rollout_ref.model.custom_chat_template"] == "T"
    assert found["actor_rollout_ref.actor.fsdp_config.dtype"] == "float32"


def test_a_cluster_gets_neither_cpus_nor_gpus(make_job: Any) -> None:
    found = settings_of(make_job(), ray_address="head:6379")
    assert found["ray_kwargs.ray_init.address"] == "head:6379"
    assert not [key for key in found if key.endswith(("num_cpus", "num_gpus", "_temp_dir"))]


def test_megatron_is_another_configuration(make_job: Any) -> None:
    found = settings_of(make_job(), strategy="megatron")
    assert found["model_engine"] == "megatron"
    assert "model_engine='megatron'" in format_overrides(found)
    assert not [key for key in found if "fsdp" in key]


def test_a_checkpoint_is_named(make_job: Any) -> None:
    places = Places(*(Path("/w") for _ in range(4)), resume_from=Path("/w/global_step_3"))
    found = settings_of(make_job(), places=places)
    assert (found["trainer.resume_mode"], found["trainer.resume_from_path"]) == ("resume_path", "/w/global_step_3")


def test_the_users_settings_win(make_job: Any) -> None:
    found = settings_of(make_job(), **{"set.actor.optim.weight_decay": 0.1})
    assert found["actor_rollout_ref.actor.optim.weight_decay"] == 0.1


@pytest.mark.parametrize("key", ["data.train_batch_size", "actor_rollout_ref.rollout.n", "trainer.resume_mode"])
def test_what_dsrl_decides_is_refused_with_the_flag_that_decides(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        refuse_owned({key: 1})
    assert key in str(caught.value)
    assert OWNED[key] in str(caught.value)
    refuse_owned({"trainer.logger": ["console"]})


def test_values_are_written_in_the_grammar_of_hydra() -> None:
    values = {
        "a": True,
        "b": None,
        "c": 3,
        "d": 1e-05,
        "e": ["x", 1, False],
        "f": {"k": [1.5]},
        "g": "it's {a}, \\ and ${b}",
    }
    assert format_overrides(values) == [
        "++a=true",
        "++b=null",
        "++c=3",
        "++d=1e-05",
        "++e=['x',1,false]",
        '++f={"k":[1.5]}',
        "++g='it\\'s {a}, \\ and \\${b}'",
    ]
    assert TrainerOptions().settings == {}
