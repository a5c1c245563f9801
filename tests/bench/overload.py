"""`python -m tests.bench.overload`: what happens in a minute of three times the load that the server can take?

First it measures what server and worker take together, then offers a multiple of that in an open loop, over many
connections from several processes: a latency counts from the moment at which a webhook was due. At the end it looks
for every ticket that was answered 202 in `ticket_history`. Two minutes.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests import ROOT
from tests.bench import workbench
from tests.bench.workbench import Rig
from tests.support.system import Server, Tenant

PENDING = "SELECT count(*) FROM inbox WHERE status = 'pending'"


def main() -> None:
    """Run the overload and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--times", type=float, default=3, help="of what the server takes")
    parser.add_argument("--rate", type=float, default=0, help="webhooks a second that it takes; 0 finds out")
    parser.add_argument("--connections", type=int, default=500, help="of each process that sends")
    parser.add_argument("--senders", type=int, default=2, help="processes that send")
    parser.add_argument("--quiet", type=float, default=0, help="webhooks a second of a second, quiet tenant beside it")
    given = parser.parse_args()
    with workbench.rig() as rig, tempfile.TemporaryDirectory() as directory:
        print(workbench.machine(rig.database))
        overloaded(rig, given, Path(directory))


def overloaded(rig: Rig, given: argparse.Namespace, directory: Path) -> None:
    """Offer the load, and print the figures."""
    quiet = rig.add_tenant("quiet")
    with rig.server() as server, rig.worker():
        server.wait_until_known(quiet)
        takes = given.rate or workbench.load(server, rig.tenant, 5)["per_second"]
        rig.database.wait_for(PENDING, 0, within=120)
        before = workbench.memory_mb(server.process.pid)
        rate = takes * given.times
        print(f"takes {takes:,.0f}/s; offered {rate:,.0f}/s for {given.seconds:.0f} s", flush=True)
        senders = [
            Sender(server, rig.tenant, directory / str(number), given.seconds, rate / given.senders, given.connections)
            for number in range(given.senders)
        ]
        if given.quiet:
            one = Sender(server, quiet, directory / "quiet", given.seconds, given.quiet, given.connections)
            print("the quiet tenant:", *summary([one]), sep="\n  ")
        print("those beyond:", *summary(senders), sep="\n  ")
        print(f"a statement took {statement_ms(server):.0f} ms on average")
        after = workbench.memory_mb(server.process.pid)
        peak = workbench.peak_mb(server.process.pid)
        print(f"server's memory before, at its highest, after: {before:.0f}, {peak:.0f}, {after:.0f} MB")
        began = time.perf_counter()
        rig.database.wait_for(PENDING, 0, within=600)
        print(f"all of the inbox promoted {time.perf_counter() - began:.0f} s later")
    stored = {row["ticket_id"] for row in rig.database.query("SELECT ticket_id FROM ticket_history")}
    accepted = {one for path in directory.iterdir() for one in path.read_text().split()}
    print(f"answered 202: {len(accepted):,}, of them not stored: {len(accepted - stored)}")


def statement_ms(server: Server) -> float:
    """Return the average time of an appending statement, by the server's own metric."""
    found = re.findall(r"^db_client_operation_duration_seconds_(sum|count){.*} (.*)$", server.client.get("/metrics").text, re.MULTILINE)  # fmt: skip
    of = {name: sum(float(value) for this, value in found if this == name) for name in ("sum", "count")}
    return of["sum"] / of["count"] * 1000


class Sender:
    """A process that sends webhooks."""

    def __init__(
        self, server: Server, tenant: Tenant, accepted: Path, seconds: float, rate: float, connections: int
    ) -> None:
        arguments = [
            f"--port={urlsplit(server.url).port}", f"--tenant={tenant.id}", f"--secret={tenant.secret}", f"--seconds={seconds}",
            f"--rate={rate}", f"--connections={connections}", f"--accepted={accepted}",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.load", *arguments], cwd=ROOT, stdout=subprocess.PIPE
        )

    def found(self) -> dict[str, Any]:
        """Wait until it ends, and return its figures."""
        output, _ = self._process.communicate()
        found: dict[str, Any] = json.loads(output)
        return found


def summary(senders: list[Sender]) -> list[str]:
    """Return lines with the figures of several processes; of their percentiles, the worst."""
    found = [sender.found() for sender in senders]
    answers = sum((Counter(one["answers"]) for one in found), Counter[str]())
    seconds = max(one["seconds"] for one in found)
    lines = [f"{sum(answers.values()) / seconds:,.0f}/s in {seconds:.0f} s, senders busy {[round(one['busy'], 2) for one in found]}"]  # fmt: skip
    for answer, count in sorted(answers.items()):
        seen = [one["by_answer"][answer] for one in found if answer in one["by_answer"]]
        worst = [max((one[name] for one in seen), default=0) for name in ("p50_ms", "p99_ms", "longest_ms")]
        lines.append(f"{answer}: {count:,} ({count / seconds:,.0f}/s), {worst[0]:.0f} / {worst[1]:.0f} / {worst[2]:.0f} ms (median / p99 / longest)")  # fmt: skip
    return lines


if __name__ == "__main__":
    main()
