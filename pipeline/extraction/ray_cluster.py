"""The Ray cluster of an extraction: connecting to it, its workers, and how many of them it has room for."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .accounts import ExtractionError
from .leases import Lease
from .ray_worker import LoadedEncoder
from .settings import RaySettings

STARTS = 3
"""How often it is tried to start a Ray of this machine: where others take the processors, it gives itself up after half a
minute, and no setting gives it more."""
Started = TypeVar("Started")
_OBJECT_STORE_BYTES = 100 << 20
"""Of a Ray of this machine alone: no pixels pass through it."""


@contextlib.contextmanager
def connection(cluster: RaySettings) -> Iterator[Any]:
    """Yield the module `ray`, connected; what this call has connected it ends. Raises ExtractionError."""
    os.environ.setdefault(
        "RAY_USAGE_STATS_ENABLED", "0"
    )  # nothing is reported to Ray's makers, unless the user wants it
    # Announces behavior of a version to come, which num_gpus=0 would meet; workers without GPU compute on "cpu" anyway.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise ExtractionError(
            "Ray is not installed: pip install 'vidclip[ray]', on every machine of the cluster."
        ) from None
    if ray.is_initialized():
        yield ray
        return
    own = cluster.address is None and not os.environ.get("RAY_ADDRESS")
    if own:  # on a machine that is busy, Ray gives itself up after half a minute
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "300")
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if main else None
    try:
        start_patiently(
            ray,
            lambda: ray.init(
                address=None if own else cluster.address,
                include_dashboard=False if own else None,
                object_store_memory=_OBJECT_STORE_BYTES if own else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            ),
            tries=STARTS if own else 1,
        )
    except Exception as error:  # it has no class of its own for this
        where = "" if own else f" at {cluster.address or os.environ['RAY_ADDRESS']}"
        reason = str(error).strip().partition("\n")[0]
        raise ExtractionError(f"Ray{where} cannot be reached or started: {reason}") from error
    finally:
        if main:  # Ray puts its own in the place of it
            signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is None else handler)
    try:
        yield ray
    finally:
        ray.shutdown()


def start_patiently(ray: Any, start: Callable[[], Started], *, tries: int = STARTS) -> Started:
    """Return what `start` returns, which starts a Ray; where it raises, end what it has started and try again. Raises what the
    last try does."""
    for _ in range(tries - 1):
        try:
            return start()
        except Exception:  # it has no class of its own for this
            ray.shutdown()
    try:
        return start()
    except Exception:
        ray.shutdown()
        raise


def wanted_workers(ray: Any, cluster: RaySettings) -> int:
    """Return how many workers there are to be: those asked for, or as many as the machines of now have room for."""
    if cluster.max_workers is not None:
        return cluster.max_workers
    return sum(_room(node["Resources"], cluster) for node in ray.nodes() if node["Alive"])


def no_room(ray: Any, cluster: RaySettings) -> ExtractionError:
    """Return the error that no machine has room for a worker."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    largest = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)), default={})
    gpus, cpus = int(largest.get("GPU", 0)), int(largest.get("CPU", 0))
    return ExtractionError(
        f"no machine of the cluster has room for a worker with {cluster.gpus_per_worker:g} GPUs and "
        f"{cluster.cpus_per_worker} CPUs: the largest of {len(nodes)} has {gpus} and {cpus}. Use --gpus-per-worker "
        f"{min(gpus, 1)} --cpus-per-worker {max(1, cpus // max(1, gpus))}; or, where machines are still to come, say with "
        "--max-workers how many workers to wait for."
    )


def _room(resources: dict[str, float], cluster: RaySettings) -> int:
    by_cpu = int(resources.get("CPU", 0) // cluster.cpus_per_worker)
    if not cluster.gpus_per_worker:
        return by_cpu
    # Parts of a GPU are not joined across GPUs.
    gpus = resources.get("GPU", 0)
    share = cluster.gpus_per_worker
    by_gpu = int(gpus) * int(1 / share + 1e-9) if share < 1 else int(gpus // share)
    return min(by_cpu, by_gpu)


@dataclass(eq=False)
class Member:
    """A worker and what it has been asked for."""

    actor: Any
    answer: Any
    """Ray's reference to what it answers to `load` or `begin`; None afterwards."""
    encoder: LoadedEncoder | None = None
    ready: bool = False
    """Whether it takes leases."""
    leases: deque[tuple[Lease, Any]] = field(default_factory=deque)
    """What it has been given, in this order, with Ray's references to the results."""
