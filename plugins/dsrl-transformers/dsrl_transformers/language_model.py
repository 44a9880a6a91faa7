"""A causal language model with its tokenizer on a device: prompts in, completions out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from dsrl import DsrlError, SettingsError
from dsrl_transformers.decode import Completions, DecodeSettings, decode
from dsrl_transformers.forest import supports_trees
from dsrl_transformers.memory import choose_cache_tokens
from dsrl_transformers.memory_estimate import is_out_of_memory, needs_narrow_base, read_capacity
from dsrl_transformers.memory_saving import store_in_bfloat16
from dsrl_transformers.model_files import translate_errors
from dsrl_transformers.plain import decode_plainly
from dsrl_transformers.rows import supports_chains
from dsrl_transformers.text_codec import TextCodec, collect_stop_tokens, read_context
from dsrl_transformers.weights_check import make_value_error

log = logging.getLogger(__name__)

_GENERATE_CACHE_TOKENS = 32768
_FEWEST_CACHE_TOKENS = 1024  # with less, the memory is too small for the model itself


@dataclass(kw_only=True)
class LanguageModel(TextCodec):
    """A model ready to sample from.

    Attributes:
        model: a causal language model in evaluation mode.
        has_trees: whether completions can share their computation (:func:`~dsrl_transformers.forest.supports_trees`).
        autocast_dtype: the type of the forward pass if it differs from the type of the weights, else None.
        has_chains: whether completions can be rows of one cache (:func:`~dsrl_transformers.rows.supports_chains`); None
            before the first call that asks.
        cache_limit: maximum of ``cache_tokens`` after the device's memory was too small for more; None before.
        default_cache_tokens: ``cache_tokens`` of a call that gives none; None: chosen from the memory.
    """

    model: Any
    has_trees: bool
    autocast_dtype: torch.dtype | None = None
    has_chains: bool | None = None
    cache_limit: int | None = None
    default_cache_tokens: int | None = None

    def make_precision_context(self) -> AbstractContextManager[Any]:
        """Return the context manager in which the forward pass must run."""
        if self.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self.model.device.type, dtype=self.autocast_dtype)

    def fit_to_context(
        self, prompts: Sequence[list[int]], settings: DecodeSettings
    ) -> tuple[list[list[int]], DecodeSettings]:
        """Do as :meth:`~dsrl_transformers.text_codec.TextCodec.cut_to_context`, with the settings of a call."""
        shortened, max_tokens = self.cut_to_context(prompts, settings.max_tokens)
        return shortened, replace(settings, max_tokens=max_tokens)

    def complete(
        self,
        prompts: Sequence[list[int]],
        settings: DecodeSettings,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Completions]:
        """Draw completions of each prompt; see :func:`dsrl_transformers.decode.decode`.

        Raises:
            DsrlError: the device's memory is too small, or the model's logits are not numbers.
        """
        if self.has_chains is None:
            self.has_chains = self.has_trees or supports_chains(self.model)
        # The answers of `generate` depend on its batches, so these do not follow from the memory.
        automatic = _GENERATE_CACHE_TOKENS
        if self.has_chains:
            automatic = self.default_cache_tokens or choose_cache_tokens(self.model)
        cache_tokens = settings.cache_tokens or automatic
        while True:
            cache_tokens = min(cache_tokens, self.cache_limit or cache_tokens)
            settings = replace(settings, cache_tokens=cache_tokens)
            try:
                with self.make_precision_context():
                    if self.has_chains:
                        return decode(self.model, prompts, settings, self.stop, is_cancelled, self.has_trees)
                    return decode_plainly(self.model, prompts, settings, self.stop, is_cancelled)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if cache_tokens < 2 * _FEWEST_CACHE_TOKENS:
                    raise DsrlError(
                        f"The device's memory is too small for the model and {cache_tokens} tokens of its cache. Give a "
                        f"smaller cache_tokens. ({_get_first_line(error)})"
                    ) from error
            # Outside of the except clause: the error holds the tensors of the pass that failed.
            self.cache_limit = cache_tokens // 2
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            log.warning(
                "The device's memory is too small for the model and %d tokens of its cache. It uses %d from now on. "
                "Give --sampler-option cache_tokens=%d to begin with that.",
                cache_tokens, self.cache_limit, self.cache_limit,
            )  # fmt: skip


def load_model(
    name: str, device: str = "auto", dtype: str = "auto", purpose: Literal["sample", "train", "adapt"] = "sample"
) -> LanguageModel:
    """Load a model and its tokenizer.

    Args:
        name: a folder in Hugging Face form or a hub id.
        device: ``auto`` (CUDA if there is a CUDA device), ``cpu``, ``cuda``, ``cuda:1``.
        dtype: ``auto`` (bfloat16 on CUDA if the device supports it, else float32), ``float32``, ``bfloat16``.
        purpose: for ``train`` the weights are always float32, and ``dtype`` is the type of the forward pass: a step with a
            learning rate of 1e-6 is lost in the 8 bits of bfloat16. For ``adapt`` the weights are frozen; they are bfloat16
            if :func:`~dsrl_transformers.memory_estimate.needs_narrow_base` says so, else float32.

    Raises:
        DataError: there is no readable model, or some of its weights are not finite numbers.
        DsrlError: the device's memory is too small.
        SettingsError: this machine does not have the device, or the dtype is not supported.
    """
    place, forward_dtype = resolve_device(device, dtype)
    weights_dtype = forward_dtype if purpose == "sample" else torch.float32
    if purpose == "adapt" and _needs_narrow_base(name, place, forward_dtype):
        weights_dtype = torch.bfloat16
    is_narrow_in_float32 = weights_dtype != forward_dtype == torch.float32
    with translate_errors(name), hide_progress_bars():
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            model: Any = AutoModelForCausalLM.from_pretrained(name, dtype=weights_dtype, trust_remote_code=False)
            model = model.to(place).eval()
            if is_narrow_in_float32:
                store_in_bfloat16(model)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise DsrlError(
                f"The memory of {place} is too small for the model {name}. Give a smaller --base-model, a larger device, or "
                f"--dtype bfloat16. ({_get_first_line(error)})"
            ) from error
    _check_weights(model, name)
    choose_threads(model)
    has_trees = supports_trees(model)
    if not has_trees:
        log.info("%s cannot compute trees of completions, so each completion is computed separately.", name)
    return LanguageModel(
        model=model,
        tokenizer=tokenizer,
        stop=collect_stop_tokens(model.generation_config, tokenizer),
        context=read_context(model.config),
        has_trees=has_trees,
        # Adapters are float32, so a forward pass in bfloat16 needs autocast for them, too.
        autocast_dtype=forward_dtype if forward_dtype != torch.float32 and purpose != "sample" else None,
    )


def _get_first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _needs_narrow_base(name: str, place: torch.device, forward_dtype: torch.dtype) -> bool:
    if forward_dtype == torch.bfloat16:
        return True
    with translate_errors(name):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    return needs_narrow_base(model.num_parameters(), config.dtype == torch.bfloat16, False, read_capacity(place))


def _check_weights(model: Any, name: str) -> None:
    """Check that all weights are finite numbers, with one pass over them.

    Raises:
        DataError: some are not.
    """
    weights = dict(model.named_parameters())
    with torch.inference_mode():
        sums = torch.stack([weight.sum(dtype=torch.float32) for weight in weights.values()])
        broken = [key for key, is_sound in zip(weights, torch.isfinite(sums).tolist(), strict=True) if not is_sound]
    if broken:
        raise make_value_error(name, broken, len(weights))


#: Number of weights below which a second thread makes a model slower.
_MIN_WEIGHTS_FOR_THREADS = 20_000_000
_DEFAULT_THREADS = torch.get_num_threads()


def choose_threads(model: Any) -> None:
    """Let a small model on a CPU compute in one thread: the threads would wait for each other most of the time.

    A number of threads in the environment variable OMP_NUM_THREADS or MKL_NUM_THREADS has precedence.
    """
    if os.environ.get("OMP_NUM_THREADS") or os.environ.get("MKL_NUM_THREADS"):
        return
    is_small = model.device.type == "cpu" and model.num_parameters() < _MIN_WEIGHTS_FOR_THREADS
    torch.set_num_threads(1 if is_small else _DEFAULT_THREADS)


@contextmanager
def hide_progress_bars() -> Iterator[None]:
    """Stop transformers from drawing progress bars over those of the caller."""
    is_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if is_enabled:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def resolve_device(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """Return the device and the number format of the forward pass, after a test that this machine has them.

    Raises:
        SettingsError: this machine does not have the device, or the dtype is not supported; the text names what is possible.
    """
    place = _parse_device(device)
    forward_dtype = _parse_dtype(dtype, place)
    try:
        torch.ones(1, device=place, dtype=forward_dtype).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first_line = str(error).strip().split("\n")[0]
        raise SettingsError(f"Device {device!r} cannot be used ({first_line}); use {_list_devices()}.") from error
    return place, forward_dtype


def _parse_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"There is no device {name!r}; use {_list_devices()}.") from error
    if device.type == "meta":
        raise SettingsError(f"There is no device {name!r}; use {_list_devices()}.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(
            f"Device {name!r} cannot be used: torch finds {torch.cuda.device_count()} CUDA devices; use {_list_devices()}."
        )
    return device


def _list_devices() -> str:
    """Name the devices of this machine, as values of the flag."""
    names = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    return f"--device {', '.join(names[:-1])} or {names[-1]}"


def _parse_dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    if name not in ("float32", "bfloat16"):
        raise SettingsError(f"The dtype {name!r} is not supported here; use --dtype auto, float32 or bfloat16.")
    return torch.float32 if name == "float32" else torch.bfloat16
