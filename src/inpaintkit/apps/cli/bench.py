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
from inpaintkit.apps.cli.writing import check_writable, note
from inpaintkit.core.errors import BadInput, NotWritable, PartlyFailed, Terminated, UsageError
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
    """Run the suite that SUITE describes: every way to fill, with every mask, picture and seed; or all suites of a file that has
    parts. A row that fails is noted and the others go on; so do they where a model is missing. What was stopped or failed, or was
    missing, is done by running again with --resume.
    """

    suite: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SUITE.toml")]
    """Pictures, masks, models, methods, seeds and metrics; or parts, which are suites."""
    set: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Put a setting over the suite's, such as images.source=DIR; may be repeated."""
    part: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="NAME")] = ()
    """Only this part of a file that has parts; may be repeated."""
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
    """Write DIR/report.html (one file, opens anywhere), report.csv (all rows) and report.md (the tables); for a run of several parts
    those of each part, and a page and a report.md of all.
    """

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
            from inpaintkit.evaluate import index

            for path in index.write(args.folder, args.pictures):
                print(path)
        case Vote():
            from inpaintkit.evaluate import vote

            print(vote.write(args.folder, args.cells, args.shuffle, args.trials))


def _run(args: Run) -> None:
    from inpaintkit.evaluate import parts, suites

    if not parts.is_collection(args.suite):
        if args.part:
            raise UsageError(f"{args.suite}: has no parts; leave --part away")
        suite = suites.read(args.suite, args.set)
        _finish(args, _run_one(args, suite, args.output or Path("runs") / suite.name))
        return
    collection, every = parts.read(args.suite, args.set)
    chosen, out = parts.chosen(every, args.part), args.output or Path("runs") / collection.name
    if not args.dry_run:
        _folder(args, out, collection, every)
    undone = []
    for part in chosen:
        print(f"== {part.name}", file=sys.stdout if args.dry_run else sys.stderr, flush=True)
        try:
            undone += _run_one(args, part.suite, out / part.name)
        except (BadInput, NotWritable, UsageError) as error:  # the other parts are wanted
            undone.append(f"{part.name} was left out ({error})")
            print(f"left out: {error}", file=sys.stdout if args.dry_run else sys.stderr, flush=True)
    _finish(args, undone)


def _folder(args: Run, out: Path, collection: Any, every: Any) -> None:
    """The folder of a collection, with its list."""
    from inpaintkit.evaluate import parts

    there = parts.about(out)
    if there is not None and not args.resume:
        raise NotWritable(f"{out}: holds results already; pass --resume to go on with them, or name another folder")
    if there is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise NotWritable(f"{out}: is not an empty folder; name a new one")
    try:
        out.mkdir(parents=args.output is None, exist_ok=True)
    except OSError as error:
        raise NotWritable(f"{out}: {error.strerror}; name a folder that can be made") from None
    parts.write(out, collection, every)


def _run_one(args: Run, suite: Any, out: Path) -> list[str]:
    """Run a suite, or plan it; what could not be done."""
    from inpaintkit.evaluate import grid, run

    opened = grid.opened(suite, args.device, args.dtype)
    where = sys.stdout if args.dry_run else sys.stderr
    for line in opened.missing.values():
        print(f"missing: {line}", file=where, flush=True)
    left = [cell.label for cell in opened.left_out()]
    undone = [f"{out}: {len(left)} ways were left out for want of a model ({', '.join(left)})"] if left else []
    if args.dry_run:
        _plan(opened, out)
        return undone
    if not out.absolute().parent.is_dir() and args.output is not None:
        raise NotWritable(f"{out}: the folder {out.parent} does not exist; create it first")
    try:
        outcome = run.run(opened, out, args.resume and out.exists(), _teller(args.quiet))
    except (KeyboardInterrupt, Terminated):
        note(f"{out}: the rows that are done are kept; the same command with --resume goes on from them", quiet=False)
        raise
    print(out)
    if outcome.failed:
        undone.append(f"{out}: {outcome.failed} of {outcome.done} rows failed, rows.jsonl says why; --resume tries them again")
    return undone


def _teller(quiet: bool) -> Any:
    began = time.monotonic()
    done = 0

    def tell(number: int, total: int, row: Any) -> None:
        nonlocal done
        done += 1
        left = (time.monotonic() - began) / done * (total - number)
        what = f"failed: {row.error}" if row.error else f"{row.seconds:.2f} s"
        place = ", ".join(str(part) for part in row.key if part is not None)
        if not quiet:
            print(f"{number} of {total}: {place}: {what}; about {left / 60:.0f} min left", file=sys.stderr, flush=True)

    return tell


def _finish(args: Run, undone: Sequence[str]) -> None:
    """Raise `PartlyFailed` for what could not be done."""
    if undone and not args.dry_run:
        more = f"; and {len(undone) - 1} more, see above" if len(undone) > 1 else ""
        raise PartlyFailed(undone[0] + more)


def _plan(opened: Any, out: Path) -> None:
    from inpaintkit.evaluate import grid, run

    todo, kept = run.remaining(opened, out)
    for cell in opened.cells:
        mine = [job for job in opened.jobs() if job.cell == cell]
        print(f"{cell.label}: {len(mine)} rows, {sum(opened.work(job).evaluations for job in mine)} evaluations")
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
