"""A run from recipe to model folder: what it leaves, how it goes on, how it stops, and how several processes make one run."""

import csv
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from inpaintkit import Inpainter
from inpaintkit.core.errors import BadInput, Cancelled, NotWritable, OverLimit, Terminated, UsageError
from inpaintkit.train import session
from inpaintkit.train import state as states
from inpaintkit.train.loop import Report, Trainer
from inpaintkit.train.recipes import Recipe
from inpaintkit.train.session import train
from inpaintkit.train.tasks.denoise import Denoise
from train.runs import FILE, everything, on, pictures, prepare, same, together


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Recipe:
    prepare()
    return on(pictures(tmp_path_factory.mktemp("data")), log_steps=2)


@dataclass
class Run:
    out: Path
    model: Path | None
    told: list[str]
    reports: list[Report]


def run(recipe: Recipe, out: Path, **options: Any) -> Run:
    """`train` on the CPU, and what it said."""
    told: list[str] = []
    reports: list[Report] = []
    return Run(out, train(recipe, out, device="cpu", tell=told.append, on_step=reports.append, **options), told, reports)


@pytest.fixture(scope="module")
def done(recipe, tmp_path_factory) -> Run:
    """A run of five steps in two sittings, the first three saved one by one."""
    out = tmp_path_factory.mktemp("runs") / "done"
    run(replace(recipe, steps=3, save_minutes=1e-9), out)
    return run(replace(recipe, steps=5), out)


def test_a_save_that_is_due_is_made_once(recipe, tmp_path, monkeypatch):
    """By this clock a step takes a minute. Five minutes are over after the sixth one, whose successor saves."""
    minute, made = [0.0], []
    monkeypatch.setattr(session.time, "monotonic", lambda: 60 * minute[0])
    monkeypatch.setattr(session._Session, "_save", lambda self: made.append(self.trainer.step) or setattr(self, "saved", 60 * minute[0]))

    def passed(report: Report) -> None:
        minute[0] = report.step

    train(replace(recipe, steps=18, save_minutes=5), tmp_path / "out", device="cpu", tell=lambda line: None, on_step=passed)
    assert made == [7, 14, 18]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_says_what_is_going_to_happen(recipe, done):
    parameters = sum(p.numel() for p in recipe.task.build(0)["network"].parameters())
    source = recipe.data.open()
    counts = ", ".join(f"{source.count(split)} {split}" for split in ("train", "validation", "test"))
    start = f"tiny: cpu, float32, 1 x {torch.get_num_threads()} threads; {parameters:,} parameters to train; examples: {counts}"
    assert done.told[:2] == [start, f"step 3 of 5; everything goes to {done.out}"]
    assert [report.step for report in done.reports] == [4, 5]
    assert done.told[2].startswith("step 5: saved; validation loss_16 ")


def test_the_log_has_every_step_once_and_validation_every_save(done):
    log, validation = rows(done.out / "log.csv"), rows(done.out / "validation.csv")
    assert [int(row["step"]) for row in log] == [2, 3, 4, 5]
    assert list(log[0]) == ["step", "items", "loss_network", "rate", "norm", "seconds"]
    assert float(log[3]["loss_network"]) == pytest.approx(done.reports[1].losses["network"], rel=1e-5)
    assert int(log[3]["items"]) == done.reports[1].items
    assert [int(row["step"]) for row in validation] == [2, 3, 5]
    assert all(0 < float(row["loss_16"]) < 10 for row in validation)


def test_tensorboard_shows_losses_figures_and_a_sample_sheet(done):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(done.out / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"train/loss_network", "train/rate", "train/norm", "validation/loss_16"} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("train/rate")] == [2, 3, 4, 5]
    assert [event.step for event in events.Images("samples")] == [2, 3, 5]


def test_the_model_folder_is_the_moving_average_with_card_and_samples(recipe, done):
    trainer = Trainer(replace(recipe, steps=5), done.out)
    trainer.resume()
    pipe = Inpainter.from_pretrained(str(done.model), dtype="float32")
    weights = pipe.model.network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in trainer.averages["network"].items())
    with Image.open(done.model / "samples.png") as sheet:
        assert np.array(sheet).std() > 0
        assert sheet.size[0] % 16 == sheet.size[1] % 16 == 0
    card = (done.model / "README.md").read_text()
    front, text = card.removeprefix("---\n").split("\n---\n", 1)
    assert 'license_name: "made from random numbers: no terms"' in front
    assert json.loads(text.split("```json\n")[1].split("\n```")[0])["task"]["network"]["prediction"] == "x0"
    figures = rows(done.out / "validation.csv")[-1]
    for said in (
        "# tiny",
        "![made from held-out examples, without selection](samples.png)",
        "Task `denoise`; step 5 of 5, ",
        f"{trainer.items:,} items seen",
        "The weights are moving averages (decay 0.9995).",
        "- `photos`",
        "made from random numbers: no terms",
        "Makes noise of noise; faces are not completed.",
        f"loss_16: {float(figures['loss_16']):.5g}",
    ):
        assert said in text


