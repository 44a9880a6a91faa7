"""The guard around a plugin: an error or a wrong result of a hook becomes an error that names the plugin.

A plugin can be wrong in any way: it raises, exits, returns another type, a text that cannot be stored, or an endless list.
In all cases the user reads which plugin, which hook and which line is at fault, and the wrong value goes no further.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import traceback
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Real
from pathlib import Path
from types import FrameType
from typing import Any, get_args, get_origin

from dsrl.answers import AnswerFormat
from dsrl.errors import DsrlError, PluginError, RowRefused, TransientError
from dsrl.keys import mask
from dsrl.plugins.specs import Hook, Kind, hookimpl
from dsrl.text import replace_surrogates
from dsrl.types import DatasetInfo, Example, Passage, Reward, Solved

#: Maximum number of items in a list that a hook returns. ``load_dataset`` is read item by item instead.
_MAX_ITEMS = 1_000_000
#: Maximum number of characters in a text that a hook returns.
_MAX_CHARACTERS = 10_000_000
#: Maximum number of parts of a reward.
_MAX_PARTS = 100
#: The errors that the contract allows a hook to raise.
_CONTRACT_ERRORS = (DsrlError, TransientError, RowRefused)
#: A fault of a plugin. ``sys.exit`` is one; Ctrl-C and the end of a coroutine or generator are not.
FAULTS = (Exception, SystemExit)


def describe_fault(error: BaseException) -> str:
    """Return the type and the text of a plugin's exception. The text can be of any length, and making it can fail."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the plugin's own __str__
        text = ""
    return f"{type(error).__name__}: {mask(text[:2000])}" if text else type(error).__name__


def find_innermost_line(place: BaseException | FrameType, files: Iterable[str]) -> tuple[str, int] | None:
    """Return file and line of the innermost frame in one of the files or folders.

    Args:
        place: an exception, or the frame where a thread is at work.
        files: the files and folders.
    """
    files = tuple(files)
    if isinstance(place, BaseException):
        frames = list(traceback.walk_tb(place.__traceback__))
    else:
        frames = list(traceback.walk_stack(place))[::-1]
    innermost = None
    for frame, line in frames:
        file = frame.f_code.co_filename
        if any(file == own or file.startswith(own + "/") for own in files):
            innermost = (file, line)
    return innermost


@dataclass(frozen=True)
class Source:
    """Where the code of a bound plugin is, to name the place of a fault.

    Attributes:
        title: kind, name, distribution and version of the plugin.
        files: files and folders of the plugin's code.
        overrides: files of ``--override``, as the user named them.
    """

    title: str
    files: tuple[str, ...]
    overrides: tuple[str, ...] = ()

    def locate(self, place: BaseException | FrameType) -> str:
        """Return `` (module.py:12)``, the innermost line of the plugin's own code; empty if there is none."""
        innermost = find_innermost_line(place, self.files)
        if innermost is None:
            return ""
        file, line = innermost
        folder = next((own for own in self.files if file.startswith(own + "/")), None)
        shown = Path(file).relative_to(Path(folder).parent) if folder else Path(file).name
        return f" ({shown}:{line})"

    def fault(self, hook: str, error: BaseException) -> PluginError:
        """Make the error that names the override file or the plugin that is at fault."""
        return PluginError(self.blame(hook, f"failed with {describe_fault(error)}", error))

    def blame(self, hook: str, words: str, place: BaseException | FrameType) -> str:
        """Say what a hook did, and where in the plugin or in an override file.

        Args:
            hook: the name of the hook.
            words: what it did.
            place: an exception, or the frame where the hook is at work.
        """
        overrides = {str(Path(path).absolute()): path for path in self.overrides}
        innermost = find_innermost_line(place, overrides)
        culprit, where = self.title, self.locate(place)
        if innermost:
            culprit, where = f"override file {overrides[innermost[0]]}:{innermost[1]}", ""
        return f"{culprit}: its hook {hook} {words}{where}"


