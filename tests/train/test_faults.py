"""Training goes on from the newest complete state whatever happens: kills, damage, full disks, foreign states, infinite numbers."""

import contextlib
import itertools
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from inpaintkit.core.errors import BadInput, NotWritable
from inpaintkit.core.files import clean, replacing_folder
from inpaintkit.train import state as states
from inpaintkit.train.loop import Trainer
from inpaintkit.train.recipes import Recipe
from inpaintkit.train.session import train
from train.runs import FILE, RECIPE, everything, on, pictures, prepare, same, started, trained


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Recipe:
    prepare()
    return on(pictures(tmp_path_factory.mktemp("data")))


def two_states(recipe: Recipe, out: Path) -> tuple[Path, Path]:
    places = [trainer.save() for trainer in [Trainer(recipe, out)] for _ in itertools.islice(trainer.run(), 2)]
    return places[0], places[1]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped bit in the state": (lambda place: flip(place / states.STATE), "the checksum of state.safetensors differs"),
    "flipped bit in the recipe": (lambda place: flip(place / states.ABOUT), "the checksum of about.json differs"),
    "flipped bit in the sums": (lambda place: flip(place / states.SUMS), "differs"),
    "truncated": (lambda place: os.truncate(place / states.STATE, 1000), "the checksum of state.safetensors differs"),
    "empty sums": (lambda place: os.truncate(place / states.SUMS, 0), "the checksum of state.safetensors differs"),
    "garbled sums": (lambda place: (place / states.SUMS).write_text("no sums here"), "SHA256SUMS cannot be read"),
    "missing sums": (lambda place: (place / states.SUMS).unlink(), "SHA256SUMS: No such file or directory"),
    "missing state": (lambda place: (place / states.STATE).unlink(), "state.safetensors: No such file or directory"),
}


@pytest.fixture(scope="module")
def saved(recipe, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("saved")
    two_states(recipe, out)
    return out


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_state_falls_back_to_the_older_one_with_a_warning(recipe, saved, tmp_path, damage):
    out = shutil.copytree(saved, tmp_path / "out")
    newer = out / "step-0000002"
    do, says = DAMAGES[damage]
    do(newer)
    trainer = Trainer(recipe, out)
    (warning,) = trainer.resume()
    assert warning.startswith(f"{newer}: damaged or incomplete (")
    assert says in warning
    assert warning.endswith("); an older state is used")
    assert trainer.step == 1
    list(itertools.islice(trainer.run(), 1))
    trainer.save()  # in place of the damaged one
    again = Trainer(recipe, out)
    assert again.resume() == []
    reference = Trainer(recipe, saved)
    reference.resume()
    assert same(everything(again), everything(reference))


def test_a_damaged_state_takes_no_good_ones_place(recipe, tmp_path):
    """Of two that are kept, one that was passed over does not count: it goes at the next save."""
    out = tmp_path / "out"
    two_states(recipe, out)
    flip(out / "step-0000002" / states.STATE)
    shutil.move(out / "step-0000002", out / "step-0000001b")
    shutil.move(out / "step-0000001", out / "step-0000000")
    shutil.move(out / "step-0000001b", out / "step-0000001")  # the damaged one lies below the next save
    trainer = Trainer(replace(recipe, keep=2), out)
    assert len(trainer.resume()) == 1
    trainer.step = 2
    trainer.save()
    assert [step for step, _ in states.numbered(out)] == [0, 2]


def test_when_every_state_is_damaged_the_run_is_refused_and_nothing_is_removed(recipe, tmp_path):
    """To start anew there would remove, at the first save, what might still be mended."""
    places = two_states(recipe, tmp_path)
    for place in places:
        flip(place / states.STATE)
    with pytest.raises(BadInput, match=r"step-\d+: damaged or incomplete \(the checksum .*, as all older ones are; .*another --out$"):
        Trainer(recipe, tmp_path).resume()
    assert all(place.exists() for place in places)


def test_the_newest_states_and_the_best_one_are_kept(recipe, tmp_path):
    trainer = Trainer(recipe, tmp_path)
    for report, figure in zip(trainer.run(), (5.0, 3.0, 4.0, 3.5, None, 3.6), strict=True):
        place = trainer.save()
        if figure is not None:
            states.judge(place, {"loss": figure, "other": -report.step})
    assert [step for step, _ in states.numbered(tmp_path)] == [2, 5, 6]


def test_a_damaged_state_of_a_later_step_never_outlives_a_good_one(recipe, tmp_path):
    recipe = replace(recipe, keep=1)
    shutil.copytree(Trainer(recipe, tmp_path).save(), later := tmp_path / "step-0000004")
    flip(later / states.STATE)
    trainer = Trainer(recipe, tmp_path)
    assert len(trainer.resume()) == 1
    next(trainer.run())
    trainer.save()
    assert [step for step, _ in states.numbered(tmp_path)] == [1]
    assert Trainer(recipe, tmp_path).resume() == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lr": 1e-5}, "(recipe.lr = 0.0002 there, 1e-05 now)"),
        ({"seed": 1, "ema": 0.5}, "(recipe.ema = 0.9995 there, 0.5 now; recipe.seed = 0 there, 1 now)"),
        ({"data": replace(RECIPE.data, masks={"box": 1.0})}, "recipe.data.masks.sparse = 1.0 there, None now"),
        ({"task": replace(RECIPE.task, known_weight=0.5)}, "(recipe.task.known_weight = 1.0 there, 0.5 now)"),
    ],
)
def test_a_state_of_another_recipe_is_refused_with_the_differences(recipe, saved, change, says):
    trainer = Trainer(on(Path(recipe.data.root), **change), saved)
    fresh = everything(trainer)
    with pytest.raises(BadInput) as error:
        trainer.resume()
    assert str(error.value).startswith(f"{saved}: made by another run (")
    assert says in str(error.value)
    assert str(error.value).endswith("; give another --out")
    assert trainer.step == 0
    assert same(everything(trainer), fresh)


