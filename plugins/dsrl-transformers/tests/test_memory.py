from __future__ import annotations

import copy
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from dsrl_transformers import grpo, memory_check, training
from dsrl_transformers.grpo import GRPOTrainer
from dsrl_transformers.language_model import load_model
from dsrl_transformers.memory_check import check_training_memory
from dsrl_transformers.memory_estimate import (
    ModelShape,
    TrainingKind,
    estimate_memory,
    is_out_of_memory,
    read_available_memory,
    read_capacity,
    read_shape,
)
from dsrl_transformers.memory_saving import recompute_layers, store_in_bfloat16
from dsrl_transformers.model_files import ModelFacts
from dsrl_transformers.objective import Group, cut_groups
from dsrl_transformers.options import TrainerOptions
from dsrl_transformers.trie import build_trie, compute_log_probabilities

from dsrl import DataError, DsrlError, SettingsError, TrainJob

from .conftest import build_model
from .test_grpo import job, train, weights

#: Llama 2 7B.
SEVEN_B = ModelShape(4096, 32, 11008, 4096, 4096, 32000)
TRIES = [build_trie([3, 4, 5], [(6, 7, 8), (6, 9), (10,)]), build_trie([3, 4], [(6, 7), (8,)])]


def run_pass(model: Any) -> torch.Tensor:
    return compute_log_probabilities(model, TRIES, 1.0, 0, is_head_linear=True)


def make_options(**changes: Any) -> TrainerOptions:
    return replace(TrainerOptions(None, 32768, 0, "auto", "skip", "adamw"), **changes)


def test_narrow_weights_change_nothing() -> None:
    model = build_model(spread=0.2).to(torch.bfloat16).float()
    narrow = copy.deepcopy(model).requires_grad_(False)
    store_in_bfloat16(narrow)
    assert sum(w.numel() * w.itemsize for w in narrow.parameters()) < 0.51 * sum(
        w.numel() * 4 for w in model.parameters()
    )
    assert torch.equal(run_pass(narrow), run_pass(model))


def test_weights_that_would_lose_something_stay_as_they_are() -> None:
    model = build_model(spread=0.2)
    narrow = copy.deepcopy(model).requires_grad_(False)
    store_in_bfloat16(narrow)
    assert {w.dtype for w in narrow.parameters()} == {torch.float32}
    assert torch.equal(run_pass(narrow), run_pass(model))


def test_layers_that_are_computed_again_give_the_same_gradient() -> None:
    gradients = []
    for is_recomputed in (False, True):
        model = build_model(spread=0.2)
        assert not is_recomputed or recompute_layers(model)
        saved = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal saved
            saved += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            log_p = run_pass(model)
        log_p.sum().backward()
        gradients.append((saved, [w.grad for w in model.parameters()]))
    (plain, one), (recomputed, two) = gradients
    assert recomputed < plain / 2
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(
    "settings",
    [{"gradient_checkpointing": "on"}, {"gradient_checkpointing": "on", "lora": 4}, {"batch_tokens": 8}],
    ids=["full", "lora", "small-passes"],
)
def test_the_training_is_the_same_in_less_memory(
    model_dir: Path, tmp_path: Path, parrot: Any, settings: dict[str, Any]
) -> None:
    rank = settings.pop("lora", 0)
    usual = train(parrot, job(model_dir, tmp_path / "a", lora_rank=rank, epochs=1))
    sparing = train(parrot, job(model_dir, tmp_path / "b", lora_rank=rank, epochs=1), **settings)
    for one, two in zip(usual, sparing, strict=True):
        assert two.metrics["loss"] == pytest.approx(one.metrics["loss"], abs=1e-4)
        assert two.metrics["grad_norm"] == pytest.approx(one.metrics["grad_norm"], rel=1e-3)


def test_adapters_on_narrow_weights(model_dir: Path, tmp_path: Path, parrot: Any, monkeypatch: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16).save_pretrained(half)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(half)
    of = job(half, tmp_path / "wide", lora_rank=4, epochs=1)
    wide = train(parrot, of)
    # A machine on which the weights in float32 would take too much of the memory.
    monkeypatch.setattr("dsrl_transformers.language_model.read_capacity", lambda device: 1000)
    model = load_model(str(half), purpose="adapt").model
    assert model.lm_head.weight.dtype == torch.bfloat16
    narrow = train(parrot, job(half, tmp_path / "narrow", lora_rank=4, epochs=1))
    for one, two in zip(wide, narrow, strict=True):
        assert two.rewards == one.rewards
        # The library rounds the first values of adapters to the type of the weights.
        assert two.metrics["grad_norm"] == pytest.approx(one.metrics["grad_norm"], rel=1e-2)
    assert {w.dtype for w in weights(tmp_path / "narrow" / "model").values()} == {torch.bfloat16}
    steps = train(parrot, job(half, tmp_path / "bfloat16", lora_rank=4, dtype="bfloat16"))
    assert steps[0].metrics["kl"] == pytest.approx(0, abs=1e-6)


