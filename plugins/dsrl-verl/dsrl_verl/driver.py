"""The process that runs verl's own ``main_ppo``: ``python -m dsrl_verl.driver KEY=VALUE ..``.

It ends when the process that has started it ends, also by a kill: then its standard input is closed. Otherwise a training
that nobody reads would go on, and write into the checkpoints of the next one. The processes of a local Ray end with it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from importlib import import_module
from importlib.util import find_spec

from dsrl_ray.connection import leave_out_dashboard

from dsrl_verl.process import MARK, end_processes


def watch_parent(descriptor: int = 0) -> None:
    """Wait in a thread for the end of a file, and then end this process with the processes of its group."""

    def wait() -> None:
        while os.read(descriptor, 1024):
            pass
        if mark := os.environ.get(MARK):
            end_processes(mark)
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=wait, name="dsrl-parent", daemon=True).start()


def main() -> None:
    """Run verl with the arguments of this process."""
    # Ray's children must not hold the pipe of the parent open, nor read from it.
    pipe = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    watch_parent(pipe)
    if MARK in os.environ and find_spec("ray") is not None:  # a local Ray; verl says it if there is none
        leave_out_dashboard()
    # By name: in verl's workers, a class of the module __main__ would be pickled as a whole.
    import_module("verl.trainer.main_ppo").main()


if __name__ == "__main__":
    sys.argv[0] = "dsrl_verl.driver"
    main()
