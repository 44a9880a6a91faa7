from dsrl import AnswerFormat, hookimpl


@hookimpl
def description():
    return "Say yes or no."


@hookimpl
def answer_format():
    return AnswerFormat("choice", ("yes", "no"))


@hookimpl
def proces_label(output):
    return output
