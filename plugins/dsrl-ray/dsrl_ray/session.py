"""The connection to Ray: a cluster that runs already, or a Ray of this machine that ends with the sampler."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import threading
from typing import Any

from dsrl import DsrlError, SettingsError
from dsrl_ray.cluster import Node, refuse_closed_port

log = logging.getLogger(__name__)

#: Bytes for objects of a Ray of this machine; prompts and texts are small.
_STORE_BYTES = 256 * 2**20
#: How often a connection is tried.
_TRIES = 4


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
            with _keep_signals():
                _connect(settings)
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


def _connect(settings: dict[str, Any]) -> None:
    """Connect; again if that fails, because Ray gives a busy machine 30 seconds only."""
    import ray

    for _ in range(_TRIES - 1):
        try:
            ray.init(**settings)
            return
        except Exception as error:  # noqa: BLE001 - Ray raises many types
            log.info("Ray did not start: %s", error)
            ray.shutdown()
    ray.init(**settings)


def _find_short_folder() -> str | None:
    """Return a folder for sockets, whose paths may have 107 characters; None for the usual one."""
    usual = tempfile.gettempdir()
    return "/tmp" if len(usual) > 20 and os.access("/tmp", os.W_OK) else None


@contextlib.contextmanager
def _keep_signals() -> Any:
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
