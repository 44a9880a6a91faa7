"""Looking at a base model without loading its weights: are its files there, can they be read, what do they take?

A model's folder is somebody else's: nothing in it is run, and only so much of it is read as a file of its kind can need.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dsrl.errors import DataError
from dsrl.pipeline.preflight import check_room

T = TypeVar("T")

#: Seconds for the look-ups of one model on the hub.
HUB_SECONDS = 60.0
#: In the order in which the library looks for them; of the indexes, which name their files.
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_MOST_INDEX = 64 * 2**20
_MOST_CONFIG = 16 * 2**20
_WANTED = (
    "wanted: a folder in Hugging Face form with config.json, safetensors and tokenizer, or a hub id; no code is run"
)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model's files say.

    Attributes:
        context: how many tokens it can see; None where its settings do not say.
        weights: bytes of its weights; None where the hub does not say.
        itemsize: bytes of one number of its weights.
    """

    context: int | None
    weights: int | None
    itemsize: int


def check_model(name: str) -> ModelFacts:
    """Find what is wrong with a model's files.

    Args:
        name: a folder or a hub id.

    Raises:
        DataError: there is no such model, or a file is missing or cannot be read; the hub did not answer in time.
    """
    if Path(name).is_dir():
        return _check_folder(Path(name))
    cached = _cached_folder(name)
    if cached is not None:
        with suppress(DataError):  # the cache may lack a file that the hub has
            return _check_folder(cached)
    return _within(HUB_SECONDS, lambda: _look(name, _hub_weights(name)), f"the hub, asked for the model {name},")


def _check_folder(folder: Path) -> ModelFacts:
    config = folder / "config.json"
    try:
        if config.stat().st_size > _MOST_CONFIG:
            raise DataError(f"{config} is larger than any configuration of a model; give another folder")
    except OSError as error:
        raise DataError(f"{config} cannot be read: {error.strerror} ({_WANTED})") from error
    return _look(str(folder), _folder_weights(folder))


