"""The guard around a plugin: what a hook raises or returns against its contract is told with the plugin's name.

A plugin may be wrong in any way: it raises, exits, returns another type, a text that cannot be stored, a list without end.
Whatever it is, the user reads which plugin, which hook and which line; nothing of it goes further.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import traceback
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from dataclasses import dataclass, fields
from numbers import Real
from pathlib import Path
from typing import Any

import pluggy

from dsrl.answers import AnswerFormat
from dsrl.errors import DsrlError, PluginError, RowRefused, TransientError
from dsrl.keys import mask
from dsrl.plugins.specs import hookimpl
from dsrl.text import replace_surrogates
from dsrl.types import BatchState, Completion, Example, Passage, Price, Solved, Unreadable

#: What a hook must return, where a wrong type would do harm far away from its maker.
_RETURNS: dict[str, tuple[type, ...]] = {
    "description": (str,),
    "input_instruction": (str,),
    "output_instruction": (str,),
    "answer_format": (AnswerFormat,),
    "process_label": (str, Unreadable),
    "process_prediction": (str, Unreadable),
    "reward": (Real,),
    "procedural_sample": (Example,),
    "procedural_solve": (Solved,),
    "complete": (Completion,),
    "price": (Price,),
    "max_n": (int,),
    "submit_batch": (str,),
    "find_batch": (str,),
    "poll_batch": (BatchState,),
    "index": (int,),
    "identity": (str,),
}
#: Hooks that give several, and what each must be.
_LISTS: dict[str, type] = {"demos": Example, "domains": str, "load_dataset": Example, "search": Passage}
#: Items of a list that a hook may give at most; ``load_dataset`` is read item by item instead.
_MOST_ITEMS = 1_000_000
#: Characters of a text that a hook may give at most.
_LONGEST_TEXT = 10_000_000
#: Hooks whose text may not be blank.
_NOT_BLANK = ("description",)
#: What a hook may raise beside a fault: the errors of the contract.
_CONTRACT = (DsrlError, TransientError, RowRefused)
#: A fault of a plugin. ``sys.exit`` is one; Ctrl-C and the end of a coroutine or generator are none.
FAULTS = (Exception, SystemExit)
#: Hooks that may not end without an answer, and what to say to a plugin that gives none.
_ANSWERED = {
    "process_prediction": "return dsrl.UNREADABLE where there is no answer",
    "process_label": "return dsrl.UNREADABLE where there is no answer",
    "description": "return the task's description",
    "output_instruction": "return the output instruction",
    "eval": "return True or False",
    "reward": "return a number",
    "complete": "return a Completion",
    "submit_batch": "return the provider's id of the batch",
    "poll_batch": "return a BatchState",
    "search": "return a list, empty if nothing is found",
    "index": "return the number of passages",
    "sample": "return the texts",
}


def shown_fault(error: BaseException) -> str:
    """Give type and text of an exception of somebody else; its text may be of any length, or fail to be made."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the plugin's own __str__
        text = ""
    return f"{type(error).__name__}: {mask(text[:2000])}" if text else type(error).__name__


def innermost(error: BaseException, files: Iterable[str]) -> tuple[str, int] | None:
    """Give file and line of the innermost frame of an exception that lies in one of the files or folders."""
    files = tuple(files)
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if any(file == own or file.startswith(own + "/") for own in files):
            found = (file, line)
    return found


@dataclass(frozen=True)
class Source:
    """Where the code of a bound plugin comes from, to say where a fault lies.

    Attributes:
        title: kind, name, distribution and version.
        files: files and folders of the plugin's code.
        overrides: files of ``--override``, as the user named them.
    """

    title: str
    files: tuple[str, ...]
    overrides: tuple[str, ...] = ()

    def place(self, error: BaseException) -> str:
        """Give `` (module.py:12)``: the innermost line of the plugin's own code; empty where there is none."""
        found = innermost(error, self.files)
        if found is None:
            return ""
        file, line = found
        folder = next((own for own in self.files if file.startswith(own + "/")), None)
        shown = Path(file).relative_to(Path(folder).parent) if folder else Path(file).name
        return f" ({shown}:{line})"

    def fault(self, hook: str, error: BaseException) -> PluginError:
        """Say which file of the user's or which plugin is at fault."""
        named = {str(Path(path).absolute()): path for path in self.overrides}
        found = innermost(error, named)
        who, where = (f"override file {named[found[0]]}:{found[1]}", "") if found else (self.title, self.place(error))
        return PluginError(f"{who}: its hook {hook} failed with {shown_fault(error)}{where}")


class Guard:
    """Wraps every hook of one plugin: what it raises or gives against the contract is told with the plugin's name.

    Text that leaves a plugin is made storable here, once for all callers (replies of teachers: in the ledger).
    """

    def __init__(self, manager: pluggy.PluginManager, source: Source) -> None:
        for hook in vars(manager.hook):
            if not hook.startswith("_"):
                setattr(self, hook, _guarded(hook, source))


