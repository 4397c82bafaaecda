"""Who uses the processor while a server is under load: what a step's profile cannot see."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from llmserve.bench.load import Amount, Load, first_model
from llmserve.bench.target import Target
from llmserve.bench.workload import Workload as Prompts
from measure.speed.intrusion import calibrated
from measure.speed.limits import Workload


@dataclass(slots=True)
class ProcessorUse:
    """Seconds of one core, by who used it, over `wall` seconds of a machine with `cores`."""

    wall: float = 0.0
    cores: int = 1
    tokens: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def as_markdown(self) -> str:
        """Cores in use, share of the machine, and microseconds of a core for each answer token."""
        lines = ["| who | cores | share | µs per token |", "| --- | ---: | ---: | ---: |"]
        idle = self.wall * self.cores - sum(self.seconds.values())
        for name, seconds in {**self.seconds, "nobody": max(0.0, idle)}.items():
            cores = seconds / self.wall
            per_token = 1e6 * seconds / max(1, self.tokens)
            lines.append(f"| {name} | {cores:.2f} | {cores / self.cores:.1%} | {per_token:,.0f} |")
        return "\n".join(lines)


async def use_under_load(url: str, pid: int, work: Workload, rounds: int = 2) -> ProcessorUse:
    """The load comes from this process; threads of the server but for the first of each process
    are the engine's."""
    target = Target.parse(url)
    prompts = Prompts(
        await first_model(target),
        input_tokens=work.input_tokens,
        output_tokens=work.output_tokens,
    )
    prompts = await calibrated(target, prompts)
    amount = Amount(requests=rounds * work.concurrency, concurrency=work.concurrency)
    use = ProcessorUse(cores=len(psutil.Process().cpu_affinity()))
    with _measured(psutil.Process(pid), use):
        collected = await Load(target, prompts, amount).run()
    use.tokens = sum(answer.output_tokens for answer in collected.answers)
    return use


@contextmanager
def _measured(server: psutil.Process, use: ProcessorUse) -> Iterator[None]:
    before, begun = seconds_used(server), time.monotonic()
    yield
    use.wall = time.monotonic() - begun
    # Clocks that tick a hundred times a second may disagree by a tick.
    use.seconds = {
        name: max(0.0, after - before[name]) for name, after in seconds_used(server).items()
    }


def seconds_used(server: psutil.Process) -> dict[str, float]:
    """Seconds of a core so far, by who used them."""
    loops = engine = 0.0
    for process in (server, *server.children(recursive=True)):
        for thread in process.threads():
            used = thread.user_time + thread.system_time
            if thread.id == process.pid:
                loops += used
            else:
                engine += used
    own = psutil.Process().cpu_times()
    client = own.user + own.system
    machine = psutil.cpu_times()
    idle = machine.idle + getattr(machine, "iowait", 0.0)
    # Guests are counted among the others already.
    busy = (
        sum(machine) - idle - getattr(machine, "guest", 0.0) - getattr(machine, "guest_nice", 0.0)
    )
    return {
        "engine's threads": engine,
        "server's event loop": loops,
        "client": client,
        "everything else": busy - engine - loops - client,
    }