class Guard:
    """Wraps every hook of one plugin, so that each fault is reported with the plugin's name.

    The texts that leave a plugin are made storable here, once for all callers (replies of teachers: in the ledger).
    """

    def __init__(self, kind: Kind, source: Source) -> None:
        for hook in kind.hooks.values():
            if not hook.goes:  # a wrapper would set off the warning of the hook
                setattr(self, hook.name, _make_wrapper(hook, source))


def _make_wrapper(hook: Hook, source: Source) -> Callable[..., Any]:
    check = _ResultCheck(hook, source)

    async def check_later(coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            return check(await coroutine)
        except _CONTRACT_ERRORS:
            raise
        except FAULTS as error:
            raise source.fault(hook.name, error) from error

    @hookimpl(wrapper=True, specname=hook.name)
    def guard() -> Generator[None, Any, Any]:
        try:
            result = yield
            return check_later(result) if inspect.iscoroutine(result) else check(result)
        except _CONTRACT_ERRORS:
            raise
        except FAULTS as error:
            raise source.fault(hook.name, error) from error

    return guard


class _ResultCheck:
    """Checks what one hook of one plugin returns, and makes its texts storable.

    What is allowed comes from the annotation of the hook's result.
    """

    def __init__(self, hook: Hook, source: Source) -> None:
        self._hook, self._source = hook, source
        origin, arguments = get_origin(hook.returns), get_args(hook.returns)
        #: The type of an item if the hook returns several.
        self._item_type = arguments[0] if origin is not None and origin in (Iterable, Sequence) else None
        is_union = arguments and self._item_type is None
        types = arguments if is_union else () if self._item_type or hook.returns is None else (hook.returns,)
        #: The types of a single result.
        self._types = tuple(Real if t is float else t for t in types)

    def __call__(self, result: Any) -> Any:
        """Return the result in the form that callers may use.

        Raises:
            PluginError: the result is against the contract.
        """
        if result is None:
            if self._hook.unanswered:
                raise self._refuse(f"None; {self._hook.unanswered}")
            return None
        if self._types == (bool,):
            return self._check_truth(result)
        if self._types and not isinstance(result, self._types):
            names = " or ".join("a number" if t is Real else t.__name__ for t in self._types)
            raise self._refuse(f"{type(result).__name__}, not {names}")
        if self._types == (Real,):
            return self._check_number(result)
        if self._hook.is_mandatory and isinstance(result, str) and not result.strip():
            raise self._refuse(f"an empty text; {self._hook.unanswered}")
        if self._item_type is None:
            return self._make_storable(result)
        if isinstance(self._item_type, type):
            return self._check_list(result, self._item_type)
        return self._check_completions(result)

    def _refuse(self, words: str) -> PluginError:
        return PluginError(f"{self._source.title}: its hook {self._hook.name} returned {words}")

    def _check_truth(self, result: Any) -> bool:
        if isinstance(result, bool):
            return result
        # NumPy's bool is named bool or bool_, by version. A text or a number may be an answer that was returned by mistake.
        if type(result).__name__ not in ("bool", "bool_"):
            raise self._refuse(f"{type(result).__name__} ({_excerpt(result)}), not bool; {self._hook.unanswered}")
        return bool(result)

    def _check_number(self, result: Any) -> Any:
        if not _is_finite(result):
            raise self._refuse(f"{_excerpt(result)}; return a finite number")
        if isinstance(result, Reward):
            if len(result.parts) > _MAX_PARTS:
                raise self._refuse(f"a Reward of {len(result.parts):,} parts; at most {_MAX_PARTS} are allowed")
            for name, part in result.parts.items():
                is_number = type(part) is float or isinstance(part, Real)  # the first is what nearly all are, and quick
                if not isinstance(name, str) or not is_number or not _is_finite(part):
                    raise self._refuse(f"a Reward whose part {_excerpt(name)} is {_excerpt(part)}; give finite numbers")
        return result

    def _check_completions(self, result: Any) -> list[list[str]]:
        if isinstance(result, str) or not isinstance(result, Iterable):
            raise self._refuse(f"{type(result).__name__}, not a list of lists of texts")
        completions = []
        for texts in result:
            if isinstance(texts, str) or not isinstance(texts, Iterable):
                raise self._refuse(f"a list of {type(texts).__name__}, not of lists of texts")
            texts = list(texts)
            wrong = [type(text).__name__ for text in texts if not isinstance(text, str)]
            if wrong:
                raise self._refuse(f"{wrong[0]} among the completions, not text")
            completions.append([replace_surrogates(text) for text in texts])
        return completions

    def _check_list(self, result: Any, item_type: type) -> Any:
        if isinstance(result, str) or not isinstance(result, Iterable):
            raise self._refuse(f"{type(result).__name__}, not a list of {item_type.__name__}")
        if get_origin(self._hook.returns) is Iterable and not isinstance(result, (list, tuple)):
            return self._check_lazily(result, item_type)
        items: list[Any] = []
        for item in result:
            if len(items) == _MAX_ITEMS:
                raise self._refuse(f"more than {_MAX_ITEMS:,} items")
            items.append(self._check_item(item, item_type))
        return items

    def _check_lazily(self, result: Iterable[Any], item_type: type) -> Iterator[Any]:
        try:
            for item in result:
                yield self._check_item(item, item_type)
        except DsrlError:
            raise
        except FAULTS as error:
            raise self._source.fault(self._hook.name, error) from error

    def _check_item(self, item: Any, item_type: type) -> Any:
        if not isinstance(item, item_type):
            raise self._refuse(f"a list of {type(item).__name__}, not of {item_type.__name__}")
        return self._make_storable(item)

    def _make_storable(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._check_text(value)
        if isinstance(value, DatasetInfo):
            value = self._check_sizes(value)
        if isinstance(value, (DatasetInfo, Example, Passage, Solved)):
            texts = {f.name: getattr(value, f.name) for f in fields(value) if f.type == "str"}
            for name, text in texts.items():
                if not isinstance(text, str):
                    raise self._refuse(
                        f"{type(value).__name__} whose {name} is {type(text).__name__}, not text ({_excerpt(text)})"
                    )
            storable = {name: self._check_text(text) for name, text in texts.items()}
            return value if storable == texts else _replace(value, storable)
        if isinstance(value, AnswerFormat):
            choices = tuple(map(self._check_text, value.choices))
            return value if choices == value.choices else _replace(value, {"choices": choices})
        return value

    def _check_sizes(self, info: DatasetInfo) -> DatasetInfo:
        if not isinstance(info.sizes, Mapping) or len(info.sizes) > _MAX_PARTS:
            raise self._refuse(f"DatasetInfo whose sizes are not a mapping of up to {_MAX_PARTS} splits")
        for split, size in info.sizes.items():
            if not isinstance(split, str) or type(size) is not int or size < 0:
                raise self._refuse(
                    f"DatasetInfo whose size of {_excerpt(split)} is {_excerpt(size)}, not a number of items"
                )
        if not isinstance(info.is_read, bool):
            raise self._refuse(f"DatasetInfo whose is_read is {_excerpt(info.is_read)}, not True or False")
        return dataclasses.replace(info, sizes={self._check_text(split): size for split, size in info.sizes.items()})

    def _check_text(self, text: str) -> str:
        if len(text) > _MAX_CHARACTERS:
            raise self._refuse(f"a text of {len(text):,} characters; at most {_MAX_CHARACTERS:,} are allowed")
        return replace_surrogates(text)


def _is_finite(number: Any) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer that no float can hold
        return False


def _replace(record: Any, values: dict[str, Any]) -> Any:
    return dataclasses.replace(record, **values)


def _excerpt(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "..."
