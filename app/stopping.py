"""How does a process end when a signal asks it to, from its first moment on?

Python imports a server or a worker for a second or two. The kernel delivers no signal to a container's first process
that has no handler for it: one that came in that time would be lost. So the handlers stand before the imports
(docs/decisions/0033).
"""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

SERVING = ("serve", "worker", "dev")  # the commands that run until a signal: one ends them with exit code 0
# What other programs use for their own purposes, and what would freeze a process in the background of a terminal.
IGNORED = ("SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU")
_began = False


def signals() -> list[signal.Signals]:
    """Return the signals that end this process: all of the same meaning, unless `nohup` has SIGHUP ignored."""
    found = _known("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP")
    return [one for one in found if one.name != "SIGHUP" or signal.getsignal(one) is not signal.SIG_IGN]


def from_the_start(command: str) -> None:
    """Prepare for signals, as the first thing that a process does; `command` is what it was started for.

    One of SERVING ends at once, with exit code 0, until it has handlers of its own: nothing has begun that could be
    left behind. Another command ends by the signal itself, as any program does, and by Ctrl-C without a traceback.
    """
    if command in SERVING:
        handle_all(end_at_once)
        for number in _known(*IGNORED):
            signal.signal(number, signal.SIG_IGN)
    else:
        if os.getpid() == 1:  # a migration in a container: here the kernel would drop what has no handler
            signal.signal(signal.SIGTERM, _end_by)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, _end_by)
    _unblock()


def let_commands_handle_ctrl_c() -> None:
    """Have Ctrl-C raise KeyboardInterrupt from now on, but while Python imports.

    There it could be raised where Python drops it with a traceback, as in what is called when an object goes.
    """
    if signal.getsignal(signal.SIGINT) is _end_by:
        signal.signal(signal.SIGINT, _interrupt)


def raise_on_ctrl_c() -> None:
    """Have asyncio's own handler take over, which cancels the main task: it only replaces Python's."""
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def handle_all(handler: Callable[[int, FrameType | None], Any]) -> None:
    """Have `handler` called at each signal that ends this process."""
    for number in signals():
        signal.signal(number, handler)


def end_at_once(_number: int, _frame: FrameType | None) -> None:
    """End this process with exit code 0. Only where it has begun nothing, or has nothing left to finish."""
    os._exit(0)


def _end_by(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _end_by(number, frame)
        frame = frame.f_back
    raise KeyboardInterrupt


def hold_for_exec() -> None:
    """Let signals wait while this process becomes another program, which calls from_the_start."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signals())


def reap_orphans() -> None:
    """Have the kernel clear away ended processes that a container hands to its first one.

    Only for a process that starts none itself: it would not learn how they ended.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def begin() -> None:
    """Note that this process is about to stop: /health/ready says so, and answers end their connections."""
    global _began  # noqa: PLW0603  (a process stops once)
    _began = True


def has_begun() -> bool:
    """Return whether this process is about to stop."""
    return _began


def _unblock() -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals())


def _known(*names: str) -> list[signal.Signals]:
    """Return the signals of these names that this system has."""
    return [signal.Signals[name] for name in names if name in signal.Signals.__members__]
