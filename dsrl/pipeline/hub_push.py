"""``dsrl push``: the trained model and its training data on the Hugging Face Hub, each with its card."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dsrl.errors import DataError, SettingsError
from dsrl.pipeline.model_card import CARD, make_data_card
from dsrl.pipeline.run_export import export_samples
from dsrl.pipeline.summary import load_result, load_settings
from dsrl.pipeline.workspace import Workspace
from dsrl.storage.run_store import RunStore
from dsrl.text import printable

#: The files of a model; a checkpoint or a log beside them stays here.
_MODEL_FILES = re.compile(
    r".*\.(safetensors|json|jinja|model|tiktoken)|merges\.txt|vocab\.txt|README\.md|LICEN[CS]E.*|dsrl\.toml"
)
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
#: The packages by which the hub's library talks to it.
_CLIENTS = ("httpx", "httpcore", "hf_xet")
_DATA_FILE = "train.jsonl"
#: What the name of the data set's repository has after the name of the model's.
_DATA_ENDING = "-data"


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file that goes to the hub.

    Attributes:
        path: its path in the repository.
        content: the file on this machine, or its bytes.
    """

    path: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


@dataclass(frozen=True, slots=True)
class HubRepo:
    """A repository on the hub and what goes into it.

    Attributes:
        id: ``USER/NAME``.
        kind: the hub's type of the repository.
        files: the files.
    """

    id: str
    kind: Literal["model", "dataset"]
    files: tuple[HubFile, ...]


def plan_push(store: RunStore, workspace: Workspace, repo: str, with_data: bool = True) -> list[HubRepo]:
    """Return what would go to the hub: the model of a run, and its training set.

    Args:
        store: the run.
        workspace: holds the replies, whose costs the card of the data tells.
        repo: ``USER/NAME`` of the model; the data go to ``USER/NAME-data``.
        with_data: whether the data go, too.

    Raises:
        SettingsError: ``repo`` is not the name of a repository.
        DataError: the run has no trained model.
    """
    if not _REPO.fullmatch(repo) or len(repo) + len(_DATA_ENDING) > 96 or ".." in repo or "--" in repo:
        raise SettingsError(
            f"{repo!r} is not the name of a repository; write USER/NAME with letters, digits, dots, dashes and underscores"
        )
    settings = load_settings(store)
    result = load_result(store, workspace)
    if not result["model_path"] or not store.stages.is_finished(settings.iterations, "trained"):
        raise DataError(f"run {settings.name!r} has no trained model yet; finish it with its own command first")
    folder = Path(result["model_path"])
    if not folder.is_dir():
        raise DataError(f"the trained model of run {settings.name!r} is no longer in {folder}")
    names = sorted(path for path in folder.iterdir() if path.is_file() and _MODEL_FILES.fullmatch(path.name))
    repos = [HubRepo(repo, "model", tuple(HubFile(path.name, path) for path in names))]
    if with_data:
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / _DATA_FILE
            export_samples(store, "trl", path)
            content = path.read_bytes()
        card = make_data_card(settings, result, repo).encode("utf-8")
        repos.append(HubRepo(repo + _DATA_ENDING, "dataset", (HubFile(CARD, card), HubFile(_DATA_FILE, content))))
    return repos


def push(repos: Sequence[HubRepo], private: bool, tell: Callable[[str], None]) -> list[str]:
    """Send repositories to the hub; return their addresses. Files that are already there are not sent again.

    The token is the hub library's: ``HF_TOKEN``, or that of ``hf auth login``. ``HF_ENDPOINT`` names another hub.

    Args:
        repos: see :func:`plan_push`.
        private: whether a repository that is made now can only be seen by its owner.
        tell: tells the user what is being sent.

    Raises:
        DataError: the hub refuses it or cannot be reached; what was sent before stays there, and the same command goes on.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if not get_token():
        raise DataError("no token for the hub: set HF_TOKEN to a token that can write, or sign in with `hf auth login`")
    hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    addresses = []
    for repo in repos:
        tell(
            f"sending {len(repo.files)} files ({_format_size(sum(f.size for f in repo.files))}) to {repo.kind} {repo.id}"
        )
        try:
            hub.create_repo(repo.id, repo_type=repo.kind, private=private, exist_ok=True)
            operations = [
                CommitOperationAdd(f.path, f.content if isinstance(f.content, bytes) else str(f.content))
                for f in repo.files
            ]
            hub.create_commit(repo.id, operations, commit_message="Upload by dsrl", repo_type=repo.kind)
        except HfHubHTTPError as error:
            raise DataError(f"the hub refuses {repo.kind} {repo.id}: {_explain(error)}") from error
        except Exception as error:
            # The library's clients have errors of their own.
            if not isinstance(error, OSError) and not type(error).__module__.startswith(_CLIENTS):
                raise
            raise DataError(f"the hub cannot be reached ({_shorten(error)}); the same command goes on") from error
        addresses.append(f"{hub.endpoint}/{'datasets/' if repo.kind == 'dataset' else ''}{repo.id}")
    return addresses


def _explain(error: Any) -> str:
    status = getattr(error.response, "status_code", None)
    if status == 401:
        return "it does not know the token; set HF_TOKEN to a token that can write"
    if status == 403:
        return "the token may not write there; give a token that can write, or a repository of your own"
    return _shorten(error)


def _shorten(error: Exception) -> str:
    return printable(" ".join(str(error).split()))[:300] or type(error).__name__


def _format_size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"