def test_a_state_of_other_data_is_refused_and_moved_data_are_not_other_data(recipe, saved, tmp_path):
    shutil.copytree(Path(recipe.data.root), tmp_path / "moved")
    assert Trainer(on(tmp_path / "moved"), saved).resume() == []
    with pytest.raises(BadInput, match=r"made by another run \(data\.pictures = \d+ there, \d+ now; data\.digest = "):
        Trainer(on(pictures(tmp_path / "other", 30)), saved).resume()


@pytest.mark.parametrize("value", [0.5, 1.0])
def test_a_setting_that_did_not_exist_when_the_state_was_made_counts_as_its_default(recipe, tmp_path, value):
    _, place = two_states(recipe, tmp_path)
    about = json.loads((place / states.ABOUT).read_text())
    del about["recipe"]["task"]["known_weight"], about["recipe"]["betas"]
    (place / states.ABOUT).write_text(json.dumps(about))
    (place / states.SUMS).write_text("".join(f"{states.sha256(place / name)}  {name}\n" for name in (states.STATE, states.ABOUT)))
    trainer = Trainer(replace(recipe, task=replace(recipe.task, known_weight=value)), tmp_path)
    if value == 1.0:  # the default
        assert trainer.resume() == []
    else:
        with pytest.raises(BadInput, match=r"recipe.task.known_weight = 1.0 there, 0.5 now"):
            trainer.resume()


def test_an_absurd_rate_stops_at_the_step_and_the_good_state_is_kept(recipe, tmp_path):
    train(replace(recipe, steps=1), tmp_path, device="cpu")
    wild = replace(recipe, lr=1e30, steps=4)
    about = tmp_path / "step-0000001" / states.ABOUT
    about.write_text(about.read_text().replace('"lr": 0.0002', '"lr": 1e+30'))
    (about.parent / states.SUMS).write_text("".join(f"{states.sha256(about.parent / n)}  {n}\n" for n in (states.STATE, states.ABOUT)))
    with pytest.raises(BadInput) as error:
        train(wild, tmp_path, device="cpu")
    says = "the loss or a gradient of the network is not finite at step 3; lower lr or look at the data (the state of step 1 is kept)"
    assert str(error.value) == f"{tmp_path}: {says}"
    assert [(step, states.damage(place)) for step, place in states.numbered(tmp_path)] == [(1, None)]


