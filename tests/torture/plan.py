"""What one random run of the suite is, drawn from its seed."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from random import Random

from torture.provider import ENDLESS, FAULTS

#: Seconds for one call where some calls hang; long against everything else, so that only those run into it.
TIMEOUT = 6.0


@dataclass(frozen=True)
class Disturbance:
    """A signal to one process.

    Attributes:
        signal: of the system.
        requests: it comes when so many requests of the process have arrived; 0: when the command has begun.
        delay: seconds after that.
    """

    signal: signal.Signals
    requests: int
    delay: float


@dataclass(frozen=True)
class Plan:
    """One run of the suite.

    Attributes:
        seed: it makes everything below.
        teacher: plugin and model.
        processes: runs at the same time on one reply store, each with its own name and budget.
        budget: dollars for each run; None: no cap.
        faults, rate, delay: of the provider.
        concurrency, samples, votes, stop_after, run_seed: as the command has them.
        sittings: for each disturbed sitting, the disturbance of each process; None: it is left alone.
    """

    seed: int
    teacher: str
    processes: int
    budget: float | None
    faults: tuple[str, ...]
    rate: float
    delay: float
    concurrency: int
    samples: int
    votes: int
    stop_after: str
    run_seed: int
    sittings: tuple[tuple[Disturbance | None, ...], ...]

    @property
    def timeout(self) -> float | None:
        """Seconds for one call; None: as it comes."""
        return TIMEOUT if ENDLESS & set(self.faults) else None

    @property
    def model(self) -> str:
        """The teacher's model."""
        return self.teacher.partition(":")[2]


def plan_of(seed: int) -> Plan:
    """Draw the run of a seed."""
    random = Random(f"torture {seed}")
    processes = random.choice([1, 1, 1, 1, 1, 1, 2, 2, 2, 3])
    kinds = [name for name in FAULTS if name not in ENDLESS]
    faults = random.sample(kinds, random.choice([1, 2, 3, 5, len(kinds)]))
    if random.random() < 0.15:
        faults += sorted(ENDLESS)
    return Plan(
        seed=seed,
        teacher=random.choice(["openai:gpt-4o"] * 3 + ["anthropic:claude-haiku-4-5"]),
        processes=processes,
        budget=None if random.random() < 0.35 else round(random.uniform(0.02, 0.2), 4),
        faults=tuple(faults),
        rate=random.choice([0.0, 0.05, 0.2, 0.4, 0.4]),
        delay=random.choice([0.002, 0.02, 0.1, 0.3]),
        concurrency=random.choice([1, 4, 16, 64]),
        samples=random.randint(4, 16),
        votes=random.randint(2, 5),
        stop_after="scored" if random.random() < 0.04 else "verified",
        run_seed=random.randrange(1000),
        sittings=tuple(
            tuple(_disturbance(random) for _ in range(processes)) for _ in range(random.choice([1, 1, 2, 2, 3]))
        ),
    )


def _disturbance(random: Random) -> Disturbance | None:
    if random.random() < 0.2:
        return None
    kind = random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    if random.random() < 0.15:
        return Disturbance(kind, 0, random.uniform(0.0, 1.5))
    return Disturbance(kind, random.randint(1, 25), random.random() * 0.05)
