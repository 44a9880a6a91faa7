"""The connection to Ray: a cluster that runs already, or a Ray of this machine that ends with the sampler."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

from dsrl import DsrlError, SettingsError
from dsrl_ray.cluster import Node, refuse_closed_port

#: Bytes for objects of a Ray of this machine; prompts and texts are small.
_STORE_BYTES = 256 * 2**20
#: Seconds that a Ray of this machine may take to start.
_START_SECONDS = 300.0


class RaySession:
    """A connection to Ray.

    Args:
        address: the address of a cluster; empty for a Ray of this machine.
        gpus: number of GPUs of this machine, for a Ray of this machine.

    Raises:
        SettingsError: the cluster does not answer, or this process is connected to another one.
        DsrlError: Ray cannot start.
    """

    def __init__(self, address: str, gpus: int) -> None:
        import ray

        self._folder: str | None = None
        self._is_own = not ray.is_initialized()
        if not self._is_own:
            return  # the program that called dsrl has connected
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address:
            refuse_closed_port(address)
            settings["address"] = address
        else:
            # A folder of its own: other programs look into the usual one for a cluster that runs.
            self._folder = tempfile.mkdtemp(prefix="dsrl-ray-", dir=_find_short_folder())
            settings |= {
                "address": "local",
                "include_dashboard": False,
                "object_store_memory": _STORE_BYTES,
                "num_gpus": gpus,
                "_temp_dir": self._folder,
            }
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            with _keep_signals(), contextlib.nullcontext() if address else _be_patient():
                ray.init(**settings)
        except Exception as error:  # also of the type Exception itself
            self._remove_folder()
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            if address:
                raise SettingsError(f"the Ray cluster at {address} cannot be used: {reason}") from error
            raise DsrlError(f"a Ray of this machine cannot start: {reason}") from error

    def list_nodes(self) -> list[Node]:
        """List the nodes that are alive."""
        import ray

        return [
            Node(node["NodeManagerAddress"], node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0))
            for node in ray.nodes()
            if node["Alive"]
        ]

    def close(self) -> None:
        """End the connection; a Ray of this machine ends, too."""
        import ray

        if self._is_own:
            with _keep_signals():
                ray.shutdown()
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def _be_patient() -> Iterator[None]:
    """Let a Ray that this process starts have more than the 30 seconds that Ray has for it, and less to do then.

    A busy machine does not keep them, and Ray has a setting for one of the two places only. Ray leaves out the optional
    parts of its dashboard, which take most of the time, if their packages are not there.
    """
    from ray._private import services, utils

    os.environ.setdefault("RAY_agent_register_timeout_ms", f"{_START_SECONDS * 1000:.0f}")
    get_node, find_error = services.get_node, utils.get_dashboard_dependency_error

    def wait_for_node(*arguments: Any) -> Any:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                return get_node(*arguments)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    services.get_node = wait_for_node
    utils.get_dashboard_dependency_error = lambda: "dsrl needs no dashboard"
    try:
        yield
    finally:
        services.get_node, utils.get_dashboard_dependency_error = get_node, find_error


def _find_short_folder() -> str | None:
    """Return a folder for sockets, whose paths may have 107 characters; None for the usual one."""
    usual = tempfile.gettempdir()
    return "/tmp" if len(usual) > 20 and os.access("/tmp", os.W_OK) else None


@contextlib.contextmanager
def _keep_signals() -> Iterator[None]:
    """Give the signals back that Ray takes: dsrl ends in order on SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
