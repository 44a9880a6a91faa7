"""The usual answer formats: find the answer in an output and bring it to canonical form.

Models write the outputs, so they can be any text of any length. The time of every function here is linear in that length,
and none raises an error because of an output.
"""

from dsrl.answers.format import FORMS, AnswerFormat, Form

__all__ = ["FORMS", "AnswerFormat", "Form"]
