"""Error classes and the exit code each one becomes.

Every refusal is one line: what was given, why it cannot be used, what to do. Anything that is not an `InpaintError`
is a fault of ours and leaves with code 1.
"""


class InpaintError(Exception):
    """A refusal meant for the user. `str(error)` is the whole line, without the leading "error: "."""

    exit_code = 1


class UsageError(InpaintError):
    """An unknown name or option, or a value out of its bounds."""

    exit_code = 2


class BadInput(InpaintError):
    """A picture, mask, array, configuration or checkpoint that cannot be used."""

    exit_code = 3


class PartlyFailed(InpaintError):
    """A batch or benchmark that went on to its end, with failures on the way."""

    exit_code = 4


class OverLimit(InpaintError):
    """More memory or pixels than allowed; the message names the limit and the option that raises it."""

    exit_code = 5


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's, that of an accelerator in torch, or what torch raises on a CPU."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


class NotWritable(InpaintError):
    """The output exists already, or its folder cannot be written."""

    exit_code = 6


class Cancelled(InpaintError):
    """The caller stopped the run, from `on_step` or with Ctrl-C."""

    exit_code = 130


class Terminated(InpaintError):
    """The process was asked to end (SIGTERM)."""

    exit_code = 143
