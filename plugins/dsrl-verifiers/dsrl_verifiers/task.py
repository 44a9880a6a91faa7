"""The hooks of the task: what dsrl asks is answered from the environment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, Literal, cast

from dsrl import UNREADABLE, AnswerFormat, DataError, Example, PluginError, Reward, SettingsError, hookimpl
from dsrl.answers.format import Form
from dsrl.types import Answer
from dsrl_verifiers.environment import Environment, load_environment
from dsrl_verifiers.items import DataForm, find_form, read_domain
from dsrl_verifiers.scoring import PrivateLoop, score_output

#: Form of an answer -> what stands before and after it in an output, and what in an instruction asks for the form.
_FORMS = {
    "boxed": ("\\boxed{", "}", "\\boxed"),
    "tag": ("<answer> ", " </answer>", "<answer>"),
    "hashes": ("#### ", "", "####"),
    "text": ("", "", ""),
}
#: Gold answers that the form of an answer is tried with.
_TRIED = 8
#: Rewards are sums of floating-point numbers.
_ROUNDING = 1e-9
_ANY_FORM = "Write the answer in the form that the input asks for."


class VerifiersTask:
    """An environment of verifiers with a single turn, as a task.

    Args:
        argument: the name of the environment; the user writes it after the colon of ``--task verifiers:NAME``.
        description: what the task is; empty for what the environment says of itself.
        input_instruction: the form of an input.
        output_instruction: how an answer is written; empty for the system prompt of the environment, or for what stands
            behind each input in its prompts.
        answer_field: the field of an item that holds the right answer; empty to look for it.
        ignored_fields: fields of an item, separated by commas, that the reward does not need.
        answer_form: ``boxed``, ``tag``, ``hashes`` or ``text``; empty to try which of them earns the threshold.
        threshold: an answer with at least this reward is right.
        items: how many items of an endless taskset are read.
        time_limit: seconds that rating one answer may take.
        taskset: fields of the configuration of the environment's taskset.
    """

    def __init__(
        self,
        argument: str = "",
        description: str = "",
        input_instruction: str = "",
        output_instruction: str = "",
        answer_field: str = "",
        ignored_fields: str = "",
        answer_form: str = "",
        threshold: float = 1.0,
        items: int = 1000,
        time_limit: float = 10.0,
        **taskset: Any,
    ) -> None:
        if not argument:
            raise SettingsError("the task verifiers needs the name of an environment; write --task verifiers:NAME")
        if answer_form and answer_form not in _FORMS:
            raise SettingsError(f"answer_form is {answer_form!r}, but must be one of {', '.join(_FORMS)}")
        if not (threshold > 0 and items > 0 and time_limit > 0):
            raise SettingsError("threshold, items and time_limit must be above 0")
        self._name, self._description, self._input_instruction = argument, description, input_instruction
        self._output_instruction, self._answer_field = output_instruction, answer_field
        self._ignored = tuple(field.strip() for field in ignored_fields.split(",") if field.strip())
        self._answer_form, self._threshold, self._items = answer_form, threshold, items
        self._options, self._loop = taskset, PrivateLoop(time_limit)

    # The library takes seconds to import. It is loaded when a hook is called, not when the task is bound.

    @cached_property
    def _environment(self) -> Environment:
        return load_environment(self._name, self._options)

    @cached_property
    def _data(self) -> list[Any]:
        return [task.data for task in self._environment.read_tasks(self._items)]

    @cached_property
    def _form(self) -> DataForm:
        return find_form(self._name, self._data, self._answer_field, self._ignored)

    @cached_property
    def _answer_place(self) -> str:
        """The form of an answer: the given one, or the first in which gold answers earn the threshold."""
        if self._answer_form:
            return self._answer_form
        gold = [self._form.read_item(data) for data in islice(self._data, _TRIED)]
        wish = self.output_instruction() + " " + str(self._data[0].prompt)
        best = 0.0
        for form in sorted(_FORMS, key=lambda form: (form != "text" and _FORMS[form][2] not in wish, form == "text")):
            rewards = [self._score(self._write(label, form), label, input)[0] for input, label in gold]
            if min(rewards) >= self._threshold - _ROUNDING:
                return form
            best = max(best, *rewards)
        raise PluginError(
            f"environment {self._name!r} cannot be a task as it is: in no form ({', '.join(_FORMS)}) do its own answers "
            f"earn the reward {self._threshold:g} (the highest is {best:g}); give another --task-option threshold=NUMBER, "
            "or answer_form=FORM if it is known"
        )

    @hookimpl
    def description(self) -> str:
        """Return the option, or what the environment says of itself."""
        return self._description or self._environment.describe()

    @hookimpl
    def input_instruction(self) -> str:
        """Return the option."""
        return self._input_instruction

    @hookimpl
    def output_instruction(self) -> str:
        """Return the option, or what the environment tells a model about the answer."""
        return self._output_instruction or self._form.instruction or self._form.system_prompt or _ANY_FORM

    @hookimpl
    def load_dataset(self, path: str, split: Literal["train", "test"]) -> Iterable[Example]:
        """Return the items of the environment; with a path, those of another data set with input and output."""
        if path:
            from dsrl.datasets import read_dataset

            return read_dataset(path, split)
        data: Sequence[Any] = self._data
        if self._environment.has_splits and "split" not in self._options:
            environment = load_environment(self._name, {**self._options, "split": split})
            data = [task.data for task in environment.read_tasks(self._items)]
            if find_form(self._name, data, self._answer_field, self._ignored) != self._form:
                raise PluginError(f"environment {self._name!r}: the items of the split {split!r} have another form")
        elif split == "train":
            raise DataError(f"environment {self._name!r} has no splits; its items are test items")
        form = self._form
        return [Example(*form.read_item(item), read_domain(item)) for item in data]

    @hookimpl
    def process_label(self, output: str, input: str) -> Answer:
        """Return the answer in a gold output; the items of the environment are the bare answer."""
        if self._answer_place != "text":
            answer = self.process_prediction(output, input)
            if answer is not UNREADABLE:
                return answer
        return output.strip() or UNREADABLE

    @hookimpl
    def process_prediction(self, output: str, input: str) -> Answer:
        """Return the answer that stands in an output in the form of the environment."""
        form = self._answer_place
        if form == "text":
            text = AnswerFormat("choice", ("any",)).find(output)  # what follows the thinking part
            answer = UNREADABLE if text is None else AnswerFormat("tag").canonical(text)
        else:
            answer = AnswerFormat(cast(Form, form)).extract(output)
        return answer if answer is UNREADABLE or self._fits(str(answer), input) else UNREADABLE

    @hookimpl
    def eval(self, prediction: str, label: str, input: str) -> bool:
        """Return whether an answer earns the threshold."""
        return self._score(self._write(prediction), label, input)[0] >= self._threshold - _ROUNDING

    @hookimpl
    def reward(self, output: str, label: str, input: str) -> float:
        """Return the reward of the environment; its rewards are the parts, if there are several."""
        reward, parts = self._score(output, label, input)
        return Reward(reward, parts) if len(parts) > 1 else reward

    def _fits(self, answer: str, input: str) -> bool:
        """Return whether an answer could be a label: the field of the environment can be a number."""
        from pydantic import ValidationError

        try:
            self._form.make_data(input, answer)
        except ValidationError:
            return False
        return True

    def _write(self, answer: str, form: str = "") -> str:
        before, after, _ = _FORMS[form or self._answer_place]
        return f"{before}{answer}{after}"

    def _score(self, output: str, label: str, input: str) -> tuple[float, dict[str, float]]:
        """Return the reward of an output and its parts.

        Raises:
            PluginError: rating took too long.
            DataError: the label is not of the type that the environment needs.
        """
        from pydantic import ValidationError

        try:
            data = self._form.make_data(input, label)
        except ValidationError as error:
            raise DataError(
                f"environment {self._name!r}: the label {label[:80]!r} is not of the type of its answers"
            ) from error
        task = self._environment.make_task(data)
        try:
            return self._loop.run(score_output(task, output))
        except TimeoutError as error:
            raise PluginError(
                f"environment {self._name!r}: rating one answer took too long (option time_limit)"
            ) from error
