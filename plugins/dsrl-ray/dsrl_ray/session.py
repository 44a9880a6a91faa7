"""The connection to Ray: a cluster that runs already, or a Ray of this machine that ends with the sampler."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any

from dsrl import DsrlError, SettingsError
from dsrl_ray.cluster import Node
from dsrl_ray.connection import STARTS, choose_token, leave_out_dashboard, refuse_closed_port

log = logging.getLogger(__name__)

#: Bytes for objects of a Ray of this machine; prompts and texts are small.
_STORE_BYTES = 256 * 2**20
#: Seconds that a Ray of this machine may take to start.
_START_SECONDS = 300.0
_QUIET = {"log_to_driver": False, "logging_level": "ERROR"}
_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_agent_register_timeout_ms": f"{_START_SECONDS * 1000:.0f}",
}


class RaySession:
    """A connection to Ray.

    A program that has connected to Ray before it calls dsrl keeps its connection, and dsrl uses it.

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
        self._end = threading.Event()
        self._variables: dict[str, str | None] = {}
        self._is_own = not ray.is_initialized()
        if not self._is_own:
            _refuse_other_cluster(address, ray.get_runtime_context().gcs_address)
            return
        if address:
            refuse_closed_port(address)
        variables = {**_VARIABLES, **choose_token(address)}
        self._set_variables({name: value for name, value in variables.items() if name not in os.environ})
        try:
            with _keep_signals():
                if address:
                    ray.init(address=address, **_QUIET)
                else:
                    self._start_in_thread(gpus)
        except Exception as error:  # also of the type Exception itself
            self.close()
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            if address:
                raise SettingsError(f"the Ray cluster at {address} cannot be used: {reason}") from error
            raise DsrlError(f"a Ray of this machine cannot start: {reason}") from error

    def _start_in_thread(self, gpus: int) -> None:
        """Start a Ray of this machine in a thread that lives until the end of the session.

        The kernel ends Ray's processes with the thread that has started them, and the threads of an event loop end with it.
        """
        outcome: Future[None] = Future()

        def work() -> None:
            try:
                self._start(gpus)
            except BaseException as error:  # noqa: BLE001 - it is raised in the thread of the caller
                outcome.set_exception(error)
            else:
                outcome.set_result(None)
                self._end.wait()

        threading.Thread(target=work, name="dsrl-ray", daemon=True).start()
        outcome.result()

    def _start(self, gpus: int) -> None:
        """Start a Ray of this machine, more than once if it does not come up: a busy machine is too slow for its limits."""
        import ray

        for remaining in reversed(range(STARTS)):
            # A folder of its own: other programs look into the usual one for a cluster that runs.
            self._folder = tempfile.mkdtemp(prefix="dsrl-ray-", dir=_find_short_folder())
            try:
                with _be_patient():
                    ray.init(
                        address="local",
                        include_dashboard=False,
                        object_store_memory=_STORE_BYTES,
                        num_gpus=gpus,
                        _temp_dir=self._folder,
                        **_QUIET,
                    )
                return
            except Exception as error:
                ray.shutdown()  # what has started
                shutil.rmtree(self._folder, ignore_errors=True)
                if not remaining:
                    raise
                log.warning("Ray did not start on this machine, and is started again (%s).", str(error).strip()[:200])

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
            self._set_variables(self._variables)
        self._end.set()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _set_variables(self, values: Mapping[str, str | None]) -> None:
        """Set variables of this process, which Ray's processes inherit, and note what they were; None: not set."""
        self._variables = {name: os.environ.get(name) for name in values}
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        # Ray keeps what it has read once; versions without tokens have nothing to forget.
        with contextlib.suppress(ImportError, AttributeError):
            from ray._raylet import AuthenticationTokenLoader, Config

            Config.initialize("")
            AuthenticationTokenLoader.instance().reset_cache()


def _refuse_other_cluster(asked: str, connected: str) -> None:
    """Refuse an address if this process is connected to another cluster.

    Args:
        asked: the address of the user; empty or ``auto`` for any.
        connected: ``HOST:PORT`` of the cluster.

    Raises:
        SettingsError: names both.
    """
    if asked in ("", "auto") or asked == connected:
        return
    host, _, port = asked.rpartition(":")
    own_host, _, own_port = connected.rpartition(":")
    with contextlib.suppress(OSError):
        hosts = {socket.gethostbyname(name.strip("[]")) for name in (host, own_host)}
        if port == own_port and (len(hosts) == 1 or all(map(_is_of_this_machine, hosts))):
            return
    raise SettingsError(
        f"this process is connected to the Ray cluster at {connected} already, and cannot join the one at {asked}; call "
        "ray.shutdown() before, or leave out the option ray_address to use the connection"
    )


def _is_of_this_machine(host: str) -> bool:
    with contextlib.suppress(OSError), socket.socket() as one:
        one.bind((host, 0))  # possible with one's own addresses only
        return True
    return False


@contextlib.contextmanager
def _be_patient() -> Iterator[None]:
    """Let a Ray that this process starts have more than the 30 seconds that Ray has for it, and less to do then.

    A busy machine does not keep them, and Ray has a setting for one of the two places only (``_VARIABLES``).
    """
    from ray._private import services, utils

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
    leave_out_dashboard()
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
