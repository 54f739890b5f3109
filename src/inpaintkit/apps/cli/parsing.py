"""From arguments to checked settings: tyro reads the dataclasses, and its boxed errors become one line."""

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import tyro

from inpaintkit.core.errors import UsageError
from inpaintkit.core.settings import Settings, checked

CONFIG = (
    tyro.conf.CascadeSubcommandArgs,
    tyro.conf.OmitSubcommandPrefixes,
    tyro.conf.OmitArgPrefixes,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.PositionalMetavarFromFieldName,
)


@dataclass(frozen=True, kw_only=True)
class Command(Settings):
    """What every command takes."""

    debug: bool = False
    """Show where an error arose."""


def parse(kind: Any, argv: Sequence[str], prog: str, default: Any = None) -> Any:
    """The `kind` (a settings class, or a union of them as subcommands) that `argv` describes, its bounds checked.

    Raises `UsageError`, one line, and `SystemExit(0)` after printing help.
    """
    boxes = io.StringIO()
    extra = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(boxes):
            values = tyro.cli(kind, args=list(argv), prog=prog, config=CONFIG, **extra)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(one_line(boxes.getvalue(), prog)) from None
    try:
        for part in vars(values).values():  # parts first: their errors name the option, not the path to it
            if isinstance(part, Settings):
                checked(type(part), part)
        return checked(type(values), values)
    except UsageError as error:  # a place in the settings, as one writes it here: walk.steps = 0 is --steps 0
        option = re.sub(r"^(?:[a-z_]\w*\.)*([a-z]\w*)(?= = )", lambda found: "--" + found[1].replace("_", "-"), str(error))
        raise UsageError(option) from None


def one_line(boxes: str, prog: str) -> str:
    """tyro's error report as one line: the cause, and what may have been meant."""
    sections: list[list[str]] = [[]]
    for line in re.sub(r"\x1b\[[0-9;]*m", "", boxes).splitlines():
        text = line.strip("│| ")
        if text.startswith("╭") or not text:
            continue
        if re.fullmatch(r"[─╰╯-]+", text):
            sections.append([])
        else:
            sections[-1].append(text)
    if "╭" not in boxes:  # without UTF-8 there is no frame, and the title is a section
        del sections[0]
    cause, rest = " ".join(sections[0]) if sections else "the arguments cannot be read", [" ".join(section) for section in sections[1:]]
    if given := re.match(r"Unrecognized (?:or misplaced )?options: (\S+?),?(?: |$)", cause):
        return _unrecognized(given[1], rest, prog)
    if missing := re.match(r"Missing from (.*?): (\S+)", cause):
        prog = missing[1] if missing[1].startswith(prog) else prog
        return f"{prog}: {missing[2]} is missing; {prog} --help says what is needed"
    cause = re.sub(r"; got errors: .*| Got errors: .*", "", cause.removeprefix("Error parsing "), flags=re.IGNORECASE).rstrip(".")
    cause = re.sub(r"no type matching (\S+) could be instantiated from \[(.*?)\]", r"\2 is none of \1", cause)
    return f"{prog}: {cause[:1].lower()}{cause[1:]}; {prog} --help says what is possible"


def _unrecognized(given: str, sections: list[str], prog: str) -> str:
    text = " ".join(sections)
    options = re.findall(r"(?<!\S)--(?!help)[a-z][\w-]*", text.split("Perhaps you meant:")[-1]) if "Perhaps you meant:" in text else []
    listed = re.search(r"Available subcommands: ([\w, -]+?)(?: [A-Z]|$)", text)
    names = listed[1].split(", ") if listed else []
    if given in options:  # it exists, but belongs to a subcommand that was not named before it
        owners = list(dict.fromkeys(re.findall(rf"in {re.escape(prog.split()[0])} ([\w-]+) --help", text)))
        such = f", such as {' or '.join(owners[:3])}," if owners else ""
        return f"{prog}: {given} belongs to a METHOD{such} and stands after its name"
    close = get_close_matches(given, names, 1) if not given.startswith("-") else options[:1]
    if close:
        return f"{prog}: {given} is not known; did you mean {close[0]}?"
    return f"{prog}: {given} is not known; " + (f"there are {', '.join(names)}" if names else f"{prog} --help says what is possible")
