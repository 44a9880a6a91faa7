from dsrl import hookimpl


@hookimpl
def input_instruction():
    return "Anything."
