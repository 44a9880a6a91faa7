"""Pattern: the teacher summarises the common form of the demonstrations (paper 4.1, Table 1)."""

from __future__ import annotations

from collections.abc import Sequence

from dsrl.errors import RowRefused, TeacherError
from dsrl.pipeline import signals
from dsrl.pipeline.concurrency import run_together
from dsrl.pipeline.instructor import Definition, Instructor, format_example
from dsrl.pipeline.prompts import render
from dsrl.pipeline.runtime import OpenRun

#: Demonstrations that the prompt shows (as in the original).
MAX_DEMOS = 50


def find_pattern(run: OpenRun, iteration: int) -> None:
    """Store the pattern of the demonstrations of each task, and of each domain that has demonstrations of its own."""
    if run.store.stages.is_finished(iteration, "pattern"):
        return
    tasks = run.context.tasks
    places = [(key, domain) for key, task in tasks.items() for domain in task.list_pattern_domains()]
    patterns = dict.fromkeys(((key, "") for key in tasks), "")  # a task without demonstrations has no pattern
    with run.clock.measure("pattern"):
        if places:
            patterns |= signals.run(_ask_patterns(run, places))
    run.store.add_patterns(iteration, patterns)


async def _ask_patterns(run: OpenRun, places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Ask for the patterns of (task, domain); the domain is empty for a whole task."""
    async with run.open_instructors() as instructors:
        definitions = [run.context.tasks[key].get_definition(domain) for key, domain in places]
        texts = await run_together(
            summarise_pattern(instructors[key], definition)
            for (key, _), definition in zip(places, definitions, strict=True)
        )
    return dict(zip(places, texts, strict=True))


async def summarise_pattern(instructor: Instructor, definition: Definition) -> str:
    """Ask the teacher for the pattern. Without demonstrations it is empty, and the teacher is not asked.

    Raises:
        TeacherError: the teacher refuses the request, or cannot continue.
    """
    if not definition.demos:
        return ""
    examples = "\n".join(format_example(demo) for demo in definition.demos[:MAX_DEMOS])
    messages = render("pattern", **definition.get_instructions(), examples=examples)
    try:
        (reply,) = await instructor.ask("pattern", messages, {"examples": examples})
    except RowRefused as refused:
        raise TeacherError(
            f"the teacher refuses to summarise the pattern of the demonstrations ({refused}); choose other "
            "demonstrations with --demos, or another --teacher"
        ) from refused
    return reply.text.strip()
