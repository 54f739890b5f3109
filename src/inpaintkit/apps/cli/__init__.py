"""The command line. This file imports nothing heavy: a command's module is imported when it runs."""

import codecs
import contextlib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib import import_module
from types import FrameType

from inpaintkit import __version__
from inpaintkit.core.errors import Cancelled, InpaintError, NotWritable, OverLimit, Terminated, UsageError, out_of_memory

COMMANDS = {
    "fill": "fill the hole of a picture",
    "upscale": "make a picture twice or four times as large",
    "blind": "repair a picture without telling the model where it is damaged",
    "onion": "fill a hole ring by ring, with the model, a classical method or an ONNX file",
    "science": "reconstruct fields from sparse, coarse or damaged arrays, with their uncertainty",
    "demo": "fill a sample photo and show every part of it, in under a minute",
    "mask": "make, show and check masks",
    "train": "train a model of your own from a recipe, or go on with it",
    "models": "list, describe and check models",
    "methods": "list and describe the ways to sample",
    "bench": "compare ways to fill: run a suite, report on it, vote",
    "eval": "measure pictures filled anywhere against the truth",
    "doctor": "say what this machine and installation can do, and what is broken",
}
"""Command -> summary. The command `x` is the function `run(argv)` of `apps/cli/x.py`."""

USAGE = "usage: inpaintkit COMMAND ...       inpaintkit COMMAND --help says what a command takes"
NOTES = """\
  --version      print the version
  --debug        with any command: show where an error arose

A mask is white where the picture is to be filled. Results go to stdout, progress and errors to stderr.
Exit codes: 0 done, 1 a fault of inpaintkit, 2 usage, 3 bad input or model, 4 finished with failures,
5 out of memory or over a limit, 6 output not writable, 130 Ctrl-C, 143 SIGTERM. First steps: inpaintkit demo"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code. A refusal is one line on stderr."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a stream may have been replaced
            stream.reconfigure(errors=ESCAPED)  # type: ignore[union-attr]
    try:
        with _sigterm_raises():
            _run(argv)
            if sys.stdout is not None:
                sys.stdout.flush()
        return 0
    except SystemExit as stop:  # --help
        return stop.code if isinstance(stop.code, int) else 0
    except BrokenPipeError:  # the reader of our output went away, as in `inpaintkit models list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt as error:
        return _refuse(Cancelled("stopped by Ctrl-C; what was not finished was not written"), error, debug)
    except InpaintError as error:
        return _refuse(error, error, debug)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
            sys.stdout = None  # Python would try again at the end
            return _refuse(NotWritable(f"stdout or a temporary file: {error.strerror}; make room and repeat"), error, debug)
        if out_of_memory(error):
            return _refuse(OverLimit("out of memory; free some, use fewer variants, or a smaller picture or hole"), error, debug)
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return _refuse(InpaintError(f"inpaintkit: this is a fault of inpaintkit ({cause}); --debug shows where it arose"), error, debug)


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Of names of files, which are bytes and not text, the bytes; of what a terminal's encoding lacks, its number."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


ESCAPED = "inpaintkit"
codecs.register_error(ESCAPED, _escaped)


def _run(argv: list[str]) -> None:
    name, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if name == "--debug" and rest:
        return _run([*rest, "--debug"])
    if name in ("--help", "-h", "help"):
        print("\n".join([USAGE, "", *(f"  {command:<14} {summary}" for command, summary in COMMANDS.items()), "", NOTES]))
    elif name in ("--version", "-V"):
        print(f"inpaintkit {__version__}")
    elif name in COMMANDS:
        import_module(f"inpaintkit.apps.cli.{name}").run(rest)
    else:
        close = get_close_matches(name, COMMANDS, 1)
        raise UsageError(f"{name}: no such command; " + (f"did you mean {close[0]!r}?" if close else f"there are {', '.join(COMMANDS)}"))


def _refuse(refusal: InpaintError, cause: BaseException, debug: bool) -> int:
    if debug:
        traceback.print_exception(cause)
    print("error:", " ".join(str(refusal).split()), file=sys.stderr, flush=True)
    return refusal.exit_code


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Inside, SIGTERM unwinds like Ctrl-C does, so that temporary files are removed."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated("stopped by SIGTERM; what was not finished was not written")

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
