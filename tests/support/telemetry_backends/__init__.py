"""A real Jaeger and a real OpenTelemetry Collector: where are they, and how do tests start them?

`JAEGER_BIN` and `OTELCOL_BIN` name the two programs. Without them they are in the cache folder, where
`python -m tests.support.telemetry_backends` builds them; without either, a test that needs one is skipped.
"""

import os
import shutil
from pathlib import Path

import pytest

BUILD = "uv run python -m tests.support.telemetry_backends"


def cache() -> Path:
    """Return the folder that the two programs are built in."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ticket-inbox" / "telemetry"


def program(variable: str, name: str) -> Path:
    """Return the program that `variable` names, or that was built as `name`; skip the test if there is neither."""
    named = os.environ.get(variable)
    found = shutil.which(named) if named else shutil.which(cache() / name)
    if named and not found:
        pytest.fail(f"{variable} is {named!r}, which is no program")
    if not found:
        pytest.skip(f"no {name}: set {variable}, or build it: {BUILD} (about 15 minutes, once)")
    return Path(found)
