"""Ends this program with the one that started it.

A program that dies can tell nobody, but the system closes its end of our standard input. Needs the
standard library alone, and works the same on Windows.
"""

from __future__ import annotations

import _thread
import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time

from hsi_pipeline.errors import InputError

GRACE_S = 5.0
"""How long this program may take to clean up."""

STOPPED = 130
"""Exit code of a program that was stopped, as shells have it after Ctrl-C."""

_POLL_S = 0.25


def end_with_standard_input() -> None:
    """End this program as SIGTERM would, once its standard input is at its end.

    Returns at once; a thread reads standard input, and drops what it reads. A program that has not
    ended after `GRACE_S` is ended without cleaning up, its worker processes first. Code that holds
    Python's lock delays the notice of the end, so a program with minutes of it ends later.

    Raises:
        InputError: There is no standard input.
    """
    if sys.stdin is None:
        # descriptor 0 may be any file by now
        raise InputError(
            "HSI_PIPELINE_STOP_ON_EOF is set, but standard input is closed; connect it to a pipe "
            "that stays open, or do not set the variable"
        )
    threading.Thread(target=_watch, name="lifeline", daemon=True).start()


def _watch() -> None:
    """Wait for the end of standard input, then end this program."""
    if sys.platform == "win32":
        _wait_for_closed_pipe()
    _wait_for_end()
    # Also where the main thread holds Python's lock from here on; it needs a file for its report.
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(2 * GRACE_S, exit=True, file=nowhere)
        _interrupt_main_thread()
        time.sleep(GRACE_S)
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(STOPPED)


def _wait_for_end() -> None:
    """Read standard input until its end, past Python's buffer, whose lock would block the exit."""
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass  # a terminal that is gone is an end as well


def _interrupt_main_thread() -> None:
    """Have the main thread run its handler of SIGTERM."""
    if sys.platform == "win32":
        _thread.interrupt_main(signal.SIGTERM)
    else:
        # a real signal also wakes it where it waits for a lock
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


if sys.platform == "win32":
    import _winapi
    import msvcrt

    def _wait_for_closed_pipe() -> None:
        """Look at standard input now and then, where it is a pipe.

        While a thread waits in a read of it, Windows blocks all else that touches it, such as
        the import of numpy and the start of worker processes.
        """
        pipe = msvcrt.get_osfhandle(0)
        try:
            while True:
                if waiting := int(_winapi.PeekNamedPipe(pipe, 0)[0]):
                    os.read(0, waiting)
                time.sleep(_POLL_S)
        except OSError:
            return  # closed, or no pipe; the read that follows tells
