"""A causal language model with its tokenizer, on a device: text in, completions out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from dsrl.errors import DsrlError, SettingsError
from dsrl_transformers.decode import Drawn, decode
from dsrl_transformers.forest import holds_trees
from dsrl_transformers.model_files import readable
from dsrl_transformers.plain import decode_plainly

log = logging.getLogger(__name__)


@dataclass
class LanguageModel:
    """A model ready to sample from.

    Attributes:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        stop: tokens that end a completion.
        context: how many tokens the model can see; None where its settings do not say.
        trees: whether completions can share their computation (:func:`~dsrl_transformers.forest.holds_trees`).
        autocast: None, or the type that the forward pass is to be computed in.
    """

    model: Any
    tokenizer: Any
    stop: frozenset[int]
    context: int | None
    trees: bool
    autocast: torch.dtype | None = None

    def precision(self) -> AbstractContextManager[Any]:
        """Give the context in which the model's forward pass belongs."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.model.device.type, dtype=self.autocast)

    def encode(self, prompt: str) -> list[int]:
        """Turn a prompt into tokens, at least one."""
        ids: list[int] = self.tokenizer(prompt)["input_ids"]
        if ids:
            return ids
        start = self.tokenizer.bos_token_id
        return [min(self.stop, default=0) if start is None else start]

    def text(self, tokens: Sequence[int]) -> str:
        """Turn a completion into text, without stop and other special tokens."""
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def fit(self, prompts: Sequence[list[int]], max_tokens: int) -> tuple[list[list[int]], int]:
        """Cut prompts, and the length limit of completions, to the model's context.

        The head of a prompt goes: the question's end and the output instruction come last. Completions leave at least
        half of the context to the prompt.
        """
        if self.context is None:
            return list(prompts), max_tokens
        max_tokens = min(max_tokens, self.context // 2)
        room = self.context - max_tokens
        too_long = sum(len(ids) > room for ids in prompts)
        if too_long:
            log.warning(
                "%d of %d prompts have more than the %d tokens that the model's context leaves: they are cut at the front.",
                too_long, len(prompts), room,
            )  # fmt: skip
        start = self.tokenizer.bos_token_id
        cut = []
        for ids in prompts:
            head = ids[:1] if ids[0] == start and len(ids) > room else []
            cut.append(head + ids[max(0, len(ids) - room + len(head)) :] if len(ids) > room else ids)
        return cut, max_tokens

    def draw(
        self,
        prompts: Sequence[list[int]],
        n: int,
        *,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seed: int,
        cache_tokens: int,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Drawn]:
        """Draw ``n`` completions of each prompt; see :func:`dsrl_transformers.decode.decode`."""
        how = decode if self.trees else decode_plainly
        try:
            with self.precision():
                return how(
                    self.model, prompts, n,
                    temperature=temperature, top_p=top_p, max_tokens=max_tokens,
                    stop=self.stop, seed=seed, cache_tokens=cache_tokens, cancelled=cancelled,
                )  # fmt: skip
        except torch.OutOfMemoryError as error:
            raise DsrlError(
                f"The device's memory does not hold the model and {cache_tokens} tokens of its cache: give a smaller "
                f"cache_tokens. ({error})"
            ) from error


def load(
    name: str, device: str = "auto", dtype: str = "auto", purpose: Literal["sample", "train"] = "sample"
) -> LanguageModel:
    """Load a model and its tokenizer.

    Args:
        name: a folder in Hugging Face form or a hub id.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1``.
        dtype: ``auto`` (bfloat16 on CUDA where it is supported, else float32), ``float32``, ``bfloat16``.
        purpose: for ``train`` the weights are float32 whatever ``dtype`` says, which then is the type of the forward
            pass: steps of a learning rate of 1e-6 vanish in bfloat16's 8 bits.

    Raises:
        DataError: there is no readable model.
        DsrlError: the device's memory is too small.
        SettingsError: no such device or type here.
    """
    place, forward = check_device(device, dtype)
    weights = torch.float32 if purpose == "train" else forward
    with readable(name), quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            model = _to(AutoModelForCausalLM.from_pretrained(name, dtype=weights, trust_remote_code=False), place)
        except torch.OutOfMemoryError as error:
            raise DsrlError(f"The memory of {place} does not hold the model {name}. ({error})") from error
    trees = holds_trees(model)
    if not trees:
        log.info("%s cannot work on trees of completions; each completion is computed by itself.", name)
    return LanguageModel(
        model=model,
        tokenizer=tokenizer,
        stop=_stop_tokens(model, tokenizer),
        context=getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None),
        trees=trees,
        autocast=forward if forward != weights else None,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing progress bars across those of the caller."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _to(model: Any, device: torch.device) -> Any:
    return model.to(device).eval()


def check_device(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """Find the device and the number format of the forward pass, and whether they are to be had here.

    Raises:
        SettingsError: no such device or type here; names what is possible.
    """
    place = _device(device)
    forward = _dtype(dtype, place)
    try:
        torch.ones(1, device=place, dtype=forward).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first_line = str(error).strip().split("\n")[0]
        raise SettingsError(f"Device {device!r} cannot be used ({first_line}); use {_possible()}.") from error
    return place, forward


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"There is no device {name!r}; use {_possible()}.") from error
    if device.type == "meta":
        raise SettingsError(f"There is no device {name!r}; use {_possible()}.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(
            f"Device {name!r} is asked for, but torch sees {torch.cuda.device_count()} CUDA devices; use {_possible()}."
        )
    return device


def _possible() -> str:
    """Name the devices that there are."""
    names = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    return f"--device {', '.join(names[:-1])} or {names[-1]}"


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    if name not in ("float32", "bfloat16"):
        raise SettingsError(f"The dtype {name!r} is not supported here; use --dtype auto, float32 or bfloat16.")
    return torch.float32 if name == "float32" else torch.bfloat16


def _stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    named = getattr(model.generation_config, "eos_token_id", None)
    tokens = [named] if isinstance(named, int) else list(named or [])
    if tokenizer.eos_token_id is not None:
        tokens.append(tokenizer.eos_token_id)
    return frozenset(tokens)