def test_weights_that_are_not_finite_are_never_saved(recipe, tmp_path):
    trainer = Trainer(replace(recipe, lr=1e39), tmp_path)
    trainer.save()
    next(trainer.run())  # the gradient was finite, what the step made of the weights is not
    with pytest.raises(
        BadInput, match=r"network\.\S+ is not finite after step 1; lower lr or look at the data \(the state of step 0 is kept"
    ):
        trainer.save()
    assert [step for step, _ in states.numbered(tmp_path)] == [0]


def test_numbers_that_are_not_finite_never_reach_the_weights(recipe, tmp_path):
    trainer = Trainer(recipe, tmp_path)
    next(trainer.run())
    good, draw = everything(trainer), trainer.source.draw

    def poisoned(rng: np.random.Generator, batch: int, split: str) -> dict[str, np.ndarray]:
        found = draw(rng, batch, split)
        found["x0"][0, 0, 0] = np.nan
        return found

    trainer.source.draw = poisoned  # type: ignore[method-assign]
    with pytest.raises(BadInput, match=r"not finite at step 2; lower lr or look at the data \(no state was saved before\)"):
        next(trainer.run())
    assert same(everything(trainer), good)
    with pytest.raises(BadInput, match=r"the validation figure loss_16 is not finite after step 1"):
        trainer.validate(trainer.averaged())


