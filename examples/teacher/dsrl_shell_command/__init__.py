"""The teacher ``shell_command``: every request starts a command, which reads a prompt and writes the reply."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from asyncio.subprocess import DEVNULL, PIPE

from dsrl import Completion, Price, Reply, Request, TeacherError, TransientError, hookimpl


class ShellCommandTeacher:
    """Asks a command. It gets the prompt on its standard input and writes the reply to its standard output.

    The environment variables DSRL_MODEL, DSRL_TEMPERATURE and DSRL_MAX_TOKENS hold the settings of the request.

    Args:
        command: the command, e.g. ``ollama run llama3.2``.
        timeout: seconds until a command is stopped.
    """

    def __init__(self, command: str, timeout: float = 600.0) -> None:
        self._command, self._timeout = shlex.split(command), timeout

    @hookimpl
    def prepare(self) -> None:
        if not self._command or not shutil.which(self._command[0]):
            raise TeacherError(f"the command {self._command} does not exist; correct --teacher-option command=...")

    @hookimpl
    def price(self) -> Price:
        return Price(
            0, 0
        )  # A command costs no money. With another price, `complete` must state the tokens of each call.

    @hookimpl
    def max_n(self) -> int:
        return 1  # One call brings one reply; dsrl calls again for more.

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        settings = {
            "DSRL_MODEL": request.model,
            "DSRL_TEMPERATURE": str(request.temperature),
            "DSRL_MAX_TOKENS": str(request.max_tokens),
        }
        prompt = "\n\n".join(message.content for message in request.messages).encode("utf-8", "replace")
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={**os.environ, **settings}
            )
        except OSError as error:
            raise TeacherError(f"the command {self._command[0]} cannot be started: {error}") from error
        try:
            async with asyncio.timeout(self._timeout):
                output, _ = await process.communicate(prompt)
        except TimeoutError as error:
            raise TransientError(f"the command did not end within {self._timeout} s") from error
        finally:
            if process.returncode is None:  # also if the call was cancelled
                process.kill()
                await process.wait()
        if process.returncode:
            raise TransientError(f"the command ended with exit code {process.returncode}")
        return Completion((Reply(output.decode("utf-8", "replace").strip()),))