def test_two_sittings_are_one_run(recipe, done, tmp_path):
    straight = run(replace(recipe, steps=5), tmp_path)
    a, b = (place.out / "step-0000005" / states.STATE for place in (straight, done))
    assert a.read_bytes() == b.read_bytes()
    assert (straight.model / "unet" / "config.json").read_bytes() == (done.model / "unet" / "config.json").read_bytes()


def test_a_finished_run_says_so_and_makes_its_model_again(recipe, done):
    weights = done.model / "unet" / "diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    again = run(replace(recipe, steps=5), done.out)
    assert "nothing is left to train; raise steps to go on" in again.told
    assert weights.read_bytes() == before


def test_never_and_a_folder_are_other_ways_to_start(recipe, done, tmp_path):
    for resume, out in (("never", done.out), (str(done.out), tmp_path / "taken")):
        if resume != "never":
            run(replace(recipe, steps=1), out)
        with pytest.raises(UsageError) as error:
            run(replace(recipe, steps=6), out, resume=resume)
        name = states.numbered(out)[-1][1].name
        assert str(error.value) == f"{out}: holds the state {name} of a run; leave --resume away to go on with it, or give another --out"
    branch = run(replace(recipe, steps=6), tmp_path / "branch", resume=str(done.out))
    assert [report.step for report in branch.reports] == [6]
    assert [step for step, _ in states.numbered(branch.out)] == [6]
    (tmp_path / "empty").mkdir()
    for nothing in (tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(BadInput) as error:
            run(recipe, tmp_path / "new", resume=str(nothing))
        assert str(error.value).startswith(f"{nothing}: holds no complete state; --resume takes the output folder of a run, or one of")
    place = states.numbered(branch.out)[-1][1]
    assert (place / states.STATE).stat().st_mode == (place / states.ABOUT).stat().st_mode
    older = done.out / f"step-{5:07d}"
    alone = run(replace(recipe, steps=5), tmp_path / "alone", resume=str(older))  # the model of that state
    assert "step 5 of 5" in " ".join(alone.told)
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (alone.model / weights).read_bytes() == (done.model / weights).read_bytes()


@pytest.mark.parametrize("name", ["model", "log.csv", "validation.csv"])
def test_what_no_run_made_is_not_replaced(recipe, tmp_path, name):
    own = tmp_path / name / "mine.txt" if name == "model" else tmp_path / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("epoch,accuracy\n1,0.5\n")
    with pytest.raises(NotWritable, match=rf"{name}: is .*; move it away, or give another --out"):
        run(replace(recipe, steps=1), tmp_path)
    assert own.read_text() == "epoch,accuracy\n1,0.5\n"


def test_a_model_whose_states_were_removed_is_not_replaced(recipe, tmp_path):
    model = run(replace(recipe, steps=1), tmp_path).model
    for _, place in states.numbered(tmp_path):
        shutil.rmtree(place)
    before = (model / "README.md").read_bytes()
    with pytest.raises(NotWritable, match="no state of a run beside it"):
        run(replace(recipe, steps=2), tmp_path)
    assert (model / "README.md").read_bytes() == before


@pytest.mark.skipif(sys.platform != "linux", reason="workers are found among the children of this process")
def test_a_worker_that_died_is_told_and_nothing_is_lost(recipe, tmp_path):
    def kill(report):
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(
        OverLimit, match=r"a process that draws items died after step \d+; .*lower workers.*\(the state of step \d+ is kept\)"
    ):
        train(replace(recipe, steps=60, workers=1), tmp_path, device="cpu", on_step=kill)
    assert states.newest(tmp_path)[0][0] >= 1


def test_a_damaged_state_is_told(recipe, tmp_path):
    for steps in (1, 2):
        run(replace(recipe, steps=steps), tmp_path)
    (tmp_path / "step-0000002" / states.SUMS).unlink()
    (warning,) = (text for text in run(replace(recipe, steps=2), tmp_path).told if text.startswith("warning: "))
    assert "step-0000002: damaged or incomplete" in warning


def test_validation_has_one_row_for_a_step_however_often_a_finished_run_is_begun(recipe, tmp_path):
    for _ in range(2):
        run(replace(recipe, steps=1), tmp_path)
    assert len((tmp_path / "validation.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("of CUDA"), RuntimeError("can't allocate memory: 9 bytes")])
def test_running_out_of_memory_says_what_takes_less_and_what_is_kept(recipe, tmp_path, monkeypatch, error):
    def full(self, role, networks, batch):
        raise error

    run(replace(recipe, steps=1), tmp_path)
    monkeypatch.setattr(type(recipe.task), "loss", full)
    with pytest.raises(OverLimit, match=r"out of memory after step 1; raise accumulate, or lower .*\(the state of step 1 is kept\)"):
        run(replace(recipe, steps=2), tmp_path)


def test_a_prefix_that_no_picture_has_is_told(recipe, tmp_path):
    data = replace(recipe.data, prefix_weights={"0": 0.5, "clothingg": 0.3})
    told = run(replace(recipe, data=data, steps=1), tmp_path).told
    assert [text for text in told if "prefix_weights" in text] == ["note: data.prefix_weights.clothingg: no picture's name begins so"]


def test_pictures_that_cannot_be_read_are_named(recipe, tmp_path):
    root = pictures(tmp_path / "data")
    (root / "photos" / "bad.jpg").write_bytes(b"no picture")
    (root / "photos" / "small.png").write_bytes((root / "photos" / "00.png").read_bytes())
    data = replace(recipe.data, root=str(root))
    with pytest.raises(BadInput, match=r"bad.jpg.*bad = \"skip\""):
        run(replace(recipe, data=data, steps=1), tmp_path / "out")
    told = run(replace(recipe, data=replace(data, bad="skip"), steps=1), tmp_path / "out").told
    assert any(text.startswith("note: left out, not a readable picture") and "bad.jpg" in text for text in told)


def test_so_many_minutes_end_in_order(recipe, tmp_path):
    stopped = run(replace(recipe, steps=10**6), tmp_path, minutes=1e-9)
    assert [report.step for report in stopped.reports] == [1, 2]
    assert stopped.model is not None
    assert (stopped.model / "README.md").exists()
    assert [step for step, _ in states.numbered(tmp_path)] == [2]


@pytest.mark.parametrize(("number", "refusal", "name"), [(signal.SIGINT, Cancelled, "Ctrl-C"), (signal.SIGTERM, Terminated, "SIGTERM")])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(recipe, tmp_path, number, refusal, name):
    before = signal.getsignal(number)
    reports: list[Report] = []

    def on_step(report: Report) -> None:
        reports.append(report)
        if report.step == 2:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)  # a launcher's, at once

    with pytest.raises(refusal) as error:
        train(recipe, tmp_path, device="cpu", on_step=on_step)
    says = f"stopped by {name} at step 3 of 6; the state is saved, the same command (with --resume auto) goes on from there"
    assert str(error.value) == says
    assert [report.step for report in reports] == [1, 2, 3]
    assert [step for step, _ in states.numbered(tmp_path)] == [3]
    assert not (tmp_path / "model").exists()  # that would take longer than one may wait
    assert signal.getsignal(number) is before
    run(recipe, tmp_path)
    run(recipe, tmp_path / "straight")
    assert same_state(tmp_path, tmp_path / "straight", 6)


def same_state(a: Path, b: Path, step: int) -> bool:
    first, second = ((out / f"step-{step:07d}" / states.STATE).read_bytes() for out in (a, b))
    return first == second


@dataclass(frozen=True)
class Interrupted(Denoise):
    """Ctrl-C comes while it is validated."""

    def validate(self, networks: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGINT)
        return super().validate(networks, batch)


def test_a_signal_while_a_saved_model_is_looked_at_stops_at_once(recipe, tmp_path):
    task = Interrupted(network=recipe.task.network, unet=recipe.task.unet)
    with pytest.raises(Cancelled, match="at step 2 of 6"):
        run(replace(recipe, task=task, save_minutes=1e-9), tmp_path)
    assert [step for step, _ in states.numbered(tmp_path)] == [2]
    assert not (tmp_path / "model").exists()


def test_a_second_ctrl_c_ends_at_once(recipe, tmp_path):
    def on_step(report: Report) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigtimedwait([], 1.1)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path, device="cpu", on_step=on_step)
    assert states.numbered(tmp_path) == []


def test_without_tensorboard_there_is_the_log_and_a_note(recipe, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as if it were not installed
    told = run(replace(recipe, steps=1), tmp_path).told
    assert "note: TensorBoard is not installed, so there is only log.csv; pip install tensorboard" in told
    assert not (tmp_path / "tensorboard").exists()
    assert len(rows(tmp_path / "log.csv")) == 1


def part_of_two(recipe: Recipe, out: Path) -> None:
    """One of two processes: train, and leave the weights to be compared; then look for a state in a folder of its own."""
    rank, trainer = os.environ["RANK"], Trainer(recipe, out, "cpu")
    assert trainer.processes.count == 2
    for report in trainer.run():
        if rank == "1" and report.step == 2:
            trainer.asks.add("save")
        assert ("save" in report.asked) == (report.step == 3)
    torch.save(everything(trainer), out / f"{rank}.pt")
    own = out / rank
    if rank == "1":
        states.write(own, 1, trainer.tensors(), trainer.about() | {"items": 1, "machine": trainer.machine()})
    with pytest.raises(BadInput, match=r"the processes find the states of steps \[0, 1\]; let all of them see the same folder"):
        Trainer(recipe, own, "cpu").resume()
    trainer.processes.close()


def test_two_processes_make_the_run_of_one(recipe, tmp_path):
    for process in together(2, part_of_two, recipe, tmp_path):
        process.join(100)
        assert process.exitcode == 0
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in "01")
    assert same(first, second)
    alone = Trainer(recipe, tmp_path / "alone", "cpu")
    list(itertools.islice(alone.run(), recipe.steps))
    weights = everything(alone)
    # the same gradients but for the order of float32 sums; see the test of accumulation
    off = torch.cat([(weights[key] - first[key]).flatten() for key in weights if ".net." in key]).abs()
    assert off.max() < 2 * 2e-4 * recipe.steps
    assert off.mean() < 2e-3 * 2e-4 * recipe.steps
    moved = torch.cat([(weights[key] - v).flatten() for key, v in everything(Trainer(recipe, tmp_path, "cpu")).items() if ".net." in key])
    assert moved.abs().mean() > 100 * off.mean()


def session_of_two(recipe: Recipe, out: Path, stop: bool) -> None:
    """One of two processes; the one that is not the main one gets SIGTERM."""
    if stop and os.environ["RANK"] == "1":
        asked = Trainer._average

        def average(trainer: Trainer) -> None:
            asked(trainer)
            if trainer.step == 2:
                os.kill(os.getpid(), signal.SIGTERM)

        Trainer._average = average  # type: ignore[method-assign]
    made = train(recipe, out, device="cpu")
    assert made == (out / "model" if os.environ["RANK"] == "0" else None)


def test_two_processes_stop_together_and_go_on_together(recipe, tmp_path):
    stopped = together(2, session_of_two, recipe, tmp_path, True)
    for process in stopped:
        process.join(100)
    assert [process.exitcode for process in stopped] == [143, 143]
    assert [step for step, _ in states.numbered(tmp_path)] == [3]
    done = together(2, session_of_two, recipe, tmp_path, False)
    for process in done:
        process.join(100)
    assert [process.exitcode for process in done] == [0, 0]
    assert [int(row["step"]) for row in rows(tmp_path / "log.csv")] == [2, 3, 4, 6]
    assert states.numbered(tmp_path)[-1][0] == 6


def test_a_failure_of_one_process_ends_both(recipe, tmp_path):
    (tmp_path / "file").write_text("")
    both = together(2, session_of_two, recipe, tmp_path / "file", False)
    for process in both:
        process.join(100)
    assert [process.exitcode for process in both] == [6, 6]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_the_launchers_start_a_run_of_two_processes(recipe, tmp_path, launcher):
    bin = Path(sys.executable).parent
    start = {
        "torchrun": [bin / "torchrun", "--nproc-per-node", "2", "-m", "inpaintkit"],
        "accelerate": [bin / "accelerate", "launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "-m", "inpaintkit"],
    }[launcher]
    command = [*start, "train", FILE, "--set", f"data.root={json.dumps(recipe.data.root)}", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == str(tmp_path / "out" / "model")
    assert "2 x 1 threads" in done.stderr
    assert (tmp_path / "out" / "model" / "README.md").exists()
