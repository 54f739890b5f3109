"""One run from a recipe to a model folder: states, logs, figures, exports, and an orderly end whatever happens.

OUT/step-N/            resumable states (state.py)
OUT/model/             the model of the newest save: averaged weights, card, sample sheet
OUT/log.csv, validation.csv, tensorboard/
OUT/.lock              held while a process trains there
"""

import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import torch
from filelock import FileLock

from inpaintkit.core.errors import BadInput, Cancelled, InpaintError, NotWritable, OverLimit, Terminated, UsageError, out_of_memory
from inpaintkit.core.files import clean, replacing_folder, room, write_bytes
from inpaintkit.core.locks import LOCK, taken
from inpaintkit.data.splits import SPLITS
from inpaintkit.train import state as states
from inpaintkit.train.cards import SHEET, card, png, sheet
from inpaintkit.train.draws import worker_died
from inpaintkit.train.journal import TABLES, Journal, foreign
from inpaintkit.train.loop import Report, Trainer
from inpaintkit.train.processes import Processes
from inpaintkit.train.recipes import Recipe

TWICE = 1.0  # seconds: signals closer together are one (a launcher passes on the Ctrl-C that all have had already)


def train(
    recipe: Recipe,
    out: Path,
    resume: str = "auto",
    device: str = "auto",
    minutes: float | None = None,
    tell: Callable[[str], None] = lambda text: None,
    on_step: Callable[[Report], None] = lambda report: None,
) -> Path | None:
    """Train the recipe in the folder `out`; the exported model folder, None on processes that are not the main one.

    resume: auto goes on where `out` has a state; never refuses then; else the folder of another run, or one of its states, to start from.
    minutes: stop in order after so many. `tell` gets lines to show, `on_step` every step, both on the main process only.

    Raises `UsageError`, `BadInput`, `OverLimit` or `NotWritable`, one line; `Cancelled` or `Terminated` after a signal, once the state is
    saved. On processes that are not the main one every failure is a `SystemExit` with its code.
    """
    processes, out = Processes(device), Path(out)
    try:
        with _locked(out, processes):
            trainer = Trainer(recipe, out, device)
            session = _Session(trainer, minutes, tell if processes.main else (lambda text: None), on_step)
            session.begin(resume)
            with session.signals(), _fastest_kernels(trainer.device.type == "cuda"):
                session.run()
        return out / "model" if processes.main else None
    except Exception as error:
        if processes.main:
            raise
        raise SystemExit(error.exit_code if isinstance(error, InpaintError) else 1) from None
    finally:
        processes.close()


