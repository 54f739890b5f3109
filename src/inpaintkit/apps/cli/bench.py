"""`inpaintkit bench`: compare the ways to sample."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from inpaintkit.apps.cli.parsing import Command, parse
from inpaintkit.apps.cli.writing import check_writable
from inpaintkit.core.files import write_bytes


@dataclass(frozen=True, kw_only=True)
class Bench(Command):
    """Tables of the ways to sample, in Markdown."""

    what: tyro.conf.Positional[Literal["oracle"]]
    """oracle: every method on a mixture whose posterior is known exactly; takes some minutes."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE", aliases=["-o"], help_behavior_hint="")] = None
    """Where the table goes; to stdout unless given."""
    overwrite: bool = False
    """Replace FILE."""
    quiet: bool = False
    """No progress."""


def run(argv: Sequence[str]) -> None:
    args: Bench = parse(Bench, argv, "inpaintkit bench")
    if args.output is not None:
        check_writable(args.output, args.overwrite)
    from inpaintkit.evaluate import bench

    table = []
    for line in bench.report("inpaintkit bench oracle"):
        table.append(line)
        if args.output is None:
            print(line, flush=True)
        elif not args.quiet and line.startswith("| "):
            print(line, file=sys.stderr, flush=True)
    if args.output is not None:
        write_bytes(args.output, ("\n".join(table) + "\n").encode())
        print(args.output)
