"""A process that tests start by a fork is what a shell would have started."""

import json
import os
from pathlib import Path

import pytest

from tests.conftest import clean_environment
from tests.support import preloaded

pytestmark = [
    pytest.mark.one_postgres,
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="tests start every process by exec here"),
]


@pytest.fixture
def env() -> dict[str, str]:
    return clean_environment(SETTING="of this test's own")


@pytest.mark.parametrize("ending", ["", "code", "words", "error", "signal"])
def test_it_sees_and_does_the_same(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Arguments, path, environment, signals, descriptors, streams, threads; exit code, and last words."""
    arguments = ["tests.support.self_portrait", ending]
    forked = preloaded.run(arguments, env, given="read", cwd=tmp_path)
    monkeypatch.setattr(preloaded.Origin, "can_start", lambda *_: False)
    executed = preloaded.run(arguments, env, given="read", cwd=tmp_path)
    assert forked.returncode == executed.returncode
    assert json.loads(forked.stdout) == json.loads(executed.stdout)
    assert forked.stderr.splitlines()[-1:] == executed.stderr.splitlines()[-1:]


def test_what_the_interpreter_or_a_library_reads_first_is_not_forked(env: dict[str, str]) -> None:
    origin = preloaded.origin()
    assert origin is not None
    assert origin.can_start(env), "every process would be started by exec, and the tests would take twice as long"
    for name in ("LD_PRELOAD", "PYTHONPATH", "LC_ALL", "PROMETHEUS_MULTIPROC_DIR", "OTEL_PYTHON_CONTEXT"):
        assert not origin.can_start({**env, name: "x"}), name


def test_it_is_waited_for_as_long_as_one_says(env: dict[str, str]) -> None:
    with Path(os.devnull).open("rb") as nowhere:
        process = preloaded.start(["tests.support.self_portrait", "signal"], env, nowhere.fileno())
    assert isinstance(process, preloaded.Forked)
    assert process.wait(30) == process.wait() == process.poll() == -9
    process.kill()  # nothing happens
