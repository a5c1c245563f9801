"""`python -m tests.support.telemetry_backends`: build the Jaeger and the Collector that tests start. Needs Go 1.26.

Both come from Go modules alone, without a container. The first build takes about 15 minutes on two cores.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.telemetry_backends import cache

JAEGER = "v1.76.0"  # Jaeger v2's program under v1's tag: later versions of the module cannot be asked for by `go get`
CORE, STABLE = "v0.161.0", "v1.67.0"  # the Collector's parts, and those of them that are stable: they belong together
CONTRIB = "github.com/open-telemetry/opentelemetry-collector-contrib"
COLLECTOR = "go.opentelemetry.io/collector"
PROGRAM = "github.com/jaegertracing/jaeger/cmd/jaeger"
MAIN = Path(__file__).with_name("otelcol.go")
STABLE_PARTS = ("component", "confmap", "confmap/provider/envprovider", "confmap/provider/fileprovider",
                "confmap/provider/yamlprovider")  # fmt: skip
CORE_PARTS = ("otelcol", "service", "receiver/otlpreceiver", "exporter/otlpexporter", "exporter/otlphttpexporter",
              "exporter/debugexporter", "processor/batchprocessor", "processor/memorylimiterprocessor")  # fmt: skip
CONTRIB_PARTS = ("processor/tailsamplingprocessor", "processor/filterprocessor", "extension/healthcheckextension",
                 "exporter/prometheusexporter")  # fmt: skip


def main() -> int:
    """Build what is not built yet, and print where both are."""
    if not shutil.which("go"):
        print("There is no `go`: install Go 1.26 or later from https://go.dev/dl/", file=sys.stderr)
        return 1
    try:
        for name, build in (("jaeger", build_jaeger), ("otelcol", build_collector)):
            if not (cache() / name).exists():
                print(f"Building {name}", flush=True)
                build(cache() / name)
            print(cache() / name)
    except subprocess.CalledProcessError as failed:
        print(f"`{' '.join(map(str, failed.cmd))}` failed; what it wrote is above", file=sys.stderr)
        return 1
    return 0


def build_jaeger(to: Path) -> None:
    """Build Jaeger in a module of its own: `go install` refuses a module whose go.mod has `replace`."""
    source = _module("jaeger")
    _go(source, "get", "-tool", f"{PROGRAM}@{JAEGER}")
    _build(source, PROGRAM, to)


def build_collector(to: Path) -> None:
    """Build a Collector with the parts that otel/collector.yaml names."""
    source = _module("otelcol")
    shutil.copy(MAIN, source / "main.go")
    wanted = [f"{COLLECTOR}/{part}@{STABLE}" for part in STABLE_PARTS]
    wanted += [f"{COLLECTOR}/{part}@{CORE}" for part in CORE_PARTS]
    wanted += [f"{CONTRIB}/{part}@{CORE}" for part in CONTRIB_PARTS]
    _go(source, "get", *wanted)
    _go(source, "mod", "tidy")
    _build(source, ".", to)


def _module(name: str) -> Path:
    source = cache() / f"{name}-source"
    source.mkdir(parents=True, exist_ok=True)
    if not (source / "go.mod").exists():
        _go(source, "mod", "init", f"local.example/{name}")
    return source


def _build(source: Path, package: str, to: Path) -> None:
    """Build under another name first: a build that was cut short must not look like a program."""
    unfinished = to.with_name(f"{to.name}.unfinished")
    _go(source, "build", "-p", "2", "-trimpath", "-ldflags=-s -w", "-o", str(unfinished), package)
    unfinished.replace(to)


def _go(directory: Path, *arguments: str) -> None:
    subprocess.run(["go", *arguments], cwd=directory, env={**os.environ, "CGO_ENABLED": "0"}, check=True)


if __name__ == "__main__":
    sys.exit(main())