class _Session:
    """The parts of a run around the loop."""

    def __init__(self, trainer: Trainer, minutes: float | None, tell: Callable[[str], None], on_step: Callable[[Report], None]):
        self.trainer, self.tell, self.on_step = trainer, tell, on_step
        self.recipe, self.out, self.processes = trainer.recipe, trainer.out, trainer.processes
        self.saved = time.monotonic()
        self.ends = math.inf if minutes is None else self.saved + 60 * minutes
        self.signal: int | None = None
        self.signalled = 0.0
        self.at_once = False
        self.journal: Journal | None = None

    def begin(self, resume: str) -> None:
        """Find the state to start from, and say what is going to happen."""
        t, held = self.trainer, [place.name for _, place in states.numbered(self.out)]
        own = resume in ("auto", "never") or Path(resume).resolve() == self.out.resolve()
        if not held:
            self.processes.on_main(self._refuse_foreign)
        if held and (resume == "never" or not own):
            raise UsageError(
                f"{self.out}: holds the state {held[-1]} of a run; leave --resume away to go on with it, or give another --out"
            )
        for warning in t.resume(None if own else Path(resume)):
            self.tell(f"warning: {warning}")
        if not own and not t.step:
            raise BadInput(f"{resume}: holds no complete state; --resume takes the output folder of a run, or one of the states in it")
        self.processes.on_main(self._open)
        counts = ", ".join(f"{t.source.count(split):,} {split}" for split in SPLITS)
        trained = sum(p.numel() for parameters in t.trained.values() for p in parameters)
        where = f"{t.device.type}, {'bfloat16' if t.bfloat16 else 'float32'}, {t.processes.count} x {torch.get_num_threads()} threads"
        self.tell(f"{self.recipe.name}: {where}; {trained:,} parameters to train; examples: {counts}")
        for note in t.source.notes():
            self.tell(f"note: {note}")
        self.tell(f"step {t.step:,} of {self.recipe.steps:,}; everything goes to {self.out}")

    def _refuse_foreign(self) -> None:
        """Raise `NotWritable` for what a first save would replace, where no state says that a run of ours made it."""
        if (self.out / "model").exists():
            raise NotWritable(f"{self.out / 'model'}: is there, and no state of a run beside it; move it away, or give another --out")
        if other := next((self.out / name for name in TABLES if foreign(self.out / name)), None):
            raise NotWritable(f"{other}: is no table of a run; move it away, or give another --out")

    def run(self) -> None:
        """Train to the end, or until asked to stop; every save exports the model too, but for the one after a signal."""
        steps, step = self.recipe.steps, self.trainer.step
        if step >= steps:
            self.tell("nothing is left to train; raise steps to go on")
            self.processes.on_main(self._save)
        for report in self._steps():
            stopping = "stop" in report.asked
            saving = stopping or "save" in report.asked or report.step == steps
            if stopping and self.signal is None and time.monotonic() < self.ends:
                self.signal = signal.SIGTERM  # another process got it
            if self.processes.main:
                self._noted(report, saving)
            if saving:
                self.processes.on_main(self._save)
            if stopping:
                break
        if self.journal is not None:
            self.journal.close()

    def _steps(self) -> Iterator[Report]:
        try:
            yield from self.trainer.run()
        except Exception as error:
            step = self.trainer.step
            if worker_died(error):
                if self.processes.count == 1:  # the others do not know
                    self._rescue()
                how = "often it was killed for want of memory: lower workers, data.batches.0.items or its size"
                raise OverLimit(f"{self.out}: a process that draws items died after step {step}; {how} ({self.trainer.kept()})") from error
            if not out_of_memory(error):
                raise
            how = "raise accumulate, or lower data.batches.0.items or its size"
            raise OverLimit(f"{self.out}: out of memory after step {step}; {how} ({self.trainer.kept()})") from error

    def _rescue(self) -> None:
        """Save, though torch interrupts it once for every worker that died."""
        for _ in range(self.recipe.workers):
            with suppress(RuntimeError):
                self.trainer.save()
                return
        self.trainer.save()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Inside, Ctrl-C and SIGTERM end the run after the step, or at once where everything is saved; a second Ctrl-C does always."""
        try:
            before = [(number, signal.signal(number, self._received)) for number in (signal.SIGINT, signal.SIGTERM)]
        except ValueError:  # not the main thread
            before = []
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        again = self.signal is not None and number == signal.SIGINT and time.monotonic() - self.signalled > TWICE
        if self.signal is None:
            self.signal, self.signalled = number, time.monotonic()
            self.trainer.asks.add("stop")
            self.tell("stopping after this step")
        if again:
            raise KeyboardInterrupt
        if self.at_once:
            raise self._stopped()

    def _stopped(self) -> InpaintError:
        t, interrupted = self.trainer, self.signal == signal.SIGINT
        what = f"stopped by {'Ctrl-C' if interrupted else 'SIGTERM'} at step {t.step} of {self.recipe.steps}"
        refusal = Cancelled if interrupted else Terminated
        return refusal(f"{what}; the state is saved, the same command (with --resume auto) goes on from there")

    def _open(self) -> None:
        self.journal = Journal(self.out, self.trainer.step, self.recipe.log_steps)
        if self.journal.note:
            self.tell(f"note: {self.journal.note}")

    def _noted(self, report: Report, saving: bool) -> None:
        assert self.journal is not None
        with room(self.out, self._bytes):
            self.journal.add(report, now=saving)
        self.on_step(report)
        now = time.monotonic()
        if now > self.ends:
            self.trainer.asks.add("stop")
        elif now - self.saved > 60 * self.recipe.save_minutes:
            self.trainer.asks.add("save")
            self.saved = now  # the next step does it, and is not to ask again

    def _save(self) -> None:
        """On the main process: the state first. What is made from it may be cut short, for it can be made again."""
        t = self.trainer
        with room(self.out, self._bytes):
            place = t.save()
            if self.signal is None:
                self.at_once = True
                try:
                    self._publish(place)
                finally:
                    self.at_once = False
        if self.signal is not None:
            raise self._stopped()
        self.saved = time.monotonic()

    def _publish(self, place: Path) -> None:
        """Validation figures, sample sheet and model folder of the averaged weights."""
        t, journal = self.trainer, self.journal
        assert journal is not None
        networks = t.averaged()
        figures = t.validate(networks)
        if figures:
            states.judge(place, figures, self.recipe.keep)
            journal.figures(t.step, figures)
        pictures = t.samples(networks)
        pixels = None if pictures is None else sheet(pictures)
        if pixels is not None:
            journal.picture(t.step, pixels)
        with replacing_folder(self.out / "model") as folder:
            t.task.export(folder, networks, card(t, figures, pixels is not None))
            if pixels is not None:
                write_bytes(folder / SHEET, png(pixels))
        said = ", ".join(f"{name} {value:.5g}" for name, value in figures.items())
        self.tell(f"step {t.step:,}: saved" + (f"; validation {said}" if said else ""))

    def _bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.trainer.tensors().values())


@contextmanager
def _fastest_kernels(wanted: bool) -> Iterator[None]:
    """Inside, cuDNN may try its kernels and take the fastest, which sampling must not: its bytes are promised."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, wanted
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def _locked(out: Path, processes: Processes) -> Iterator[None]:
    """Inside, no other run writes to `out`, and nothing is left there of processes that died. The system frees a dead owner's lock."""
    held: list[FileLock] = []
    fresh = not out.exists()

    def take() -> None:
        held.append(taken(out, "another process is training there; wait for it, or give another --out"))
        try:
            clean(out, ["model"])
        except OSError as error:
            raise NotWritable(f"{out}: {error.strerror}; choose a folder that can be written") from None

    try:
        processes.on_main(take)
        yield
    finally:
        for lock in held:
            lock.release()
        if fresh and processes.main and [path.name for path in out.glob("*")] in ([], [LOCK]):
            shutil.rmtree(out, ignore_errors=True)  # refused before anything was written
