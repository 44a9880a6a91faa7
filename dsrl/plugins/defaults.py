"""The defaults of hooks: what dsrl does if a plugin leaves a hook out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Literal

from dsrl.answers import AnswerFormat
from dsrl.answers.places import read_whole_answer
from dsrl.plugins.specs import SamplerSpec, TaskSpec, hookimpl
from dsrl.text import replace_surrogates
from dsrl.types import UNREADABLE, Answer, Example, Reward

#: Names that dsrl's own parts have among the plugins of a manager.
OWN_PARTS = ("defaults", "guard")

# The default rewards, made once: a training asks for hundreds of thousands.
_NO_REWARD = Reward(0.0, {"format": 0.0, "result": 0.0})
_FORMAT_REWARD = Reward(0.1, {"format": 0.1, "result": 0.0})
_FULL_REWARD = Reward(1.0, {"format": 0.1, "result": 0.9})


class TaskDefaults:
    """Implements the optional hooks of a task with the help of its other hooks.

    Args:
        task: the hooks of the bound task, including these defaults.
    """

    def __init__(self, task: TaskSpec) -> None:
        self._task = task

    @cached_property
    def _answer_format(self) -> AnswerFormat | None:
        # Asked once: a reward asks for it, and a guarded hook costs more than reading an answer.
        return self._task.answer_format()

    @cached_property
    def _is_plain(self) -> bool:
        """Whether these defaults alone read and compare answers. They are then called without their guarded hooks."""
        hooks: list[Any] = [self._task.process_prediction, self._task.eval]
        impls = [impl for hook in hooks for impl in hook.get_hookimpls()]
        return self._answer_format is not None and all(impl.plugin_name in OWN_PARTS for impl in impls)

    @hookimpl(trylast=True)
    def input_instruction(self) -> str:
        return ""

    @hookimpl(trylast=True)
    def output_instruction(self) -> str | None:
        answer_format = self._answer_format
        return answer_format.instruction() if answer_format else None

    @hookimpl(trylast=True)
    def demos(self) -> Sequence[Example]:
        return ()

    @hookimpl(trylast=True)
    def domains(self) -> Sequence[str]:
        return ()

    @hookimpl(trylast=True)
    def load_dataset(self, path: str, split: Literal["train", "test"]) -> Iterable[Example] | None:
        if not path:
            return None
        from dsrl.datasets import read_dataset

        return read_dataset(path, split)

    @hookimpl(trylast=True)
    def process_label(self, output: str, input: str) -> Answer:
        answer_format = self._answer_format
        label = self._task.process_prediction(output=output, input=input)
        if label is not UNREADABLE:
            return label
        # A gold output is often the bare answer, without the form that the instruction demands.
        return answer_format.canonical(output, input) if answer_format else output.strip() or UNREADABLE

    @hookimpl(trylast=True)
    def process_prediction(self, output: str, input: str) -> Answer | None:
        if self._answer_format:
            return self._answer_format.extract(output, input)
        return read_whole_answer(output) if self._task.rubric() else None

    @hookimpl(trylast=True)
    def rubric(self) -> str:
        return ""

    @hookimpl(trylast=True)
    def eval(self, prediction: str, label: str) -> bool:
        return prediction.casefold() == label.casefold()

    @hookimpl(trylast=True)
    def reward(self, output: str, label: str, input: str) -> float:
        if self._is_plain:
            prediction = self.process_prediction(output, input)
            is_right = isinstance(prediction, str) and self.eval(replace_surrogates(prediction), label)
        else:
            prediction = self._task.process_prediction(output=output, input=input)
            is_right = prediction is not UNREADABLE and self._task.eval(prediction=prediction, label=label, input=input)
        if prediction is UNREADABLE:
            return _NO_REWARD
        return _FULL_REWARD if is_right else _FORMAT_REWARD


class SamplerDefaults:
    """Implements the optional hooks of a sampler.

    Args:
        sampler: the hooks of the bound sampler, including these defaults.
    """

    def __init__(self, sampler: SamplerSpec) -> None:
        self._sampler = sampler

    @hookimpl(trylast=True)
    async def aclose(self) -> None:
        # Plugins from before version 1 of the hook API have `close`. If there is no `close` either, this does nothing.
        self._sampler.close()
