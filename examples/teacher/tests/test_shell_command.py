import asyncio
import shlex
import sys

import pytest
from dsrl import Message, Request, TeacherError, TransientError
from dsrl.testing import TeacherContract

from dsrl_shell_command import ShellCommandTeacher

REQUEST = Request("solve", "m", (Message("user", "What is 1 + 1?"),), 0.7, 64)


def run_python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def ask(teacher: ShellCommandTeacher) -> str:
    return asyncio.run(teacher.complete(REQUEST)).replies[0].text


class TestShellCommand(TeacherContract):
    plugin = "shell_command"
    options = {"command": run_python("import sys; print(sys.stdin.read().upper())")}  # noqa: RUF012 - it is read only


def test_the_command_gets_the_prompt_and_the_settings() -> None:
    code = "import os; print(input(), os.environ['DSRL_MODEL'])"
    assert ask(ShellCommandTeacher(run_python(code))) == "What is 1 + 1? m"


def test_faults() -> None:
    slow = run_python("import time; time.sleep(60)")
    with pytest.raises(TransientError, match="exit code 3"):
        ask(ShellCommandTeacher(run_python("exit(3)")))
    with pytest.raises(TransientError, match="did not end"):
        ask(ShellCommandTeacher(slow, timeout=0.5))
    with pytest.raises(TeacherError, match="does not exist"):
        ShellCommandTeacher("no-such-command").prepare()
