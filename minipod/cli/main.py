# SPDX-License-Identifier: GPL-3.0-or-later
"""The entry point, and the one place where errors become words and exit codes.

Exit codes: 0 done, 1 error, 2 bad usage or refused input, 130 interrupted, 141 nobody reads the output;
``exec`` and ``run`` pass on those of containers.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself takes 2 ms to load
import gc
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import NoReturn

from minipod.cli.deferred import defer
from minipod.errors import MinipodError

INTERRUPTED = 130
NOBODY_READS = 141
# Loading typer makes so many objects that Python looks for garbage among them a hundred times, in vain.
_GC_THRESHOLD = 100_000
_FILE_AND_LINE = re.compile(r"[^\n]+?:\d+: ")


def entry() -> NoReturn:
    """Be the program ``minipod``: run the command line and end the process.

    Without the interpreter's tear-down, which takes longer than most verbs: all that would be written out at
    the end is written out by then, and the kernel takes back the rest.
    """
    gc.set_threshold(_GC_THRESHOLD)
    defer()
    with _silent_interrupts(), suppress(Exception):
        import_module("minipod.cli.app")  # main() says what is wrong with it
    os._exit(main())


@contextmanager
def _silent_interrupts() -> Iterator[None]:
    """Let Ctrl-C end the process without a word, while half of it is loaded and nothing could be undone yet."""
    usual = _signal.getsignal(_signal.SIGINT)
    if usual is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    try:
        yield
    finally:
        if usual is _signal.default_int_handler:
            _signal.signal(_signal.SIGINT, usual)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* (``sys.argv`` when None) and return its exit code. Never raises."""
    args = list(sys.argv[1:] if argv is None else argv)
    _lenient_output()
    try:
        from minipod.cli.app import run

        code = run(args)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        code = NOBODY_READS
    except MinipodError as error:
        _show(error)
        code = error.exit_code
    except OSError as error:
        _show(MinipodError(_os_error(error)))
        code = 1
    except Exception as error:
        code = _internal_error(error)
    return _flush(code)


def _lenient_output() -> None:
    # A name that the terminal's encoding lacks, or bytes that were no text, must not end in an error.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _show(error: MinipodError) -> None:
    """Print *error* on stderr: one line, and a second one with what to do."""
    from minipod.cli.output import escape, painter

    paint = painter(sys.stderr)
    if "\n" in error.what or (error.reason == "Invalid" and _FILE_AND_LINE.match(error.what)):
        # The problems of a manifest, one per line, as a compiler shows them: editors know the form.
        text = escape(error.what, keep="\n")
    else:
        text = f"{paint('minipod:', 'red')} {escape(error.what)}"
    if error.remedy:
        text += f"\n  {paint('hint:', 'cyan')} {escape(error.remedy)}"
    _print_error(text)


def _print_error(text: str) -> None:
    with suppress(OSError):  # nobody listens; the exit code still tells
        print(text, file=sys.stderr, flush=True)


def _os_error(error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    return (
        f"{os.fsdecode(error.filename)}: {reason}"
        if isinstance(error.filename, str | bytes)
        else reason
    )


def _internal_error(error: Exception) -> int:
    if os.environ.get("MINIPOD_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
        return 1
    from minipod.cli.start import log_place
    from minipod.config import Config

    root_dir = os.environ.get("MINIPOD_ROOT_DIR")
    log = log_place(Config(root_dir=root_dir) if root_dir else Config())
    what = f"internal error: {type(error).__name__}: {error}, please report it".replace("\n", " ")
    _show(MinipodError(what, f"MINIPOD_DEBUG=1 shows where; the agent's own log: {log}"))
    return 1


def _flush(code: int) -> int:
    """Write out what is left; *code*, or the one that says that this failed."""
    with suppress(OSError):
        sys.stderr.flush()
    try:
        sys.stdout.flush()
    except OSError as error:
        # Python flushes once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)
        if isinstance(error, BrokenPipeError):
            return code or NOBODY_READS
        _show(MinipodError(f"standard output: {_os_error(error)}"))
        return code or 1
    return code
