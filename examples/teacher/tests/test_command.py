import asyncio
import shlex
import sys

import pytest
from dsrl_command import CommandTeacher

from dsrl import Message, Request, TeacherError, TransientError
from dsrl.testing import TeacherContract

REQUEST = Request("solve", "m", (Message("user", "What is 1 + 1?"),), 0.7, 64)


def run_python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


class TestCommand(TeacherContract):
    plugin = "command"
    options = {"command": run_python("import sys; print(sys.stdin.read().upper())")}  # noqa: RUF012 - it is read only


def test_the_command_gets_the_prompt_and_the_settings() -> None:
    teacher = CommandTeacher(run_python("import os; print(input(), os.environ['DSRL_MODEL'])"))
    assert asyncio.run(teacher.complete(REQUEST)).replies[0].text == "What is 1 + 1? m"


def test_faults() -> None:
    with pytest.raises(TransientError, match="exit code 3"):
        asyncio.run(CommandTeacher(run_python("exit(3)")).complete(REQUEST))
    with pytest.raises(TransientError, match="did not end"):
        asyncio.run(CommandTeacher(run_python("import time; time.sleep(60)"), timeout=0.5).complete(REQUEST))
    with pytest.raises(TeacherError, match="does not exist"):
        CommandTeacher("no-such-command").prepare()
