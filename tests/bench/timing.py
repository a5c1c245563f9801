"""`python -m tests.bench.timing`: does the time of a 401 show whether a tenant exists, or how wrong a signature is?

It sends requests of all kinds in random order to a real server, over one connection, so that other load on the
machine affects all alike. `the same again` is the reference a second time: its difference is the method's error.
Prints for each kind the difference of its median to the reference's with a bootstrap confidence interval of 95 %, and
Mann-Whitney's test of whether one tends to take longer: the chance that it does (0.5 means no difference), and p.
"""

import argparse
import http.client
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

from app.event import flat
from app.webhook import PATH, signature
from tests.bench import workbench
from tests.support.system import JSON, Database, Server, Tenant

REFERENCE = "unknown tenant"
RESAMPLES = 400
WARM_UP = 200  # rounds that do not count


def kinds(database: Database, tenant: Tenant) -> dict[str, tuple[bytes, dict[str, str]]]:
    """Return the requests, all of one length."""
    for name in ("twos", "gone"):
        database.query(
            "INSERT INTO tenant_configs (tenant_id, secret, enabled) SELECT %s, secret, %s FROM tenant_configs WHERE tenant_id = %s",
            name, name != "gone", tenant.id,
        )  # fmt: skip
    database.query(
        "UPDATE tenant_configs SET previous_secret = secret, previous_secret_ends_at = now() + %s WHERE tenant_id = 'twos'",
        timedelta(hours=1),
    )
    right = tenant.headers(body(tenant.id))[signature.HEADER]
    wrong = {name: {**JSON, signature.HEADER: "sha256=" + "0" * 64} for name in ("none", tenant.id, "twos", "gone")}
    almost = right[:-1] + ("0" if right[-1] != "0" else "1")
    return {
        REFERENCE: (body("none"), wrong["none"]),
        "the same again": (body("none"), wrong["none"]),
        "right tenant, wrong signature": (body(tenant.id), wrong[tenant.id]),
        "right tenant, all but its last digit": (body(tenant.id), {**JSON, signature.HEADER: almost}),
        "tenant with two secrets": (body("twos"), wrong["twos"]),
        "disabled tenant": (body("gone"), wrong["gone"]),
    }


def body(tenant_id: str) -> bytes:
    whole = {**flat.EXAMPLE, "tenant_id": tenant_id, "ticket_id": "timing", "description": "x" * 1000}
    return json.dumps(whole).encode()


def measured(server: Server, requests: dict[str, tuple[bytes, dict[str, str]]], rounds: int) -> dict[str, list[float]]:
    """Return the microseconds that each answer took, by kind."""
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port or 0, timeout=30)
    taken: dict[str, list[float]] = {kind: [] for kind in requests}
    for number in range(WARM_UP + rounds):
        for kind in random.sample(list(requests), len(requests)):
            content, headers = requests[kind]
            began = time.perf_counter_ns()
            connection.request("POST", PATH, content, headers)
            answer = connection.getresponse()
            answer.read()
            if number >= WARM_UP:
                taken[kind].append((time.perf_counter_ns() - began) / 1000)
            assert answer.status == http.client.UNAUTHORIZED, (kind, answer.status)
    connection.close()
    return taken


def interval(one: list[float], other: list[float]) -> tuple[float, float]:
    """Return the 95 % confidence interval of the difference of two medians, by bootstrap."""
    found = sorted(
        statistics.median(random.choices(one, k=len(one))) - statistics.median(random.choices(other, k=len(other)))
        for _ in range(RESAMPLES)
    )
    return found[int(RESAMPLES * 0.025)], found[int(RESAMPLES * 0.975)]


def mann_whitney(one: list[float], other: list[float]) -> tuple[float, float]:
    """Return the chance that a value of `one` is above one of `other`, and the two-sided p (normal, ties in order)."""
    ranked = sorted([(value, True) for value in one] + [(value, False) for value in other])
    ranks = sum(rank for rank, (_, is_of_one) in enumerate(ranked, 1) if is_of_one)
    pairs = len(one) * len(other)
    wins = ranks - len(one) * (len(one) + 1) / 2
    deviation = math.sqrt(pairs * (len(one) + len(other) + 1) / 12)
    return wins / pairs, math.erfc(abs(wins - pairs / 2) / deviation / math.sqrt(2))


def lines(taken: dict[str, list[float]]) -> Iterator[str]:
    reference = taken[REFERENCE]
    yield f"{REFERENCE}: median {statistics.median(reference):.1f} µs, {len(reference):,} of each kind\n"
    yield f"{'kind':38}{'median differs by':>20}{'95 % interval':>22}{'chance':>9}{'p':>8}"
    for kind, times in taken.items():
        if kind != REFERENCE:
            differs = statistics.median(times) - statistics.median(reference)
            low, high = interval(times, reference)
            chance, p = mann_whitney(times, reference)
            between = f"{low:+.2f} to {high:+.2f} µs"
            yield f"{kind:38}{differs:>+17.2f} µs{between:>22}{chance:>9.3f}{p:>8.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4000)
    given = parser.parse_args()
    with workbench.rig() as rig:
        requests = kinds(rig.database, rig.tenant)
        with rig.server() as server:
            taken = measured(server, requests, given.rounds)
        sys.stdout.write(f"{workbench.machine(rig.database)}\n\n")
    sys.stdout.write("\n".join(lines(taken)) + "\n")


if __name__ == "__main__":
    main()
