"""What a run leaves to be read: `log.csv`, and events for TensorBoard where that is installed."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inpaintkit.core.files import write_bytes
from inpaintkit.train.loop import Report

TABLES = ("log.csv", "validation.csv")


def foreign(path: Path) -> bool:
    """Whether something else is where a table of a run would be."""
    if not path.exists():
        return False
    try:
        return path.read_bytes()[:4] not in (b"", b"step")
    except OSError:
        return True


class Journal:
    """`log.csv`, means over the steps since the row before; `validation.csv`; events. In a folder, from `step` on: what is there
    of later steps is dropped, it is about to come again.

    `note` says why there are no events, when there are none.
    """

    def __init__(self, folder: Path, step: int, every: int):
        self.every = every
        self.steps, self.validation = (Table(folder / name, step) for name in TABLES)
        self.pending: list[Report] = []
        self.writer: Any = None
        self.note = ""
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        except ImportError:
            self.note = "TensorBoard is not installed, so there is only log.csv; pip install tensorboard"

    def add(self, report: Report, now: bool = False) -> None:
        """Note a step; a row is written every so many steps, and `now`."""
        self.pending.append(report)
        if not now and report.step % self.every:
            return
        names = dict.fromkeys(name for each in self.pending for name in each.losses)
        losses = {name: [each.losses[name] for each in self.pending if name in each.losses] for name in names}
        values = {f"loss_{name}": sum(found) / len(found) for name, found in losses.items()} | {"rate": report.rate}
        for name in ("norm", "seconds"):
            values[name] = sum(getattr(each, name) for each in self.pending) / len(self.pending)
        self.pending = []
        self._write(self.steps, "train", report.step, {"items": report.items} | values)

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Note validation figures."""
        if figures:
            self._write(self.validation, "validation", step, figures)

    def picture(self, step: int, pixels: np.ndarray) -> None:
        """`(H, W, 3)` uint8: the sample sheet."""
        if self.writer is not None:
            self.writer.add_image("samples", pixels, step, dataformats="HWC")
            self.writer.flush()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()

    def _write(self, table: "Table", group: str, step: int, values: Mapping[str, float]) -> None:
        table.add(
            {"step": str(step)} | {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in values.items()}
        )
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(f"{group}/{name}", value, step)
            self.writer.flush()


class Table:
    """A CSV file that grows by rows, one a step, and now and then by a column. Rows after `step` are dropped, and a half-written one."""

    def __init__(self, path: Path, step: int):
        self.path = path
        rows = [row for row in self._rows() if int(row["step"]) <= step] if path.exists() else []
        self._last = rows[-1]["step"] if rows else None
        self._write(rows)

    def add(self, row: dict[str, str]) -> None:
        if row["step"] == self._last:  # of a run that had ended and was begun again
            return
        self._last = row["step"]
        if new := [name for name in row if name not in self.columns]:
            self._write(self._rows(), [*self.columns, *new])
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns, restval="").writerow(row)

    def _rows(self) -> list[dict[str, str]]:
        with self.path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if None not in row.values() and (row.get("step") or "").isdecimal()]

    def _write(self, rows: list[dict[str, str]], columns: list[str] | None = None) -> None:
        self.columns = columns or (list(rows[0]) if rows else ["step"])
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_bytes(self.path, text.getvalue().encode())
