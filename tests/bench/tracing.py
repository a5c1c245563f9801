"""`python -m tests.bench.tracing`: what does telemetry cost, and what does an exporter cost that cannot be reached?

The variants run interleaved, once a round; every figure is the median over the rounds of the ratio to the same round
without any exporter. About ten minutes; `--rounds` and `--seconds` make it shorter.
"""

import argparse
import contextlib
import socket
import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from tests.bench import workbench
from tests.bench.workbench import Rig
from tests.support.system import Server

One = TypeVar("One")
OFF: dict[str, str] = {}


def main() -> None:
    """Print a line for each variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6)
    given = parser.parse_args()
    with workbench.rig() as rig, variants() as known:
        print(workbench.machine(rig.database))
        with contextlib.ExitStack() as stack:
            servers = {name: stack.enter_context(rig.server(1, **settings)) for name, settings in known.items()}
            compare(
                "accepted/s",
                servers,
                given.rounds,
                lambda server: workbench.load(server, rig.tenant, given.seconds)["per_second"],
            )
        stored = {name: known[name] for name in ("off", "1 %", "10 %", "all")}
        compare("stored/s", stored, given.rounds, lambda settings: store(rig, settings, given.seconds))
        for name in ("off", "all", "all, nobody listens"):
            with rig.server(1, **known[name]) as server:
                print(f"memory of a server, 60 s at full load, {name}: {memory(rig, server)}")


@contextlib.contextmanager
def variants() -> Iterator[dict[str, dict[str, str]]]:
    """Yield the settings of each variant."""
    share = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
    with (
        workbench.sink() as sink, workbench.sink(500) as lying, socket.create_server(("127.0.0.1", 0)) as silent,
        socket.create_server(("127.0.0.1", 0)) as closed,
    ):  # fmt: skip
        nobody = to(f"http://127.0.0.1:{closed.getsockname()[1]}")
        closed.close()
        yield {
            "off": OFF,
            "1 %": to(sink) | share | {"OTEL_TRACES_SAMPLER_ARG": "0.01"},
            # The share that the Collector keeps, decided in our process.
            "10 %": to(sink) | share | {"OTEL_TRACES_SAMPLER_ARG": "0.1"},
            "all": to(sink),
            "all, nobody listens": nobody,
            "all, accepts and never answers": to(f"http://127.0.0.1:{silent.getsockname()[1]}"),
            "all, answers 500": to(lying),
        }


def to(endpoint: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}


def compare(what: str, given: Mapping[str, One], rounds: int, measure: Callable[[One], float]) -> None:
    """Measure each variant in turn, `rounds` times, and print medians and ratios to `off`."""
    found: dict[str, list[float]] = {name: [] for name in given}
    for _ in range(rounds):
        for name, one in given.items():
            found[name].append(measure(one))
    for name, values in found.items():
        ratios = [value / off for value, off in zip(values, found["off"], strict=True)]
        print(f"{what:10} {name:32} {statistics.median(values):8,.0f}   {statistics.median(ratios):.2f} "
              f"({min(ratios):.2f} to {max(ratios):.2f})", flush=True)  # fmt: skip


def store(rig: Rig, settings: dict[str, str], seconds: float) -> float:
    """Return the webhooks a second that were received and stored, from full load until all are stored."""
    workbench.empty(rig.database)
    with rig.server(1, **settings) as server, rig.worker(**settings):
        return workbench.received_and_stored(rig, server, seconds)


def memory(rig: Rig, server: Server) -> str:
    """Return as text a server's memory after each twelve seconds of full load."""
    found = []
    for _ in range(5):
        workbench.load(server, rig.tenant, 12)
        found.append(f"{workbench.memory_mb(server.process.pid):.0f}")
    return f"{', '.join(found)} MB"


if __name__ == "__main__":
    main()
