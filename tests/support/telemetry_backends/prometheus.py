"""A real Prometheus with otel/prometheus.yaml and its rules, unchanged but for addresses and intervals."""

import contextlib
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests import ROOT
from tests.support.free_ports import free_port
from tests.support.telemetry_backends.running import running

OTEL = ROOT / "otel"
SCRAPE = "1s"  # instead of 15 s, and so is each evaluation


class Prometheus:
    """Where a Prometheus listens, and what its API answers."""

    def __init__(self) -> None:
        self.address = f"127.0.0.1:{free_port()}"

    def series(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression now, each with `metric` and `value`."""
        answer = httpx.get(f"http://{self.address}/api/v1/query", params={"query": expression}, timeout=20).json()
        assert answer["status"] == "success", answer
        return list(answer["data"]["result"])

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {found["metric"]["alertname"] for found in self.series('ALERTS{alertstate="firing"}')}

    def wait_for(self, expression: str, within: float = 20.0) -> list[dict[str, Any]]:
        """Return the series of an expression as soon as there is one; fail after `within` seconds."""
        deadline = time.monotonic() + within
        while not (found := self.series(expression)):
            assert time.monotonic() < deadline, expression
            time.sleep(0.2)
        return found

    def wait_for_alert(self, name: str, *, fires: bool, within: float = 20.0) -> None:
        """Wait until an alert fires, or no longer does."""
        deadline = time.monotonic() + within
        while (name in self.firing()) != fires:
            assert time.monotonic() < deadline, (name, self.firing())
            time.sleep(0.2)


@contextlib.contextmanager
def running_prometheus(
    directory: Path, targets: Mapping[str, Sequence[str]], hold: str | None = None
) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes `targets` (addresses by job); skip the test if there is none on this machine.

    Where `hold` is given, each alert with a `for` fires after that time instead.
    """
    if not (binary := shutil.which("prometheus")):
        pytest.skip("prometheus is not installed; Debian: apt-get install --no-install-recommends prometheus")
    prometheus, configuration = Prometheus(), directory / "prometheus.yaml"
    configuration.write_bytes(_configuration(targets))
    for name in msgspec.yaml.decode(configuration.read_bytes())["rule_files"]:
        (directory / name).write_text(_rules(name, hold))
    command = [
        binary, f"--config.file={configuration}", f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={prometheus.address}", "--enable-feature=exemplar-storage",
    ]  # fmt: skip
    with running(command, directory / "prometheus.log", f"http://{prometheus.address}/-/ready"):
        yield prometheus


def _configuration(targets: Mapping[str, Sequence[str]]) -> bytes:
    """Return otel/prometheus.yaml with these targets in place of its own; a job without any has none."""
    whole = msgspec.yaml.decode((OTEL / "prometheus.yaml").read_bytes())
    whole["global"] |= {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE, "scrape_timeout": SCRAPE}
    for job in whole["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": list(targets.get(job["job_name"], []))}]
    assert set(targets) <= {job["job_name"] for job in whole["scrape_configs"]}
    return msgspec.yaml.encode(whole)


def _rules(name: str, hold: str | None) -> str:
    rules = re.sub(r"(?m)^( +interval:) \w+$", rf"\1 {SCRAPE}", (OTEL / name).read_text())
    return re.sub(r"(?m)^( +for:) \w+$", rf"\1 {hold}", rules) if hold else rules
