"""Contract classes of tasks."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dsrl.plugins.binding import Plugin
from dsrl.plugins.checks import TRASH
from dsrl.plugins.task_checks.checks import TaskChecks
from dsrl.plugins.task_checks.gold import CheckedTask, GoldItem, collect_gold
from dsrl.testing.contracts.base import PluginContract
from dsrl.types import UNREADABLE, Answer, Example

#: Items of the test set that are read, and characters of the longest outputs; `dsrl tasks check` tries longer ones.
TEST_ITEMS = 50
LONGEST = 100_000


class TaskContract(PluginContract):
    """Tests of every task.

    Attributes:
        examples: pairs of an output, as a model writes it, and the canonical answer in it (or ``UNREADABLE``). Give at least
            one readable output; better one for each answer.
        example_input: the input that the examples answer. Only tasks that look at the input need it.
        dataset: a small file or folder for ``load_dataset``; empty: the tests write a JSONL file with input and output.
    """

    kind = "task"
    examples: Sequence[tuple[str, Answer]] = ()
    example_input: str = "An input."
    dataset: ClassVar[str | Path] = ""

    def get_readable_examples(self) -> list[tuple[str, str]]:
        """Return the examples that hold an answer."""
        return [(output, answer) for output, answer in self.examples if answer is not UNREADABLE]

    def assert_passed(self, task: Plugin[Any], check: str) -> None:
        """Assert that the task passes a check of ``dsrl tasks check``.

        The gold items are the demonstrations, procedural samples, the items of ``dataset`` and the examples of this class.
        The task's own test set is not read: it may have to be downloaded.
        """
        checked = CheckedTask(task)
        gold = collect_gold(checked, str(self.dataset) or None, TEST_ITEMS)
        gold.extra += [
            GoldItem(f"example {number}", self.example_input, output, answer)
            for number, (output, answer) in enumerate(self.get_readable_examples(), 1)
        ]
        result = TaskChecks(checked, gold, LONGEST).run(check)
        assert result.verdict != "failed", "\n".join(map(str, result.findings))

    def test_it_describes_itself(self, subject: Plugin[Any]) -> None:
        self.assert_passed(subject, "instructions")

    def test_the_data_set_can_be_cited(self, subject: Plugin[Any]) -> None:
        info = subject.hook.dataset_info()
        if info is None:
            return
        assert info.id or info.url, "name the data set: its Hugging Face id or its page"
        assert not info.url or info.url.startswith(("https://", "http://")), info.url
        assert info.license.strip(), "name the licence of the data set, or write 'not stated'"
        assert re.search(r"\b(?:19|20)\d\d\b", info.citation), "cite the data set with authors and year"
        assert info.sizes, "say how many items each split has"

    def test_examples(self, subject: Plugin[Any]) -> None:
        assert self.get_readable_examples(), f"{type(self).__name__}: give at least one pair in `examples`"
        answers = [
            (output, subject.hook.process_prediction(output=output, input=self.example_input))
            for output, _ in self.examples
        ]
        assert answers == list(self.examples)

    def test_demonstrations_can_be_read(self, subject: Plugin[Any]) -> None:
        self.assert_passed(subject, "demonstrations")

    def test_a_label_is_its_own_right_answer(self, subject: Plugin[Any]) -> None:
        self.assert_passed(subject, "labels")

    def test_a_right_output_earns_more_than_a_wrong_one(self, subject: Plugin[Any]) -> None:
        self.assert_passed(subject, "right-over-wrong")

    def test_garbage_earns_no_right_answer(self, subject: Plugin[Any]) -> None:
        self.assert_passed(subject, "garbage")

    def test_an_answer_without_thought_earns_no_more_than_a_guess(self, subject: Plugin[Any]) -> None:
        self.assert_passed(subject, "shortcuts")

    def test_the_same_output_earns_the_same_again(self, subject: Plugin[Any]) -> None:
        self.assert_passed(subject, "repeatability")

    def test_a_dataset_can_be_loaded(self, subject: Plugin[Any], tmp_path: Path) -> None:
        path, written = self.dataset, []
        if not path:
            path = tmp_path / "items.jsonl"
            written = [Example(self.example_input, output) for output, _ in self.get_readable_examples()]
            lines = [json.dumps({"input": item.input, "output": item.output}) for item in written]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        items = list(subject.hook.load_dataset(path=str(path), split="test"))
        assert items, f"{path} has no items"
        assert not written or items == written
        for item in items:
            assert subject.hook.process_label(output=item.output, input=item.input) is not UNREADABLE, item


class ProceduralTaskContract(TaskContract):
    """Tests of a task that makes samples by rules, with ``procedural_sample`` and ``procedural_solve``.

    Attributes:
        levels: the difficulties from the easiest to the hardest.
    """

    levels: Sequence[int] = (1, 2, 3)

    @pytest.mark.parametrize(
        "passage", ["", "Apples are sold in boxes, every day.", *TRASH], ids=lambda text: text[:12]
    )
    def test_it_solves_its_own_samples(self, subject: Plugin[Any], passage: str) -> None:
        for level in self.levels:
            sample = subject.hook.procedural_sample(seed=level, difficulty=level, passage=passage)
            solution = subject.hook.procedural_solve(input=sample.input)
            assert solution is not None, sample
            written, solved = (
                subject.hook.process_label(output=output, input=sample.input)
                for output in (sample.output, solution.output)
            )
            assert subject.hook.process_prediction(output=solution.output, input=sample.input) == solved
            assert subject.hook.eval(prediction=solved, label=written, input=sample.input) is True, sample

    def test_the_same_arguments_make_the_same_sample(self, subject: Plugin[Any]) -> None:
        def make_samples() -> list[Example]:
            return [
                subject.hook.procedural_sample(seed=seed, difficulty=level, passage="Apples.")
                for seed in range(20)
                for level in self.levels
            ]

        samples = make_samples()
        assert make_samples() == samples
        assert len({sample.input for sample in samples}) > 1, "the seed makes no difference"

    def test_a_difficulty_above_the_hardest_is_the_hardest(self, subject: Plugin[Any]) -> None:
        hardest = max(self.levels)
        for level in (hardest, hardest + 1, 10**6):
            sample = subject.hook.procedural_sample(seed=1, difficulty=level, passage="")
            assert subject.hook.procedural_solve(input=sample.input).difficulty == hardest

    def test_another_input_has_no_solution(self, subject: Plugin[Any]) -> None:
        for text in TRASH:
            assert subject.hook.procedural_solve(input=text) is None, ascii(text[:40])
