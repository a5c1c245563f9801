"""When does a supervised process start, and when does it end? This module decides; uvicorn's supervisor is its frame.

A signal is obeyed within half a second, whatever the processes do: nothing here waits for one of them.
"""

import contextlib
import logging
import os
import signal
import socket
import time
from multiprocessing import resource_tracker

from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from app.readiness import Patience
from app.server import draining
from app.server.child import Child
from otel import logs

# A process that does not answer for so long is killed; half a second of processor time passes before it can.
SILENT_SECONDS = 20
LATE_SECONDS = 5.0  # past SHUTDOWN_TIMEOUT_SECONDS: what a process may take to say goodbye, before it is killed
# A terminal sends these to all processes at once. Only this one obeys them, and sends SIGTERM to the others.
OURS_ALONE = {signal.SIGINT, signal.SIGHUP}
_logger = logging.getLogger("ticket_inbox.server")


class Supervisor(Multiprocess):
    """uvicorn's, which also logs what happens, and does not wait for a process for ever."""

    config: draining.Config
    processes: list[Child]  # type: ignore[assignment]

    def __init__(self, config: draining.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self._listening = False
        self._patience = Patience(config.start_patience)
        self._was_ready = False  # any of the processes: one that is started again in an outage is never given up
        self.gave_up = False
        self._stops: list[int] = []  # the signals to stop that have come
        self._leaving: list[Child] = []  # that end because another has taken their place, or is not needed
        self._to_replace: list[Child] = []
        self._coming: Child | None = None  # it replaces the first of these
        self._seconds = (config.timeout_graceful_shutdown or 0) + LATE_SECONDS
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)  # the processes inherit it
        resource_tracker.ensure_running()  # a process of Python's own, whose start would unblock SIGINT
        signal.pthread_sigmask(signal.SIG_BLOCK, OURS_ALONE)  # the processes inherit it

    def init_processes(self) -> None:
        self.processes = [self._start() for _ in range(self.processes_num)]

    def handle_signals(self) -> None:
        self.signal_queue += [signal.sigwait({number}) for number in signal.sigpending() & OURS_ALONE]
        super().handle_signals()

    def handle_int(self) -> None:
        self._stop(signal.SIGINT)

    def handle_term(self) -> None:
        self._stop(signal.SIGTERM)

    def handle_quit(self) -> None:
        self._stop(signal.SIGQUIT)

    def handle_hup(self) -> None:
        """Replace each process; keep_subprocess_alive does it, one after another."""
        self._to_replace = list(self.processes)

    def handle_ttin(self) -> None:
        """Add a process."""
        if not self._stops:
            self.processes.append(self._start())

    def handle_ttou(self) -> None:
        """Take one away, unless it is the last."""
        if len(self.processes) > 1:
            self._retire(self.processes.pop())

    def keep_subprocess_alive(self) -> None:
        """Look at every process once: what must end ends, what has ended starts again."""
        if self.should_exit.is_set():
            return
        if os.getpid() == 1:
            self._reap_orphans()
        for index, process in enumerate(self.processes):
            if process.exitcode is not None or process.silent_seconds() > SILENT_SECONDS:
                self._restart(index, process)
            if self.should_exit.is_set():
                return
        self._leaving = [process for process in self._leaving if not process.has_ended()]
        self._replace_next()
        self._log_listening()
        self._wait_for_start()

    def terminate_all(self) -> None:
        for process in self._all():
            process.stop(self.config.drain_delay + self._seconds)

    def join_all(self) -> None:
        """Wait until all have ended. Another signal cuts the delay short, a second Ctrl-C ends them at once."""
        heard, is_cut = len(self._stops), False
        while [process for process in self._all() if not process.has_ended()]:
            self.handle_signals()
            if signal.SIGINT in self._stops[heard:]:
                break
            if len(self._stops) > 1 and not is_cut:
                is_cut = True
                self._cut_delay()
            time.sleep(0.05)
        for process in self._all():
            process.kill()
            process.join()

    def _wait_for_start(self) -> None:
        """Log once for all why no process is ready yet; when the patience is over, end them all."""
        self._was_ready = self._was_ready or any(process.was_ready for process in self.processes)
        if self._was_ready:
            return
        trouble = next((process.trouble for process in self.processes if process.trouble), None)
        self._patience.log(_logger, trouble)
        if self._patience.is_over():
            self.gave_up = True
            self._patience.log_end(_logger, trouble)
            self._cut_delay()
            self.should_exit.set()

    def _start(self) -> Child:
        process = Child(self.config, self.sockets)
        process.start()
        return process

    def _all(self) -> list[Child]:
        return [*self.processes, *self._leaving, *([self._coming] if self._coming else [])]

    def _stop(self, number: int) -> None:
        self._stops.append(number)
        self.should_exit.set()

    def _restart(self, index: int, process: Child) -> None:
        """Start another in place of one that ended or hangs; where it could not start, none could: end all."""
        process.kill()
        process.join()
        if process.exitcode == STARTUP_FAILURE:
            self.should_exit.set()
            return
        self.processes[index] = self._start()
        fields = {"process_id": process.pid, "exit_code": process.exitcode}
        logs.log(_logger, logging.WARNING, "process_restarted", **fields)

    def _cut_delay(self) -> None:
        for process in self._all():
            process.close_now(self._seconds)

    def _retire(self, process: Child) -> None:
        """Have a process end whose webhooks others take: no balancer needs to know."""
        self._leaving.append(process)
        process.close_now(self._seconds)

    def _replace_next(self) -> None:
        """Go one step on in replacing the processes: each new one listens before an old one ends."""
        self._to_replace = [one for one in self._to_replace if one in self.processes]
        if self._coming is None and self._to_replace and not self._leaving:
            self._coming = self._start()
            self._coming.kill_at = time.monotonic() + SILENT_SECONDS
        new = self._coming
        if new is None:
            return
        new.silent_seconds()
        if new.has_ended():
            self._to_replace, self._coming = [], None
            logs.log(_logger, logging.ERROR, "process_not_replaced", error="a new one did not start; the old ones stay")
        elif new.is_serving:
            self._swap(new)

    def _swap(self, new: Child) -> None:
        self._coming = None
        if not self._to_replace:  # the old one has ended meanwhile, and was started again
            self._retire(new)
            return
        old = self._to_replace.pop(0)
        self.processes[self.processes.index(old)] = new
        self._retire(old)
        logs.log(_logger, logging.INFO, "process_replaced", process_id=old.pid, by=new.pid)

    def _reap_orphans(self) -> None:
        """Clear away ended processes that a container hands to its first one."""
        own = {process.pid for process in self._all()}
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in own:
                os.waitpid(ended.si_pid, 0)

    def _log_listening(self) -> None:
        """Log it once, when every process takes webhooks."""
        if self._listening or not all(process.is_serving for process in self.processes):
            return
        self._listening = True
        port = self.sockets[0].getsockname()[1]
        fields = {"host": self.config.host, "port": port, "processes": len(self.processes)}
        logs.log(_logger, logging.INFO, "listening", **fields)
