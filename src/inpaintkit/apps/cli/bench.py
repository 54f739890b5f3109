"""`inpaintkit bench`: compare the ways to fill: run a suite, report on it, vote; and the table of the exact oracle."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field

from inpaintkit.apps.cli.parsing import Command, parse
from inpaintkit.apps.cli.writing import check_writable
from inpaintkit.core.errors import NotWritable, PartlyFailed
from inpaintkit.core.files import write_bytes


@dataclass(frozen=True, kw_only=True)
class Oracle(Command):
    """The methods on a mixture whose posterior is known exactly, as a table in Markdown; takes some minutes."""

    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE", aliases=["-o"], help_behavior_hint="")] = None
    """Where the table goes; to stdout unless given."""
    overwrite: bool = False
    """Replace FILE."""
    quiet: bool = False
    """No progress."""


@dataclass(frozen=True, kw_only=True)
class Run(Command):
    """Run the suite that SUITE describes: every way to fill, with every mask, picture and seed. A row that fails is noted and the
    others go on. What was stopped or failed is done by running again with --resume.
    """

    suite: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SUITE.toml")]
    """Pictures, masks, models, methods, seeds and metrics."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR", aliases=["-o"], help_behavior_hint="(default: runs/NAME)")] = None
    """Where the rows and pictures go."""
    resume: bool = False
    """Go on with what is in DIR; rows that are complete are not done again."""
    dry_run: bool = False
    """Only say what would be done, and how long the network would work."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the processor has instructions for it."""
    quiet: bool = False
    """No progress."""


@dataclass(frozen=True, kw_only=True)
class Report(Command):
    """Write DIR/report.html (one file, opens anywhere), report.csv (all rows) and report.md (the tables)."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """What `bench run` wrote."""
    pictures: Annotated[int, Field(ge=1)] = 8
    """In a contact sheet, at most."""


@dataclass(frozen=True, kw_only=True)
class Vote(Command):
    """Write DIR/vote.html: a page that shows two results blind and counts votes, with 95 % intervals."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """What `bench run` wrote."""
    cells: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(name="cell", metavar="LABEL")] = ()
    """One of the ways compared, by its label; all unless given."""
    shuffle: Annotated[int, Field(ge=0)] = 0
    """Seed of order and sides."""
    trials: Annotated[int, Field(ge=1)] = 60
    """Pairs shown, at most."""


Kind: Any = (
    Annotated[Oracle, tyro.conf.subcommand("oracle")]
    | Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Vote, tyro.conf.subcommand("vote")]
)


def run(argv: Sequence[str]) -> None:
    args = parse(Kind, argv, "inpaintkit bench")
    match args:
        case Oracle():
            _oracle(args)
        case Run():
            _run(args)
        case Report():
            from inpaintkit.evaluate import report

            for path in report.write(args.folder, args.pictures):
                print(path)
        case Vote():
            from inpaintkit.evaluate import vote

            print(vote.write(args.folder, args.cells, args.shuffle, args.trials))


def _run(args: Run) -> None:
    from inpaintkit.evaluate import grid, run, suites

    suite = suites.read(args.suite)
    out = args.output or Path("runs") / suite.name
    opened = grid.opened(suite, args.device, args.dtype)
    if args.dry_run:
        _plan(opened, out)
        return
    if not out.absolute().parent.is_dir() and args.output is not None:
        raise NotWritable(f"{out}: the folder {out.parent} does not exist; create it first")
    began = time.monotonic()
    done = 0

    def tell(number: int, total: int, row: Any) -> None:
        nonlocal done
        done += 1
        left = (time.monotonic() - began) / done * (total - number)
        what = f"failed: {row.error}" if row.error else f"{row.seconds:.2f} s"
        place = ", ".join(str(part) for part in row.key if part is not None)
        if not args.quiet:
            print(f"{number} of {total}: {place}: {what}; about {left / 60:.0f} min left", file=sys.stderr, flush=True)

    outcome = run.run(opened, out, args.resume, tell)
    print(out)
    if outcome.failed:
        raise PartlyFailed(f"{out}: {outcome.failed} of {outcome.done} rows failed, rows.jsonl says why; --resume tries them again")


def _plan(opened: Any, out: Path) -> None:
    from inpaintkit.evaluate import grid, run

    todo, kept = run.remaining(opened, out)
    for cell in opened.cells:
        mine = [job for job in opened.jobs() if job.cell == cell]
        print(f"{cell.label}: {len(mine)} rows, {sum(map(opened.evaluations, mine))} evaluations")
    minutes = grid.expected_minutes(opened, todo, time.perf_counter)
    print(f"{len(todo)} rows to be made, {len(kept)} there; the network works for about {minutes:.1f} min, metrics and fillers on top")


def _oracle(args: Oracle) -> None:
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
