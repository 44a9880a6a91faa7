"""The task ``words``: a task that the user describes on the command line, with no package and no file.

``--task-instruction "..." --answer tag:entailment,neutral,contradiction`` is short for ``--task
words:tag:entailment,neutral,contradiction`` with that description.
"""

from __future__ import annotations

import difflib
from typing import cast

from dsrl.answers import FORMS, AnswerFormat
from dsrl.answers.format import Form
from dsrl.errors import SettingsError
from dsrl.plugins.specs import hookimpl

#: The name of the entry point.
NAME = "words"


class WordsTask:
    """A task in words. Its description is ``--task-instruction``; the demonstrations and data come from flags, too.

    Args:
        argument: the form of an answer and perhaps its choices: ``tag:yes,no``, ``hashes``.

    Raises:
        SettingsError: there is no such form, or it needs choices.
    """

    def __init__(self, argument: str = "") -> None:
        form, _, rest = argument.partition(":")
        choices = tuple(choice.strip() for choice in rest.split(",") if choice.strip())
        self._is_bare = not argument
        if self._is_bare:
            form = "tag"  # the bare name can be looked at and checked; a run refuses it
        if form not in FORMS:
            near = difflib.get_close_matches(form, FORMS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the forms are {', '.join(FORMS)}"
            raise SettingsError(
                f"--answer {argument}: there is no form {form!r} of an answer; {hint} Write FORM or FORM:CHOICE,CHOICE, for "
                "example tag:yes,no"
            )
        if form == "choice" and not choices:
            raise SettingsError("--answer choice: this form needs its choices; write for example choice:yes,no")
        folded = [choice.casefold() for choice in choices]
        if twice := [choice for choice in choices if folded.count(choice.casefold()) > 1]:
            raise SettingsError(f"--answer {argument}: the choice {twice[0]!r} is there twice")
        self._answer_format = AnswerFormat(cast(Form, form), choices)

    @hookimpl
    def description(self) -> str:
        if self._is_bare:
            return "A task that the user describes with --task-instruction and --answer."
        # Only asked for if --task-instruction does not take its place.
        raise SettingsError('--answer needs --task-instruction "...": say what the task is')

    @hookimpl
    def answer_format(self) -> AnswerFormat:
        return self._answer_format