def test_the_estimate_by_hand() -> None:
    kind = TrainingKind(lora_rank=0, has_kl=True, is_8bit=False, has_narrow_base=False, is_stored_narrow=False)
    full = estimate_memory(10, SEVEN_B, kind)
    assert (full.weights, full.gradients, full.optimizer, full.reference) == (40, 40, 80, 40)
    assert estimate_memory(10, SEVEN_B, replace(kind, is_stored_narrow=True, is_8bit=True)).total == 40 + 40 + 20 + 20
    # Rank 8 on the seven linear layers of Llama 2 7B: 20 million weights.
    adapters = SEVEN_B.count_adapter_weights(8)
    assert adapters == 8 * 32 * (4 * 2 * 4096 + 3 * (4096 + 11008))
    lora = estimate_memory(1000, SEVEN_B, replace(kind, lora_rank=8, has_narrow_base=True))
    assert lora.total == 2000 + 16 * adapters
    assert SEVEN_B.get_pass_bytes(10, is_recomputed=True) < SEVEN_B.get_pass_bytes(10, is_recomputed=False) / 10


@pytest.mark.parametrize(("is_narrow", "peak"), [(False, 50.86e9), (True, 35.50e9)], ids=["float32", "bfloat16"])
def test_the_estimate_is_near_the_peak_on_a_gpu(is_narrow: bool, peak: float) -> None:
    # Measured by benchmarks/gpu.py on an NVIDIA H200: all weights, with a KL term, passes of up to 16384 tokens.
    shape = ModelShape(896, 24, 4864, 896, 128, 151936)
    kind = TrainingKind(lora_rank=0, has_kl=True, is_8bit=False, has_narrow_base=is_narrow, is_stored_narrow=True)
    estimate = estimate_memory(494_032_768, shape, kind).total + shape.get_pass_bytes(16384, False, is_narrow)
    assert peak <= estimate <= 1.1 * peak


def test_the_shape_is_that_of_the_model(model_dir: Path) -> None:
    model = build_model()
    shape = read_shape(model.config)
    assert shape == ModelShape(64, 2, 128, 64, 32, 61)
    from dsrl_transformers.lora import add_adapters

    adapted = add_adapters(model, 4)
    assert shape.count_adapter_weights(4) == sum(w.numel() for w in adapted.parameters() if w.requires_grad)


def test_the_memory_of_this_machine() -> None:
    device = torch.device("cpu")
    available, capacity = read_available_memory(device), read_capacity(device)
    assert available is not None
    assert capacity is not None
    assert 2**24 < available <= capacity


