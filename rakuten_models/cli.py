"""Runs a command: errors become a sentence and an exit status, never a traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence

from rakuten_models.errors import RakutenModelsError

EXIT_USER_ERROR = 2
EXIT_SYSTEM_ERROR = 1
EXIT_INTERRUPTED = 130

_ADVICE = {
    errno.ENOSPC: "free some space and run the command again",
    errno.EDQUOT: "free some space and run the command again",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "choose a folder that can be written to, or change its permissions",
    errno.EPERM: "choose a folder that can be written to, or change its permissions",
    errno.EADDRINUSE: "choose another port with --port, or stop the program that uses it",
}


def run_command(main: Callable[[Sequence[str] | None], int | None], arguments: Sequence[str] | None = None) -> int:
    """Run a command's main function and turn what a user may cause into one sentence on standard error.

    Args:
        main: Takes the command's arguments (None: those of the process) and returns an exit status or None.
        arguments: Passed on to `main`.

    Returns:
        0 or what `main` returned; 2 for bad input, 1 for a fault of the system such as a full disk, 130 after
        Ctrl-C.
    """
    try:
        return main(arguments) or 0
    except RakutenModelsError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("stopped: nothing half-written is left behind.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The output's reader (`| head`) has gone; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_SYSTEM_ERROR
    except OSError as error:
        file = f" ({error.filename})" if error.filename else ""
        advice = _ADVICE.get(error.errno or 0, "look at the path and run the command again")
        print(f"error: {error.strerror or error}{file}; {advice}.", file=sys.stderr)
        return EXIT_SYSTEM_ERROR
