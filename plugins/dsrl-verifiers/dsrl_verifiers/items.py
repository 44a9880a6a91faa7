"""The items of an environment as inputs and labels, and the way back: from an input and a label to the data of a task.

A synthetic sample has only an input and a label. So an environment can be a task only if its data follows from these two,
and dsrl makes the data of real items in the same way: one reward, wherever it is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dsrl import PluginError, SettingsError

#: Usual names of the field with the right answer.
ANSWER_FIELDS = ("answer", "label", "target", "gold", "solution", "ground_truth", "expected", "reference")
#: Usual names of a field with the input alone.
INPUT_FIELDS = ("input", "question", "problem", "query")
#: Fields that only name or describe an item.
_NAMES = {"idx", "id", "name", "description"}


@dataclass(frozen=True, slots=True)
class DataForm:
    """How the data of an item is made of an input and a label.

    Attributes:
        data_type: the class of the data.
        answer_field: its field with the right answer.
        input_field: its field with the input alone; empty if there is none.
        instruction: what stands behind the input in a prompt.
        system_prompt: the system text of all items; empty for none.
        is_chat: whether a prompt is a list of messages.
    """

    data_type: type[Any]
    answer_field: str
    input_field: str = ""
    instruction: str = ""
    system_prompt: str = ""
    is_chat: bool = False

    def make_data(self, input: str, label: str) -> Any:
        """Return the data of a task.

        Raises:
            pydantic.ValidationError: a field is missing, or the label is not of its type.
        """
        from verifiers.v1 import UserMessage

        prompt: Any = f"{input} {self.instruction}" if self.instruction else input
        values = {"prompt": [UserMessage(content=prompt)] if self.is_chat else prompt, self.answer_field: label}
        if self.input_field:
            values[self.input_field] = input
        if self.system_prompt:
            values["system_prompt"] = self.system_prompt
        # A label is a text, and the field can be a number.
        return self.data_type.model_validate(values, strict=False)

    def read_item(self, data: Any) -> tuple[str, str]:
        """Return the input and the label of an item."""
        label = str(getattr(data, self.answer_field))
        return str(getattr(data, self.input_field)) if self.input_field else _read_prompt(data.prompt) or "", label


def read_domain(data: Any) -> str:
    """Return the field ``domain`` of an item, as ``dsrl tasks export`` writes it; empty if it has none."""
    domain = getattr(data, "domain", "")
    return domain if isinstance(domain, str) else ""


def find_form(name: str, all_data: Sequence[Any], answer_field: str, ignored: Sequence[str]) -> DataForm:
    """Find out how the data of all items follows from input and label.

    Args:
        name: the name of the environment, for errors.
        all_data: the data of the items.
        answer_field: the field with the answer; empty to look for it.
        ignored: fields that the reward does not need.

    Raises:
        PluginError: the items are no single question in text, or hold more than an input and an answer.
        SettingsError: it is not clear which field is the answer.
    """
    if not all_data:
        raise PluginError(f"environment {name!r} has no items")
    if any(_read_prompt(data.prompt) is None for data in all_data):
        raise PluginError(
            f"environment {name!r} cannot be a task: the prompt of an item is not one message of a user in text (it is "
            "empty, has several messages, or pictures)"
        )
    first = all_data[0]
    field = answer_field or _find_answer_field(name, type(first))
    if field not in type(first).model_fields:
        raise SettingsError(
            f"environment {name!r}: its items have no field {field!r}; they have {_list_own_fields(type(first))}"
        )
    if any(not isinstance(getattr(data, field), (str, int, float)) for data in all_data):
        raise PluginError(f"environment {name!r} cannot be a task: the field {field!r} is not a text or a number")
    form = DataForm(
        type(first), field, system_prompt=first.system_prompt or "", is_chat=not isinstance(first.prompt, str)
    )
    form = _add_input_field(form, all_data)
    _refuse_more(name, form, all_data, {*ignored, *_NAMES})
    return form


def _add_input_field(form: DataForm, all_data: Sequence[Any]) -> DataForm:
    """Return the form with the field that holds the input alone, if all prompts are this input and one instruction."""
    for name in INPUT_FIELDS:
        if name not in form.data_type.model_fields or name == form.answer_field:
            continue
        rests = set()
        for data in all_data:
            prompt, text = _read_prompt(data.prompt) or "", getattr(data, name)
            is_head = isinstance(text, str) and text.strip() and prompt.startswith(text)
            rests.add(prompt[len(text) :] if is_head else None)
        (rest,) = rests if len(rests) == 1 else (None,)
        if rest is not None and (not rest or rest.startswith(" ")):
            return DataForm(form.data_type, form.answer_field, name, rest[1:], form.system_prompt, form.is_chat)
    return form


def _refuse_more(name: str, form: DataForm, all_data: Sequence[Any], ignored: set[str]) -> None:
    """Refuse items whose data does not follow from input and label."""
    from pydantic import ValidationError

    for data in all_data:
        try:
            made = form.make_data(*form.read_item(data))
        except ValidationError as error:
            fields = sorted({str(problem["loc"][0]) for problem in error.errors() if problem["loc"]})
            raise PluginError(_describe_more(name, fields, may_ignore=False)) from error
        fields = [f for f in form.data_type.model_fields if getattr(made, f) != getattr(data, f) and f not in ignored]
        if fields:
            raise PluginError(_describe_more(name, fields, may_ignore=True))


def _describe_more(name: str, fields: Sequence[str], may_ignore: bool) -> str:
    advice = f"; if its reward does not need them, give --task-option ignored_fields={','.join(fields)}"
    return (
        f"environment {name!r} cannot be a task: its items have values in {', '.join(fields)} that do not follow from an "
        f"input and an answer, and a synthetic sample has nothing else{advice if may_ignore else ''}"
    )


def _find_answer_field(name: str, data_type: type[Any]) -> str:
    own = _list_own(data_type)
    for field in ANSWER_FIELDS:
        if field in own:
            return field
    if len(own) == 1:
        return own[0]
    raise SettingsError(
        f"environment {name!r}: which field of its items is the right answer? Give --task-option answer_field=FIELD; the "
        f"fields are {_list_own_fields(data_type)}"
    )


def _list_own(data_type: type[Any]) -> list[str]:
    from verifiers.v1 import TaskData

    return [field for field in data_type.model_fields if field not in TaskData.model_fields]


def _list_own_fields(data_type: type[Any]) -> str:
    return ", ".join(_list_own(data_type)) or "none of their own"


def _read_prompt(prompt: Any) -> str | None:
    """Return the text of a prompt; None if it is not one message of a user in text."""
    if prompt is None or isinstance(prompt, str):
        return prompt
    if len(prompt) != 1 or prompt[0].role != "user":
        return None
    content = prompt[0].content
    return content if isinstance(content, str) else None
