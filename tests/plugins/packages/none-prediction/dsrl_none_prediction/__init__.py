"""As the original project's parsers: no answer is None."""

from dsrl import hookimpl


@hookimpl
def description():
    return "Count."


@hookimpl
def output_instruction():
    return "Answer with digits."


@hookimpl
def process_prediction(output):
    return output if output.isdigit() else None
