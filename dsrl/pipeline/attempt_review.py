"""What the attempts of the base model say about the training to come: answers that cannot be read, nothing solved, or all.

It is said after the stages ``attempted`` and ``scored``, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Sequence

from dsrl.errors import DataError
from dsrl.pipeline.labels import describe_unlabelled
from dsrl.pipeline.runtime import OpenRun
from dsrl.storage.run_log import sanitize

#: The user is warned if a larger share of the attempts gave no readable answer.
UNREADABLE_SHARE = 0.8
#: Distinct texts that are looked at for the likely reason, and those that are shown.
_TEXTS, _SHOWN_TEXTS = 200, 2
_LONGEST_TEXT = 160
#: A token of English text has about four characters, and rarely fewer than this. A sampler does not return the numbers of
#: tokens: a text of so many characters for each allowed token was probably cut off, unless it ends like a sentence.
_CHARACTERS_PER_TOKEN = 2.5
_ENDS = (".", "!", "?", ">", ")", "}", "]", '"', "'", "`", "*")


def review_attempts(run: OpenRun, iteration: int) -> None:
    """Warn the user if most answers cannot be read, or if there is nothing to learn.

    Raises:
        DataError: the base model has solved no sample, and this command would train.
    """
    if run.context.includes("attempted"):
        _review_answers(run, iteration)
    if run.context.includes("scored"):
        _review_scores(run, iteration)


def _review_answers(run: OpenRun, iteration: int) -> None:
    store = run.store
    for unreadable, total in (store.count_unreadable_greedy(iteration), store.count_unreadable_attempts(iteration)):
        if total and unreadable / total > UNREADABLE_SHARE:
            texts = store.list_unreadable(iteration, _TEXTS)
            shown = [f"{_quote(text)} ({times} times)" if times > 1 else _quote(text) for text, times in texts]
            examples = f", for example {' and '.join(shown[:_SHOWN_TEXTS])}" if shown else ""
            run.add_warning(
                f"{unreadable} of {total} answers of the base model are empty or cannot be read{examples}. "
                + explain_unreadable(texts, run.settings.max_completion_tokens),
                f"attempted-{iteration}:unreadable",
            )
            return


def explain_unreadable(texts: Sequence[tuple[str, int]], max_tokens: int) -> str:
    """Return the likely reason why answers cannot be read, and what to do.

    Args:
        texts: the answers as (text, times).
        max_tokens: maximum length of an answer in tokens.
    """
    total = sum(times for _, times in texts)
    empty = sum(times for text, times in texts if not text.strip())
    cut = sum(times for text, times in texts if _looks_cut(text, max_tokens))
    if 2 * cut > total:
        return (
            f"They were probably cut off at the limit of {max_tokens} tokens: give a larger --max-completion-tokens (in a "
            "new run)"
        )
    if 2 * empty > total:
        return (
            "An empty answer usually means that the model did not get the chat template that it was trained with: see "
            "--chat-template, or take another --base-model"
        )
    return (
        "The model does not answer in the form that the task asks for: it may not get the chat template that it was trained "
        "with (--chat-template), or it may be too weak (--base-model)"
    )


def _looks_cut(text: str, max_tokens: int) -> bool:
    return len(text) >= _CHARACTERS_PER_TOKEN * max_tokens and not text.rstrip().endswith(_ENDS)


def _quote(text: str) -> str:
    cut = text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
    return repr(" ".join(sanitize(cut).split()))


def _review_scores(run: OpenRun, iteration: int) -> None:
    scores, settings = run.store.scores(iteration).values(), run.settings
    if not scores or run.store.stages.get_state(iteration, "selected") != "pending":
        return
    attempts = max(score.attempts for score in scores)
    if not any(score.passed for score in scores):
        text = f"no sample was solved in {attempts} attempts: take another --base-model; --force goes on"
        if unlabelled := describe_unlabelled(run.store.count_samples(iteration)):
            text += (
                f". And {unlabelled}: the teacher may be too weak, or its replies are cut off (--teacher-max-tokens)"
            )
        if run.context.includes("selected") and not settings.force:
            raise DataError(f"{text}. The replies of the teacher are stored, and a new run does not pay for them again")
        run.add_warning(text, f"scored-{iteration}:unsolved")
    elif all(score.passed == score.attempts for score in scores):
        run.add_warning(
            f"all {len(scores)} samples were solved in each of {attempts} attempts, so the training can learn "
            "nothing from them: ask for harder samples (--task-instruction), or take a smaller --base-model",
            f"scored-{iteration}:solved",
        )