@contextlib.contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    """A file system of its own."""
    place.mkdir()
    if shutil.which("mount") is None or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place]).returncode:
        pytest.skip("only the system's administrator can mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


@contextlib.contextmanager
def small_files(size: int) -> Iterator[None]:
    """A limit on the size of files, which anyone can set."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full(recipe: Recipe, out: Path, says: str) -> None:
    """Going on with the run refuses with the folder and the bytes needed, and leaves what was there."""
    with pytest.raises(NotWritable) as error:
        train(recipe, out, device="cpu")
    needed = sum(tensor.nbytes for tensor in Trainer(recipe, out).tensors().values())
    assert str(error.value).startswith(f"{out}: {says}: ")
    assert " bytes are needed, " in str(error.value)
    assert abs(int(str(error.value).split(": ")[2].split(" ")[0].replace(",", "")) - 2 * needed) < 0.01 * 2 * needed  # moments came
    assert error.value.exit_code == 6


@pytest.mark.parametrize("kind", ["disk", "files"])
def test_a_full_disk_while_saving_is_one_line_and_what_was_saved_is_intact(recipe, tmp_path, kind):
    train(replace(recipe, steps=1), tmp_path / "first", device="cpu")
    size = (tmp_path / "first" / "step-0000001" / states.STATE).stat().st_size
    out, longer = tmp_path / "out", replace(recipe, steps=2)
    taken = sum(path.stat().st_size + 4096 for path in (tmp_path / "first").rglob("*"))
    with small_disk(out, taken + size // 2) if kind == "disk" else contextlib.nullcontext():
        shutil.copytree(tmp_path / "first", out, dirs_exist_ok=True)
        if kind == "disk":
            full(longer, out, "No space left on device")
        else:
            with small_files(size - 1000):
                full(longer, out, "File too large")
        assert [(step, states.damage(place)) for step, place in states.numbered(out)] == [(1, None)]
        assert not list(out.glob("*.part")) + list(out.glob(".*.part"))
        if kind == "disk":
            subprocess.run(["mount", "-o", f"remount,size={10 * taken}", out], check=True)
        train(longer, out, device="cpu")
        train(longer, tmp_path / "straight", device="cpu")
        assert final(out, 2) == final(tmp_path / "straight", 2)


def test_what_killed_processes_left_is_cleaned_and_finished(tmp_path):
    with replacing_folder(tmp_path / "model") as folder:
        (folder / "a").write_text("old")
    kept = [".hidden", "step-0000001.part", ".download.part", "x.old"]
    for name in kept:
        (tmp_path / name).mkdir()
    (tmp_path / ".log.csv.ab12_9zz.part").write_text("half a log")
    (tmp_path / ".step-0000002.abcdefgh.part").mkdir()
    (tmp_path / ".step-0000002.abcdefgh.part" / "state").write_text("half a state")
    os.rename(tmp_path / "model", tmp_path / ".model.old")  # killed between the two renames
    (tmp_path / ".model.new").mkdir()
    (tmp_path / ".model.new" / "a").write_text("new")
    clean(tmp_path, ["model"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "model"])
    assert (tmp_path / "model" / "a").read_text() == "new"
    (tmp_path / ".model.old").mkdir()  # killed before the old one was gone
    clean(tmp_path, ["model"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "model"])
    with contextlib.suppress(ZeroDivisionError), replacing_folder(tmp_path / "model") as folder:
        (folder / "a").write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "model" / "a").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "model"])


def hold(out: Path) -> None:
    with FileLock(out / ".lock"):
        (out / "held").touch()
        time.sleep(60)


def test_a_second_process_is_refused_until_the_first_one_dies(recipe, tmp_path):
    owner = started(hold, tmp_path)
    try:
        wait(lambda: (tmp_path / "held").exists(), owner)
        with pytest.raises(NotWritable) as error:
            train(recipe, tmp_path, device="cpu")
        assert str(error.value) == f"{tmp_path}: another process is training there; wait for it, or give another --out"
        assert not list(tmp_path.glob("step-*"))
    finally:
        owner.kill()
        owner.join()
    assert train(replace(recipe, steps=1), tmp_path, device="cpu") == tmp_path / "model"


def test_an_output_that_cannot_be_a_folder_is_refused(recipe, tmp_path):
    (tmp_path / "file").write_text("")
    for out, why in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "out", "Not a directory")):
        with pytest.raises(NotWritable) as error:
            train(recipe, out, device="cpu")
        assert str(error.value) == f"{out}: {why}; choose a folder that can be written"


def wait(condition: Callable[[], bool], process: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        assert process.is_alive()
        time.sleep(0.001)


def final(out: Path, step: int) -> str:
    """The checksum of the state of a step, which is complete."""
    place = out / f"step-{step:07d}"
    assert states.damage(place) is None
    return states.sha256(place / states.STATE)


def test_killed_runs_end_with_the_bytes_of_an_uninterrupted_one(recipe, tmp_path):
    recipe, out = replace(recipe, steps=6, save_minutes=1e-9), tmp_path / "killed"
    straight = started(trained, recipe, tmp_path / "straight")
    for moment in (".step-*.part", "..model.new.*.part"):  # in the middle of saving a state, and of exporting a model
        process = started(trained, recipe, out)
        wait(lambda: any(out.glob(moment)), process)  # noqa: B023
        process.kill()
        process.join()
        assert process.exitcode == -9
    last = started(trained, recipe, out)
    for process in (straight, last):
        process.join(60)
        assert process.exitcode == 0
    assert final(out, 6) == final(tmp_path / "straight", 6)
    assert (out / "model" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == (
        tmp_path / "straight" / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    ).read_bytes()
    assert not list(out.glob(".*.part"))
    rows = [int(line.split(",")[0]) for line in (out / "log.csv").read_text().splitlines()[1:]]
    assert rows == sorted(set(rows))
    assert rows[-1] == 6


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_nothing(recipe, tmp_path):
    """`inpaintkit train` is killed in the middle of whatever it does, saving more than half of the time."""
    steps, kills, rng = 400, 20, random.Random(0)
    sets = [f"steps={steps}", "save_minutes=1e-9", f"data.root={json.dumps(recipe.data.root)}", "workers=1", "validation_items=1"]
    command = [
        sys.executable,
        "-m",
        "inpaintkit",
        "train",
        str(FILE),
        *(part for each in sets for part in ("--set", each)),
        "--device",
        "cpu",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--out", tmp_path / "straight", "--set", "save_minutes=1e9"], check=True, env=environment)
    out, halves, lives = tmp_path / "killed", 0, []
    for _ in range(kills):
        before = max((step for step, _ in states.numbered(out)), default=0)
        process = subprocess.Popen([*command, "--out", out], env=environment, stderr=subprocess.DEVNULL)
        while max((step for step, _ in states.numbered(out)), default=0) == before:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1.5))
        assert process.poll() is None, "it ended before it was killed: more steps are needed"
        process.kill()
        process.wait()
        halves += any(out.glob(".*.part"))
        lives.append(max(step for step, _ in states.numbered(out)) - before)
    print(f"{halves} of {kills} kills in the middle of a save; steps gained by each life: {lives}")
    assert halves >= 2
    subprocess.run([*command, "--out", out, "--set", "save_minutes=1e9"], check=True, env=environment)
    assert final(out, steps) == final(tmp_path / "straight", steps)
