"""One row's picture: filled by a model or a classical filler, measured, and what it took."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inpaintkit.core.errors import BadInput
from inpaintkit.data.images import from_array
from inpaintkit.evaluate.grid import Grid, Job
from inpaintkit.evaluate.metrics import METRICS, changed, measured, seam
from inpaintkit.evaluate.strips import Strip
from inpaintkit.evaluate.suites import Cell
from inpaintkit.evaluate.tasks import GREY
from inpaintkit.pipeline.fill import Inpainter


@dataclass(frozen=True)
class Made:
    """A filled picture and its cost."""

    pixels: np.ndarray
    """(H, W, 3) uint8."""
    seconds: float
    nfe: int = 0
    nfe_backward: int = 0
    memory: float | None = None
    strip: Strip | None = None


def filled(grid: Grid, job: Job, truth: np.ndarray, hole: np.ndarray) -> Made:
    """The picture with its hole filled; what fills never sees the truth."""
    cell = job.cell
    if cell.model is None:
        return _classical(grid, cell, truth, hole)
    pipe = grid.models[cell.model]
    first = job.seed == grid.suite.seeds[0] and job.picture in list(grid.pictures)[: grid.suite.strips]
    strip = Strip((truth.shape[1], truth.shape[0])) if first else None
    _forget_peak(pipe)
    result, record = cell.task.fill(replace(grid.given(job), on_step=strip))
    return Made(result.pixels, record["seconds"], record["nfe"], record.get("nfe_backward", 0), _peak(pipe), strip)


def _classical(grid: Grid, cell: Cell, truth: np.ndarray, hole: np.ndarray) -> Made:
    assert cell.filler is not None
    given = np.where(hole[:, :, None], np.uint8(GREY), truth)
    clock = time.perf_counter()
    values = grid.fillers[cell.filler](given.astype(np.float32) / np.float32(255), hole)
    seconds = time.perf_counter() - clock
    if not np.isfinite(values[hole]).all():
        raise BadInput(f"{cell.filler}: gave values that are not finite")
    pixels = np.where(hole[:, :, None], (values.clip(0, 1) * 255).round().astype(np.uint8), truth)
    return Made(pixels, round(seconds, 4))


def measure(grid: Grid, pixels: np.ndarray, truth: np.ndarray, hole: np.ndarray) -> dict[str, Any]:
    """The metrics of a result (H, W, 3) uint8."""
    one, other = (from_array(array).tensor()[0] for array in (pixels, truth))
    names = [name for name in grid.suite.metrics if name in METRICS]
    return {
        "metrics": measured(one, other, hole, names, grid.networks),
        "seam": float(seam(one, other, hole)),
        "changed": changed(pixels, truth, hole),
    }


def _forget_peak(pipe: Inpainter) -> None:
    if pipe.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(pipe.device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak counts from here
    except OSError:
        return


def _peak(pipe: Inpainter) -> float | None:
    """MiB since `_forget_peak`."""
    if pipe.device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(pipe.device) / 2**20, 1)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1)
    except (OSError, StopIteration):
        return None
