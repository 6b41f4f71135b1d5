"""Processes for calls that may overrun or take their process with them: threads cannot be killed, processes can.

They are forked from one that was forked before this process had threads, since a fork copies locks that other threads
hold but not the threads. The call needs no import there, so it may be any function; what it returns travels pickled.
"""

from __future__ import annotations

import array
import ctypes
import os
import pickle
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from recado.clock import Deadline
from recado.errors import HandlerFailed, HandlerTimeout, NoProcess
from recado.outcomes.decide import describe
from recado.record import OUTBOX, Sent

__all__ = ["Lane", "Zygote"]

#: Linux's prctl option that kills a process when the one that forked it ends.
PR_SET_PDEATHSIG = 1

#: How long a new process may take to say that it is there, in seconds.
START_S = 30.0

#: What to do where there are no processes any more.
REMEDY = "Start the program again; the kernel's log tells whether memory, or another limit, was at its end."


class Zygote:
    """A process that forks others, each of which calls ``call``. ``Lane`` makes use of it; thread-safe."""

    def __init__(self, call: Callable[[Any], Any]) -> None:
        self._control, theirs = socket.socketpair()
        if os.fork() == 0:
            self._control.close()
            _in_child(lambda: _fork_on_demand(theirs, call))
        theirs.close()

    def fork(self) -> Connection:
        """A connection to a new process."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            # One byte and one descriptor arrive together, whoever else asks at this moment.
            rights = array.array("i", [theirs.fileno()])
            self._control.sendmsg([b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            return Connection(ours.detach())

    def close(self) -> None:
        """Fork no more; what was forked goes on."""
        self._control.close()


class Lane:
    """One process at a time that calls the handler. Belongs to one thread."""

    def __init__(self, zygote: Zygote, timeout_s: float) -> None:
        self._zygote = zygote
        self._timeout_s = timeout_s
        self._connection: Connection | None = None
        self._pid = 0

    def call(self, argument: Any) -> Any:
        """Call it there; return what it returns. What a handler sent goes into the caller's outbox.

        Raises what it raises, HandlerTimeout after it was killed, or NoProcess where nothing could be called.
        """
        connection = self._connection or self._started()
        deadline = Deadline(self._timeout_s)
        try:
            connection.send(argument)
            if not connection.poll(deadline.left_s()):
                self._kill()
                raise HandlerTimeout(f"it ran longer than timeout_s={self._timeout_s:g} and was killed")
            error, sent, back = connection.recv()
        except (EOFError, ConnectionError) as gone:
            self._kill()
            self._started()  # where none can be had the handler is not to blame
            raise HandlerFailed("its process ended in the middle of it") from gone
        if error is not None:
            raise error
        if sent:
            OUTBOX.get().extend(sent)
        return back

    def close(self) -> None:
        """Let the process end."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _started(self) -> Connection:
        try:
            connection = self._zygote.fork()
            if not connection.poll(START_S):
                connection.close()
                raise TimeoutError(f"none came up within {START_S:g} s")
            self._pid, self._connection = connection.recv(), connection
        except (EOFError, OSError) as error:
            detail = f"the one that forks them was killed or cannot fork any more ({describe(error)})"
            raise NoProcess(f"No process for a call can be had: {detail}. {REMEDY}") from error
        return connection

    def _kill(self) -> None:
        with suppress(ProcessLookupError):  # it may have ended at this very moment
            os.kill(self._pid, signal.SIGKILL)
        self.close()


def _fork_on_demand(control: socket.socket, call: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    while True:
        asked, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not asked:
            return
        if os.fork() == 0:
            control.close()
            _in_child(partial(_serve_on, descriptors[0], call))
        os.close(descriptors[0])


def _serve_on(descriptor: int, call: Callable[[Any], Any]) -> None:
    connection = Connection(descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a handler may wait for processes of its own
    connection.send(os.getpid())
    while True:
        try:
            argument = connection.recv()
        except (EOFError, ConnectionError):
            return
        error: BaseException | None = None
        sent: list[Sent] = []
        back: Any = None
        OUTBOX.set(sent)
        try:
            back = call(argument)
        except BaseException as raised:  # whatever it is, the record is not done
            error = _portable(raised)
        connection.send((error, sent, back))


def _portable(error: BaseException) -> BaseException:
    """The exception as it can travel, with the place where it was raised."""
    place = "".join(traceback.format_tb(error.__traceback__))
    try:
        there: object = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    except Exception:  # a class whose constructor takes other arguments, or one that has no name to be found by
        there = None
    portable = there if isinstance(there, BaseException) else HandlerFailed(describe(error))
    portable.add_note(place)
    return portable


def _in_child(work: Callable[[], None]) -> NoReturn:
    """Do it and end, never going back into what the parent was at."""
    code = 1
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in (signal.SIGTERM, signal.SIGINT):
            # A terminal's Ctrl-C comes to all; the worker decides. Not SIG_IGN, which programs that a handler runs
            # would inherit.
            signal.signal(number, lambda *_: None)
        work()
        code = 0
    finally:
        sys.stdout.flush()
        os._exit(code)
