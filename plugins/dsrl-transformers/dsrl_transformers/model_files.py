"""Checks of a base model without loading its weights: do its files exist, can they be read, how large are they?

We do not trust the folder of a model. No code in it is run, and a file that is larger than a file of its kind can be is not
read.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dsrl import DataError, check_room
from dsrl_transformers.memory_estimate import ModelShape, read_shape

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Time limit of the requests to the hub for one model, in seconds.
HUB_SECONDS = 60.0
#: The files of weights in the order in which the library looks for them. An index names the files that hold the weights.
_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
#: A folder whose tokenizer can be read has one of these.
_TOKENIZER_FILES = ("tokenizer.json", "*.model", "vocab.*", "tekken.json", "*.tiktoken")
_TOKENIZER_HINT = "; fetch the files of the tokenizer again, or copy them from the model that this one was made from"
#: Packages whose errors tell of a model or of the hub. The hub's library uses httpx, or httpx2 from its version 2 on.
_LIBRARIES = ("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "tokenizers", "jinja2")
_MAX_INDEX_BYTES = 64 * 2**20
_MAX_CONFIG_BYTES = 16 * 2**20
_EXPECTED = (
    "expected: a folder in Hugging Face form with config.json, safetensors and tokenizer, or a hub id; code in a model is "
    "never run"
)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model's files say about the model.

    Attributes:
        context: length of the context in tokens; None if the model's settings do not say it.
        weight_bytes: size of the weights in bytes; None if the hub does not say it.
        itemsize: bytes of one number of the weights.
        weights: the number of weights; None if the hub does not say it.
        shape: the sizes of the model.
        is_bfloat16: whether the weights are stored in bfloat16.
    """

    context: int | None
    weight_bytes: int | None
    itemsize: int
    weights: int | None = None
    shape: ModelShape = field(default_factory=ModelShape)
    is_bfloat16: bool = False


def check_model(name: str) -> ModelFacts:
    """Check the files of a model, and return what they say.

    Args:
        name: a folder or a hub id.

    Raises:
        DataError: there is no such model, a file is missing or cannot be read, or the hub did not answer in time.
    """
    if Path(name).is_dir():
        return _check_folder(Path(name))
    cached = _find_cached_folder(name)
    if cached is not None:
        with suppress(DataError):  # the cache may lack a file that the hub has
            return _check_folder(cached)
    return _call_within(
        HUB_SECONDS, lambda: _read_facts(name, _check_hub_weights(name)), f"the hub (about the model {name})"
    )


def find_weight_files(name: str) -> list[Path]:
    """Return the files of the weights of a model that is on this machine; none if the hub must be asked for them.

    Args:
        name: a folder or a hub id; :func:`check_model` has found no fault in it.

    Raises:
        DataError: an index of weights cannot be read.
    """
    folder = Path(name) if Path(name).is_dir() else _find_cached_folder(name)
    if folder is None:
        return []
    files = _list_weight_files(folder)
    return files if all(file.is_file() for file in files) else []


def _check_folder(folder: Path) -> ModelFacts:
    config = folder / "config.json"
    if (folder / "adapter_config.json").is_file():
        # The library would load the adapter on top of the model that this file names.
        raise DataError(
            f"{folder} holds a LoRA adapter (adapter_config.json) beside a model; merge the adapter into the model "
            "(merge_and_unload of peft), or remove its files"
        )
    try:
        if config.stat().st_size > _MAX_CONFIG_BYTES:
            raise DataError(f"{config} is too large for the configuration of a model; give another folder")
    except OSError as error:
        raise DataError(f"{config} cannot be read: {error.strerror} ({_EXPECTED})") from error
    size, weights = _check_folder_weights(folder)
    return _read_facts(str(folder), size, weights)


