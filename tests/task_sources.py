"""Sources of small tasks, for tests that install a task as the module of a stranger."""

YES_NO = """
from dsrl import UNREADABLE, AnswerFormat, hookimpl

@hookimpl
def description():
    return "Say yes or no."

@hookimpl
def answer_format():
    return AnswerFormat("tag", choices=("yes", "no"))
"""
