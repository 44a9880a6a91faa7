"""What the core must know of a folder that holds a model, without a library for models: did a trainer write a model?

A trainer is a plugin of anybody, and the core cannot load what it wrote: it depends neither on torch nor on safetensors. But
it must know before it records the training as finished: a missing or half-written model would otherwise be found only when
it is evaluated, or by the user. So this module looks at the files, and at the header of each weights file, which says how
long the file must be. Whether a base model suits the sampler and the trainer is checked by their own hook ``check``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: Bytes of a JSON file, or of the header of a weights file, that are read at most.
_MAX_JSON = 100_000_000
#: A folder that a tokenizer can be loaded from holds one of these.
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.*", "*.model", "tekken.json")


def set_usual_modes(folder: Path) -> None:
    """Give the files of a model the mode that other new files have: safetensors lets only their owner read them.

    Raises:
        OSError: a mode cannot be changed.
    """
    usual = folder.stat().st_mode & 0o666  # the folder has what the umask allows
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(usual)


def find_fault(folder: Path) -> str | None:
    """Return why a folder does not hold a whole model in Hugging Face form; None if it does.

    Raises:
        OSError: a file cannot be read.
    """
    if not folder.is_dir():
        return "there is no such folder"
    if not isinstance(_read_json(folder / "config.json"), dict):
        return "config.json is missing, or is no JSON object"
    if not any(next(folder.glob(pattern), None) for pattern in _TOKENIZER_FILES):
        return "it holds no tokenizer (tokenizer.json)"
    shards = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    for path in shards:
        if not _is_whole(path):
            return f"{path.name} is no whole file of weights"
    if not shards and not any(path.stat().st_size for path in folder.glob("*.bin")):
        return "it holds no weights (*.safetensors)"
    for index in folder.glob("*.index.json"):
        record = _read_json(index)
        weight_map = record.get("weight_map") if isinstance(record, dict) else None
        if not isinstance(weight_map, dict):
            return f"{index.name} is no index of weights"
        missing = sorted({str(name) for name in weight_map.values() if not (folder / str(name)).is_file()})
        if missing:
            return f"{missing[0]} is missing, but {index.name} names it"
    return None


def has_chat_template(folder: Path) -> bool:
    """Return whether the files of a model in Hugging Face form hold a chat template."""
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    settings = _read_json(folder / "tokenizer_config.json")
    return isinstance(settings, dict) and bool(settings.get("chat_template"))


def _is_whole(path: Path) -> bool:
    """Return whether a safetensors file is whole: its header names at least one tensor, and the file holds all of them.

    Format (https://huggingface.co/docs/safetensors): 8 bytes with the length of the header, a JSON header, the data.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _MAX_JSON):
            return False
        header = _parse_json(file.read(length))
    if not isinstance(header, dict):
        return False
    tensors = [entry for name, entry in header.items() if name != "__metadata__"]
    try:
        ends = [int(entry["data_offsets"][1]) for entry in tensors]
    except (KeyError, TypeError, ValueError, IndexError):
        return False
    return bool(ends) and max(ends) == size - 8 - length


def _read_json(path: Path) -> Any:
    if not path.is_file() or path.stat().st_size > _MAX_JSON:
        return None
    return _parse_json(path.read_bytes())


def _parse_json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