@contextmanager
def readable(name: str, part: str = "model") -> Iterator[None]:
    """Tell what the library raises over a model's files as a :class:`DataError`.

    Args:
        name: a folder or a hub id.
        part: what is read of it, for the text.
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
        raise _unreadable(name, part, error) from error
    except Exception as error:
        # Damaged safetensors and tokenizer files raise bare Exception or a type of their own.
        if type(error) is Exception or isinstance(error, SafetensorError) or _of_library(error):
            raise _unreadable(name, part, error) from error
        raise


def _unreadable(name: str, part: str, error: Exception) -> DataError:
    first_line = str(error).strip().split("\n")[0][:500]
    return DataError(f"{name} holds no {part} that can be read: {type(error).__name__}: {first_line} ({_WANTED}).")


def _of_library(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in ("huggingface_hub", "httpx", "tokenizers", "jinja2")


def _look(name: str, weights: int | None) -> ModelFacts:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    with readable(name):
        config: Any = AutoConfig.from_pretrained(name, trust_remote_code=False)
        if type(config) not in AutoModelForCausalLM._model_mapping:
            raise ValueError(
                f"its architecture {config.model_type!r} is no causal language model that the library transformers knows"
            )
        text = config.get_text_config(decoder=True)
        context = getattr(text, "max_position_embeddings", None)
        itemsize = getattr(config.dtype, "itemsize", 4)
    with readable(name, "tokenizer"):
        AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    return ModelFacts(context if isinstance(context, int) else None, weights, itemsize)


def _folder_weights(folder: Path) -> int:
    """Check that the weights are there and whole, as far as can be seen without reading them; give their bytes."""
    found = next((name for name in _WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise DataError(f"{folder} holds no weights: {_WEIGHTS[0]} is not there ({_WANTED})")
    files = _indexed(folder / found) if found.endswith(".index.json") else [folder / found]
    for file in files:
        if not file.is_file():
            raise DataError(f"{folder / found} names {file.name}, which is not there; fetch the model again")
        _check_weights(file)
    return sum(file.stat().st_size for file in files)


def _check_weights(file: Path) -> None:
    import zipfile

    from safetensors import safe_open

    if file.suffix != ".safetensors":
        # Only whether it is the archive that torch writes; nothing in it is unpickled.
        if not zipfile.is_zipfile(file):
            raise DataError(f"{file} is no file of weights, or a part of it is missing; fetch the model again")
        return
    try:
        with safe_open(file, "pt") as weights:  # reads the header and compares the file's length with it
            empty = not weights.keys()
    except Exception as error:
        raise DataError(f"{file} cannot be read as safetensors: {error}; fetch the model again") from error
    if empty:
        raise DataError(f"{file} holds no weights; fetch the model again")


def _indexed(index: Path) -> list[Path]:
    try:
        if index.stat().st_size > _MOST_INDEX:
            raise ValueError("it is larger than any index")
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{index} cannot be read: {type(error).__name__}: {error}; fetch the model again") from error
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise DataError(f"{index} must name files of its own folder; fetch the model again")
    return [index.parent / name for name in sorted(names)]


# --- the hub -----------------------------------------------------------------------------------------------------------


def _within(seconds: float, call: Callable[[], T], who: str) -> T:
    """Run ``call`` in a thread; the library repeats what fails in ways that nobody has put a bound to.

    Raises:
        DataError: it did not end in time.
    """
    done: list[T] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            done.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            faults.append(error)

    thread = threading.Thread(target=run, name="dsrl-hub", daemon=True)
    thread.start()
    thread.join(seconds)
    if faults:
        raise faults[0]
    if not done:
        raise DataError(
            f"{who} did not answer within {seconds:g} s; check the connection, or fetch the model first and give its "
            "folder with --base-model"
        )
    return done[0]


def _cached_folder(name: str) -> Path | None:
    """Give the folder of the hub's cache that holds a model's weights."""
    from huggingface_hub import try_to_load_from_cache

    with readable(name):  # a name that the hub does not allow
        found = (try_to_load_from_cache(name, file) for file in _WEIGHTS)
        return next((Path(path).parent for path in found if isinstance(path, str)), None)


def _hub_weights(name: str) -> int | None:
    """Check that the hub has a model's weights; give their bytes where it says them."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise DataError(
            f"the model {name} is not in the cache of the hub ({constants.HF_HUB_CACHE}), or not whole, and HF_HUB_OFFLINE "
            "forbids to ask for it; unset that, or give the folder of a model with --base-model"
        )
    try:
        for file in _WEIGHTS:
            try:
                size = get_hf_file_metadata(hf_hub_url(name, file), timeout=HUB_SECONDS / 4).size
            except EntryNotFoundError:
                continue
            if file.endswith(".index.json"):
                return None  # its files are named in it; the library fetches them one by one
            if size:
                check_room({Path(constants.HF_HUB_CACHE): size}, f"the model {name}, which is fetched from the hub,")
            return size
    except GatedRepoError as error:
        raise DataError(
            f"the model {name} is gated: ask for access on its page on the hub, and log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise DataError(
            f"the hub ({constants.ENDPOINT}) has no model {name}, or it is private; check the name, log in with "
            "`hf auth login`, or give the folder of a model with --base-model"
        ) from error
    except Exception as error:  # of the library, its transports, or a server that is no hub
        if isinstance(error, OSError) or _of_library(error):
            raise _no_answer(name, constants.ENDPOINT, error) from error
        raise
    raise DataError(f"the model {name} of the hub has no weights ({' or '.join(_WEIGHTS[:3])}); give another model")


def _no_answer(name: str, endpoint: str, error: Exception) -> DataError:
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return DataError(
        f"the hub ({endpoint}) cannot be asked for the model {name}: {first_line}; check the connection, or give the folder "
        "of a model with --base-model"
    )