def _guarded(hook: str, source: Source) -> Callable[..., Any]:
    check = _Check(hook, source)

    async def awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            return check.result(await coroutine)
        except _CONTRACT:
            raise
        except FAULTS as error:
            raise source.fault(hook, error) from error

    @hookimpl(wrapper=True, specname=hook)
    def guard() -> Generator[None, Any, Any]:
        try:
            result = yield
            return awaited(result) if inspect.iscoroutine(result) else check.result(result)
        except _CONTRACT:
            raise
        except FAULTS as error:
            raise source.fault(hook, error) from error

    return guard


@dataclass(frozen=True)
class _Check:
    """Checks what one hook of one plugin returns, and makes its texts storable."""

    hook: str
    source: Source

    def refuse(self, words: str) -> PluginError:
        """Say what is wrong with the result."""
        return PluginError(f"{self.source.title}: its hook {self.hook} returned {words}")

    def result(self, result: Any) -> Any:
        """Give the result as callers may use it."""
        hook = self.hook
        if result is None:
            if hook in _ANSWERED:
                raise self.refuse(f"None; {_ANSWERED[hook]}")
            return None
        expected = _RETURNS.get(hook)
        if expected and not isinstance(result, expected):
            names = " or ".join("a number" if t is Real else t.__name__ for t in expected)
            raise self.refuse(f"{type(result).__name__}, not {names}")
        if hook == "eval":
            return self._truth(result)
        if hook == "reward":
            return self._finite(result)
        if hook == "sample":
            return self._completions(result)
        if hook in _LISTS:
            return self._list(result, _LISTS[hook])
        return self._storable(result)

    def _truth(self, result: Any) -> bool:
        # NumPy's bool is named bool or bool_, by version. A text or a number may be an answer that was returned by mistake.
        if type(result).__name__ not in ("bool", "bool_"):
            raise self.refuse(f"{type(result).__name__} ({_excerpt(result)}), not bool; {_ANSWERED['eval']}")
        return bool(result)

    def _finite(self, result: Any) -> Any:
        try:
            finite = math.isfinite(result)
        except OverflowError:  # an integer that no float holds
            finite = False
        if not finite:
            raise self.refuse(f"{_excerpt(result)}; return a finite number")
        return result

    def _completions(self, result: Any) -> list[list[str]]:
        if isinstance(result, str) or not isinstance(result, Iterable):
            raise self.refuse(f"{type(result).__name__}, not a list of lists of texts")
        found = []
        for texts in result:
            if isinstance(texts, str) or not isinstance(texts, Iterable):
                raise self.refuse(f"a list of {type(texts).__name__}, not of lists of texts")
            texts = list(texts)
            wrong = [type(text).__name__ for text in texts if not isinstance(text, str)]
            if wrong:
                raise self.refuse(f"{wrong[0]} among the completions, not text")
            found.append([replace_surrogates(text) for text in texts])
        return found

    def _list(self, items: Any, kind: type) -> Any:
        if isinstance(items, str) or not isinstance(items, Iterable):
            raise self.refuse(f"{type(items).__name__}, not a list of {kind.__name__}")
        if self.hook == "load_dataset" and not isinstance(items, (list, tuple)):
            return self._lazily(items, kind)
        found: list[Any] = []
        for item in items:
            if len(found) == _MOST_ITEMS:
                raise self.refuse(f"more than {_MOST_ITEMS:,} items")
            found.append(self._item(item, kind))
        return found

    def _lazily(self, items: Iterable[Any], kind: type) -> Iterator[Any]:
        try:
            for item in items:
                yield self._item(item, kind)
        except DsrlError:
            raise
        except FAULTS as error:
            raise self.source.fault(self.hook, error) from error

    def _item(self, item: Any, kind: type) -> Any:
        if not isinstance(item, kind):
            raise self.refuse(f"a list of {type(item).__name__}, not of {kind.__name__}")
        return self._storable(item)

    def _storable(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, (Example, Passage, Solved)):
            texts = {f.name: getattr(value, f.name) for f in fields(value) if f.type == "str"}
            for name, text in texts.items():
                if not isinstance(text, str):
                    raise self.refuse(
                        f"{type(value).__name__} whose {name} is {type(text).__name__}, not text ({_excerpt(text)})"
                    )
            stored = {name: self._text(text) for name, text in texts.items()}
            return value if stored == texts else _replaced(value, stored)
        if isinstance(value, AnswerFormat):
            return _replaced(value, {"choices": tuple(map(self._text, value.choices))})
        return value

    def _text(self, text: str) -> str:
        if len(text) > _LONGEST_TEXT:
            raise self.refuse(f"a text of {len(text):,} characters; at most {_LONGEST_TEXT:,} are taken")
        if self.hook in _NOT_BLANK and not text.strip():
            raise self.refuse(f"an empty text; {_ANSWERED[self.hook]}")
        return replace_surrogates(text)


def _replaced(record: Any, values: dict[str, Any]) -> Any:
    return dataclasses.replace(record, **values)


def _excerpt(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:80] + "..."