@contextmanager
def translate_errors(name: str, part: str = "model") -> Iterator[None]:
    """Turn the errors that the library raises for a model's files into a :class:`DataError`.

    Args:
        name: a folder or a hub id.
        part: the part of the model that is read, for the text.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        TypeError,
        ImportError,
        AttributeError,
        RecursionError,
    ) as error:
        raise _make_unreadable_error(name, part, error) from error
    except Exception as error:
        # Damaged safetensors and tokenizer files raise bare Exception or a type of their own.
        if type(error) is Exception or isinstance(error, SafetensorError) or _is_library_error(error):
            raise _make_unreadable_error(name, part, error) from error
        raise


def _make_unreadable_error(name: str, part: str, error: Exception) -> DataError:
    first_line = str(error).strip().split("\n")[0][:500]
    hint = {"adapter": ".", "tokenizer": _TOKENIZER_HINT}.get(part, f" ({_EXPECTED}).")
    return DataError(f"{name} holds no {part} that can be read: {type(error).__name__}: {first_line}{hint}")


def _is_library_error(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in _LIBRARIES


def _read_facts(name: str, weight_bytes: int | None, weights: int | None = None) -> ModelFacts:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    with translate_errors(name):
        config: Any = AutoConfig.from_pretrained(name, trust_remote_code=False)
        if type(config) not in AutoModelForCausalLM._model_mapping:
            raise ValueError(
                f"the library transformers has no causal language model for the architecture {config.model_type!r}"
            )
        text = config.get_text_config(decoder=True)
        context = getattr(text, "max_position_embeddings", None)
        itemsize = getattr(config.dtype, "itemsize", 4)
        is_bfloat16 = str(config.dtype) == "torch.bfloat16"
    if Path(name).is_dir() and not any(next(Path(name).glob(pattern), None) for pattern in _TOKENIZER_FILES):
        raise DataError(f"{name} holds no tokenizer that can be read: tokenizer.json is not there{_TOKENIZER_HINT}")
    with translate_errors(name, "tokenizer"):
        tokenizer: Any = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        tokens, rows = len(tokenizer), getattr(text, "vocab_size", None)
    if isinstance(rows, int) and tokens > rows:
        # No error: often it is a token for padding, which is never read.
        log.warning(
            "The tokenizer of %s has %d tokens and the model only %d, so a prompt with one of the other tokens will fail. "
            "Take the tokenizer that belongs to the model.", name, tokens, rows,
        )  # fmt: skip
    if weight_bytes is not None and weights:  # the files may have another type than the configuration says
        itemsize = max(1, round(weight_bytes / weights))
    elif weight_bytes is not None:
        weights = weight_bytes // itemsize
    return ModelFacts(
        context=context if isinstance(context, int) else None,
        weight_bytes=weight_bytes,
        itemsize=itemsize,
        weights=weights,
        shape=read_shape(text),
        is_bfloat16=is_bfloat16,
    )


def _check_folder_weights(folder: Path) -> tuple[int, int | None]:
    """Check that the weights exist and are complete, as far as that is possible without reading them.

    Returns:
        Their bytes, and their number; None if the files do not say it.
    """
    files = _list_weight_files(folder)
    if not files:
        raise DataError(f"{folder} holds no weights: {_WEIGHT_FILES[0]} is not there ({_EXPECTED})")
    weights = 0
    for file in files:
        if not file.is_file():
            raise DataError(f"{folder}: its index names {file.name}, which is not there; fetch the model again")
        weights += _check_weight_file(file)
    return sum(file.stat().st_size for file in files), weights or None


def _list_weight_files(folder: Path) -> list[Path]:
    """Return the files that must hold the weights of a folder; none if it has neither weights nor an index of them."""
    name = next((name for name in _WEIGHT_FILES if (folder / name).is_file()), None)
    if name is None:
        return []
    return _list_indexed_files(folder / name) if name.endswith(".index.json") else [folder / name]


def _check_weight_file(file: Path) -> int:
    """Check one file. Return the number of its weights; 0 if it does not say that."""
    import zipfile

    from safetensors import safe_open

    if file.suffix != ".safetensors":
        # Check only that it is the kind of archive that torch writes. Nothing in it is unpickled.
        if not zipfile.is_zipfile(file):
            raise DataError(f"{file} is not a file of weights, or a part of it is missing; fetch the model again")
        return 0
    try:
        with safe_open(file, "pt") as weights:  # reads the header and compares the file's length with it
            count: int = sum(math.prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
    except Exception as error:
        raise DataError(f"{file} cannot be read as safetensors: {error}; fetch the model again") from error
    if not count:
        raise DataError(f"{file} holds no weights; fetch the model again")
    return count


def _list_indexed_files(index: Path) -> list[Path]:
    try:
        if index.stat().st_size > _MAX_INDEX_BYTES:
            raise ValueError("the file is too large for an index")
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{index} cannot be read: {type(error).__name__}: {error}; fetch the model again") from error
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise DataError(f"{index} must name files of its own folder; fetch the model again")
    return [index.parent / name for name in sorted(names)]


# --- the hub -----------------------------------------------------------------------------------------------------------


def _call_within(seconds: float, call: Callable[[], T], who: str) -> T:
    """Run ``call`` in a thread and return its result. The library itself has no limit on the time of its repeated requests.

    Args:
        seconds: the time limit.
        call: the function to run.
        who: who must answer, for the text.

    Raises:
        DataError: the call did not end in time.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="dsrl-hub", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise DataError(
            f"{who} did not answer within {seconds:g} s; check the connection, or fetch the model first and give its "
            "folder with --base-model"
        )
    return results[0]


def _find_cached_folder(name: str) -> Path | None:
    """Return the folder in the hub's cache that holds the weights of a model; None if there is none."""
    from huggingface_hub import try_to_load_from_cache

    with translate_errors(name):  # a name that the hub does not allow
        paths = (try_to_load_from_cache(name, file) for file in _WEIGHT_FILES)
        return next((Path(path).parent for path in paths if isinstance(path, str)), None)


def _check_hub_weights(name: str) -> int | None:
    """Check that the hub has the weights of a model. Return their bytes; None if the hub does not say them."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise DataError(
            f"the model {name} is not in the cache of the hub ({constants.HF_HUB_CACHE}), or not completely, and the "
            "environment variable HF_HUB_OFFLINE forbids a request to the hub; unset it, or give the folder of a model with "
            "--base-model"
        )
    try:
        for file in _WEIGHT_FILES:
            try:
                size = get_hf_file_metadata(hf_hub_url(name, file), timeout=HUB_SECONDS / 4).size
            except EntryNotFoundError:
                continue
            if file.endswith(".index.json"):
                return None  # the index names the files; the library fetches them one by one
            if size:
                check_room({Path(constants.HF_HUB_CACHE): size}, f"the model {name} from the hub")
            return size
    except GatedRepoError as error:
        raise DataError(
            f"the model {name} is gated: request access on its page on the hub, and log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise DataError(
            f"the hub ({constants.ENDPOINT}) has no model {name}, or it is private; check the name, log in with "
            "`hf auth login`, or give the folder of a model with --base-model"
        ) from error
    except Exception as error:  # from the library, its transports, or a server that is not a hub
        if isinstance(error, OSError) or _is_library_error(error):
            raise _make_connection_error(name, constants.ENDPOINT, error) from error
        raise
    raise DataError(
        f"the model {name} on the hub has no weights ({' or '.join(_WEIGHT_FILES[:3])}); give another model"
    )


def _make_connection_error(name: str, endpoint: str, error: Exception) -> DataError:
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return DataError(
        f"the request to the hub ({endpoint}) for the model {name} failed: {first_line}; check the connection, or give the "
        "folder of a model with --base-model"
    )
