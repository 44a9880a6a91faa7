from dsrl import AnswerFormat, hookimpl


@hookimpl
def description():
    return "Another MedNLI."


@hookimpl
def answer_format():
    return AnswerFormat("choice", ("yes", "no"))