@pytest.mark.parametrize(
    ("rank", "free", "advice"),
    [
        (0, 200e9, None),
        (0, 90e9, "these would fit: --kl-coef 0 --trainer-option optimizer=adamw8bit; --lora-rank 16; "),
        (0, 20e9, "these would fit: --lora-rank 16 --dtype bfloat16"),
        (16, 20e9, "these would fit: --dtype bfloat16"),
        (16, 10e9, "give a smaller model or a larger device"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(
    model_dir: Path, tmp_path: Path, rank: int, free: float, advice: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_check, "read_available_memory", lambda device: int(free))
    monkeypatch.setattr(memory_check, "read_capacity", lambda device: int(200e9))
    facts = ModelFacts(4096, 27 * 10**9, 4, 6_740_000_000, SEVEN_B)
    of = job(model_dir, tmp_path, lora_rank=rank, kl_coef=0.01)
    if advice is None:
        check_training_memory(of, facts, SimpleNamespace(type="cuda"), False, make_options())
        return
    with pytest.raises(SettingsError, match=r"needs at least .* GB of memory") as refused:
        check_training_memory(of, facts, SimpleNamespace(type="cuda"), False, make_options())
    assert advice in str(refused.value)


def test_a_close_fit_is_a_warning(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(memory_check, "read_available_memory", lambda device: 500 * 10**6)
    GRPOTrainer().check(job(model_dir, tmp_path / "run", items=()))
    assert "It may not fit" in caplog.text


def test_a_pass_is_halved_when_the_memory_is_too_small(
    model_dir: Path, tmp_path: Path, parrot: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usual = train(parrot, job(model_dir, tmp_path / "a", epochs=1))
    sound, sizes = training.backward, []

    def run_out(pieces: Any, *rest: Any) -> Any:
        terms = sound(pieces, *rest)
        tokens = sum(piece.trie.size for piece in pieces)
        if tokens > 60:
            raise torch.OutOfMemoryError("no more")  # a gradient was added already
        sizes.append(tokens)
        return terms

    monkeypatch.setattr(training, "backward", run_out)
    caplog.set_level(logging.WARNING)
    steps = train(parrot, job(model_dir, tmp_path / "b", epochs=1), batch_tokens=256)
    assert max(sizes) <= 60
    halved = [record.message for record in caplog.records if "memory is too small" in record.message]
    assert len(halved) == len(set(halved)) <= 3
    for one, two in zip(usual, steps, strict=True):
        assert two.metrics["grad_norm"] == pytest.approx(one.metrics["grad_norm"], rel=1e-3)


def test_memory_that_is_too_small_for_one_answer(
    model_dir: Path, tmp_path: Path, parrot: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def run_out(*_: Any) -> Any:
        raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(training, "backward", run_out)
    with pytest.raises(DsrlError, match="too small to train on an answer of"):
        train(parrot, job(model_dir, tmp_path))
    assert "From now on layers are computed again" in caplog.text


def test_another_error_is_not_taken_for_memory(
    model_dir: Path, tmp_path: Path, parrot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("shapes")

    monkeypatch.setattr(training, "backward", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        train(parrot, job(model_dir, tmp_path))


def test_long_answers_share_their_prompt_where_that_is_cheaper() -> None:
    def count_pieces(prompt: int, answer: int, hidden: int) -> int:
        answers = tuple((i, *range(answer - 1)) for i in range(8))
        group = Group(tuple(range(prompt)), answers, (1,) * 8, (0.0, *(1.0,) * 7))
        pieces = cut_groups([group], keep_equal=True, share=True, max_tokens=16384, pair_cost=1 / (3 * hidden))
        assert sum(len(piece.trie.paths) for piece in pieces) == 8
        return len(pieces)

    assert count_pieces(400, 200, 4096) == 1
    assert count_pieces(1000, 600, 4096) <= 3
    assert count_pieces(100, 2000, 576) == 8  # the prompt is cheap beside the attention between the answers


def test_weights_that_are_not_numbers_are_refused(model_dir: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    model = build_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = torch.nan
    model.save_pretrained(tmp_path / "broken")
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(tmp_path / "broken")
    with pytest.raises(DataError, match=r"1 of .* not finite numbers.*layers\.1\.mlp\.up_proj"):
        load_model(str(tmp_path / "broken"))


@pytest.mark.parametrize(("option", "expected"), [(0, 4096), (700, 700)])
def test_the_trainer_chooses_its_cache_from_the_memory(
    model_dir: Path, tmp_path: Path, parrot: Any, monkeypatch: pytest.MonkeyPatch, option: int, expected: int
) -> None:
    from dsrl_transformers import language_model, memory

    sound, sizes = language_model.decode, []

    def watch(model: Any, prompts: Any, settings: Any, *rest: Any) -> Any:
        sizes.append(settings.cache_tokens)
        return sound(model, prompts, settings, *rest)

    monkeypatch.setattr(memory, "read_capacity", lambda device: 10**6)  # the fewest tokens are 4096
    monkeypatch.setattr(language_model, "decode", watch)
    train(parrot, job(model_dir, tmp_path, epochs=1), cache_tokens=option)
    assert set(sizes) == {expected}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA"), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("shapes"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_that_say_that_memory_is_short(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected


def test_an_optimizer_that_is_not_there(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of: TrainJob = job(model_dir, tmp_path / "run", items=())
    with pytest.raises(SettingsError, match="needs a CUDA device"):
        GRPOTrainer(optimizer="adamw8bit").check(of)
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(DsrlError, match="pip install 'bitsandbytes"):
        grpo.check_optimizer("adamw8bit", SimpleNamespace(type="cuda"))
    with pytest.raises(SettingsError, match="must be adamw or adamw8bit"):
        GRPOTrainer(optimizer="sgd")


def test_for_ppo_the_error_names_verl() -> None:
    with pytest.raises(SettingsError, match="--trainer verl --trainer-option algorithm=ppo"):
        GRPOTrainer(algorithm="ppo")
    GRPOTrainer(algorithm="grpo")


def test_a_small_model_computes_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    from dsrl_transformers import language_model

    before, small, large = torch.get_num_threads(), build_model(), build_model()
    monkeypatch.setattr(language_model, "_DEFAULT_THREADS", 2)
    monkeypatch.setattr(large, "num_parameters", lambda: 135_000_000)
    try:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)
        for model, threads in ((large, 2), (small, 1), (large, 2)):
            language_model.choose_threads(model)
            assert torch.get_num_threads() == threads
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        language_model.choose_threads(small)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
