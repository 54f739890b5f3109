"""Recipes: read strictly, every slip named with the file, the line and what was probably meant."""

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.settings import checked, dumped
from inpaintkit.evaluate import extractors
from inpaintkit.models.unet import Condition
from inpaintkit.train.fields import ArrayData
from inpaintkit.train.recipes import PASSING, Recipe, as_of_today, lasting, read
from inpaintkit.train.sources import Batch, Folder, PictureSource
from inpaintkit.train.tasks.gan import Gan
from train.runs import on, pictures

SHIPPED = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
TINY = Path(__file__).with_name("tiny.toml")
TEXT = TINY.read_text()


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def refusal(path: Path, *sets: str, kind: type = UsageError) -> str:
    with pytest.raises(kind) as error:
        read(path, sets)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("path", [*SHIPPED, TINY], ids=lambda path: path.stem)
def test_every_shipped_recipe_is_read_and_survives_a_round_trip(path):
    recipe = read(path)
    assert recipe.name == path.stem
    assert checked(Recipe, dumped(recipe)) == recipe
    assert as_of_today(lasting(recipe)) == lasting(recipe)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_builds_its_networks(path, tmp_path):
    task = read(path).task
    if isinstance(task, Gan) and task.perceptual_weight:
        save_file(dict(extractors.EXTRACTORS["squeezenet1_1"]().maps.state_dict()), tmp_path / "features.safetensors")
        task = replace(task, features=tmp_path / "features.safetensors")
    about = {"channels": 1, "cond_channels": 2, "size": 32, "masked": True, "redrawn": False, "units": "K"}
    about |= {"mean": [0.0], "std": [1.0], "cond_mean": [0.0, 0.0], "cond_std": [1.0, 1.0]}
    networks = task.fitted(about if isinstance(read(path).data, ArrayData) else {}).build(0)
    assert set(task.roles) <= networks.keys()
    assert all(torch.isfinite(parameter).all() for network in networks.values() for parameter in network.parameters())


@pytest.mark.parametrize("order", [[], ["mask", "colors"], ["x_t", "x_t"]])
def test_a_network_sees_the_noisy_picture_and_every_input_once(order):
    with pytest.raises(UsageError, match="names x_t, and each of its parts once"):
        checked(Condition, {"order": order})


def test_settings_are_put_over_those_of_the_file():
    sets = ["steps=3", "name=other", "data.batches.0.items=8", "task.unet.dropout=0.5", "data.masks={ box = 1 }", "betas=[0.0, 0.9]"]
    recipe = read(TINY, sets)
    assert (recipe.steps, recipe.name, recipe.data.batches[0].items) == (3, "other", 8)
    assert (recipe.task.unet["dropout"], recipe.data.masks, recipe.betas) == (0.5, {"box": 1.0}, (0.0, 0.9))
    assert recipe.data.batches[1] == read(TINY).data.batches[1]
    assert read(TINY, ["notes=a = b"]).notes == "a = b"
    assert read(TINY, ["data.root=/some where"]).data.root == "/some where"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("steps", "--set steps: give key=value, for example --set lr=1e-4"),
        ("=3", "--set =3: give key=value, for example --set lr=1e-4"),
        ("steps.more=3", "--set steps.more=3: the recipe has no place 'steps.more'"),
        ("data.batches.7.items=3", "--set data.batches.7.items=3: the recipe has no place 'data.batches.7.items'"),
        ("data.batches.first.items=3", "--set data.batches.first.items=3: the recipe has no place 'data.batches.first.items'"),
    ],
)
def test_a_setting_without_a_place_is_refused(given, says):
    assert refusal(TINY, given) == says


def test_a_setting_given_is_named_like_one_in_the_file():
    assert refusal(TINY, "data.batches.0.itmes=3") == (
        "--set data.batches.0.itmes=3: Recipe has no option 'data.batches.0.itmes'; did you mean 'data.batches.0.items'?"
    )
    assert refusal(TINY, "steps=9", "steps=0") == "--set steps=0: steps = 0: input should be greater than or equal to 1"
    assert refusal(TINY, "data.masks={ box = -1 }").startswith("--set data.masks={ box = -1 }: data.masks.box = -1: ")


SLIPS = [
    ("steps = 6", "stpes = 6", "Recipe has no option 'stpes'; did you mean 'steps'?"),
    ("warmup = 0", "lr = -1.0", "lr = -1.0: input should be greater than 0"),
    ("decay = 0.0", "ema = 1.0", "ema = 1.0: input should be less than 1"),
    ("decay = 0.0", "seed = -1", "seed = -1: input should be greater than or equal to 0"),
    ('name = "tiny"', 'name = "../tiny"', "name = '../tiny': string should match pattern"),
    ('kind = "denoise"', 'kind = "denoize"', "task.kind = 'denoize': input should be one of 'control', 'damage', 'denoise', 'gan'"),
    ('kind = "denoise"', "", "task.kind is missing: it says which kind of task this is"),
    ("[task.network]", "[task.netwrok]", "Recipe has no option 'task.netwrok'; did you mean 'task.network'?"),
    ('kind = "denoise"', 'kind = "denoise"\nwieghting = "plain"', "Recipe has no option 'task.wieghting'; did you mean 'task.weighting'?"),
    (
        'kind = "denoise"',
        'kind = "denoise"\nschedule = "wavy"',
        "task.schedule = 'wavy': input should be 'linear', 'cosine' or 'scaled_linear'",
    ),
    ('prediction = "x0"', 'predicts = "x0"', "Recipe has no option 'task.network.predicts'; did you mean 'task.network.prediction'?"),
    (
        "condition = {}",
        "condition = { fil = 1 }",
        "Recipe has no option 'task.network.condition.fil'; did you mean 'task.network.condition.fill'?",
    ),
    ("split = [", "splt = [", "Recipe has no option 'data.splt'; did you mean 'data.split'?"),
    ('sources = [{ path = "photos" }]', "sources = []", "data.sources = []: tuple should have at least 1 item"),
    ('sources = [{ path = "photos" }]', 'sources = [{ paht = "photos" }]', "'data.sources.0.paht'; did you mean 'data.sources.0.path'?"),
    ("share = 0.5", "shrae = 0.5", "'data.batches.1.shrae'; did you mean 'data.batches.1.share'?"),
    ("items = 2", "items = 0", "data.batches.1.items = 0: input should be greater than or equal to 1"),
]


@pytest.mark.parametrize(("right", "wrong", "says"), SLIPS, ids=[wrong for _, wrong, _ in SLIPS])
def test_a_slip_is_named_with_its_line(tmp_path, right, wrong, says):
    assert TEXT.count(right) == 1
    text = TEXT.replace(right, wrong)
    tomllib.loads(text)
    error = refusal(written(tmp_path, text))
    assert error.startswith(f"{tmp_path / 'recipe.toml'}, line ")
    assert says in error
    line = int(error.split(", line ")[1].split(":")[0])
    assert (wrong.split("\n")[-1] or "[task]") in text.splitlines()[line - 1]


def test_a_slip_inside_a_list_over_several_lines_is_named_with_its_line(tmp_path):
    text = TEXT.replace('sources = [{ path = "photos" }]', 'sources = [\n { path = "a" },\n { path = "b", wieght = 2.0 },\n]')
    error = refusal(written(tmp_path, text))
    assert "'data.sources.1.wieght'; did you mean 'data.sources.1.weight'?" in error
    assert "wieght" in text.splitlines()[int(error.split(", line ")[1].split(":")[0]) - 1]


@pytest.mark.parametrize(
    ("set", "says"),
    [
        ("data.masks={ boxx = 1.0 }", "data.masks.boxx: no such kind of mask; did you mean 'box'?"),
        ("data.masks={ box = 0.0 }", "the shares of data.masks, and those of data.batches, must not all be 0"),
        ("data.split=[0.5, 0.5, 0.5]", "shares = (0.5, 0.5, 0.5): not a split"),
        ("data.coverage=[0.6, 0.05]", "data.coverage = (0.6, 0.05): the smaller share comes first"),
        ("data.masks={}", "the shares of data.masks, and those of data.batches, must not all be 0"),
        ("data.batches=[{ items = 1, share = 0 }]", "the shares of data.masks, and those of data.batches, must not all be 0"),
    ],
)
def test_data_that_say_nothing_to_draw_are_refused_when_they_are_opened(set, says):
    with pytest.raises(UsageError) as error:
        read(TINY, [set]).data.open()
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("set", "says"),
    [
        ("lr=inf", "lr = inf: input should be a finite number"),
        ("task.snr_clip=[0.0, nan]", "task.snr_clip.1 = nan: input should be"),
        ("data.masks={ box = inf }", "data.masks.box = inf: input should be a finite number"),
        ("data.mask_zoom=[]", "data.mask_zoom = []: tuple should have at least 1 item"),
        ("data.sources=[{ path = '' }]", "data.sources.0.path = '': string should have at least 1 character"),
        ("data.coverage=[0.0, 1.5]", "data.coverage.1 = 1.5: input should be less than or equal to 1"),
        ("task.T=100001", "task.T = 100001: input should be less than or equal to 100000"),
        ("steps=" + "[" * 100_000, "steps = '[[["),
    ],
    ids=lambda value: value[:30],
)
def test_a_value_out_of_bounds_is_refused(set, says):
    assert says in refusal(TINY, set)


def test_a_judge_without_widths_is_refused():
    gan = next(path for path in SHIPPED if path.stem == "gan-64")
    assert "task.judge.widths = []: tuple should have at least 1 item" in refusal(gan, "task.judge.widths=[]")


def test_a_kind_of_one_mask_has_no_coverage_to_choose():
    with pytest.raises(UsageError, match=r"data.masks.expand: is one mask only, so its coverage cannot be chosen"):
        read(TINY, ["data.coverage=[0.1, 0.5]", "data.masks={ expand = 1 }"]).data.open()


def test_a_coverage_that_only_training_masks_have_is_refused_before_training(tmp_path):
    """Boxes of 90 % of a small picture are few, and those few may all be masks of one split."""
    data = replace(on(pictures(tmp_path)).data, masks={"box": 1.0}, mask_zoom=(1,), batches=(Batch(items=1, size=16),))
    with pytest.raises(BadInput, match=r"box: none of \d+ masks"):
        replace(data, coverage=(0.9, 0.95)).open()


@pytest.mark.parametrize("pattern", ["photos", "ph*s", "{root}/photos", "{root}/ph*"])
def test_a_source_may_be_named_by_its_whole_path(tmp_path, pattern):
    data = on(pictures(tmp_path)).data
    source = replace(data, sources=(Folder(pattern.format(root=tmp_path)),)).open()
    assert sum(source.count(split) for split in ("train", "validation", "test")) == 16


def test_masks_of_a_chosen_coverage_have_it_and_are_of_one_split_only(tmp_path):
    """Of 8 x 8 pixels there are few boxes: without a coverage those of the splits coincide."""
    data = replace(on(pictures(tmp_path, 40)).data, masks={"box": 1.0, "all": 0.2}, batches=(Batch(items=1, size=8),), mask_zoom=(1,))

    def drawn(source: PictureSource) -> dict[str, list[bytes]]:
        return {
            split: [(1 - source.draw(np.random.default_rng([k, i]), 0, split)["known"]).tobytes() for i in range(300)]
            for k, split in enumerate(("train", "validation"))
        }

    free = drawn(data.open())
    whole = np.ones((1, 8, 8), np.float32).tobytes()
    assert set(free["train"]) & set(free["validation"]) - {whole}
    held = drawn(replace(data, coverage=(0.2, 0.4)).open())
    assert set(held["train"]) & set(held["validation"]) == {whole}
    shares = {np.frombuffer(hole, np.float32).mean() for holes in held.values() for hole in holes if hole != whole}
    assert 0.2 <= min(shares) < max(shares) <= 0.4


def test_pictures_are_kept_from_the_smallest_crop_on_and_reduced_when_asked(tmp_path):
    root = pictures(tmp_path)
    Image.fromarray(np.random.default_rng(99).integers(0, 256, (20, 24, 3), np.uint8)).save(root / "photos" / "small.png")
    data = replace(on(root).data, batches=(Batch(items=1, size=16),))
    small = data.open()
    assert small.small == 0
    assert replace(data, batches=(Batch(items=1, size=64),)).open().small == 1
    reduced = replace(data, short_side=16).open()
    assert {image.shape[:2] for split in reduced.splits.values() for image in split.images} == {(16, 16), (16, 19)}
    assert [reduced.count(split) for split in ("train", "test")] == [small.count(split) for split in ("train", "test")]


def test_a_missing_key_is_named(tmp_path):
    path = written(tmp_path, TEXT.replace("steps = 6\n", ""))
    assert refusal(path) == f"{path}: steps is missing: Recipe needs it"


def test_a_missing_file_and_broken_toml_are_refused(tmp_path):
    missing = tmp_path / "none.toml"
    assert refusal(missing, kind=BadInput) == f"{missing}: No such file or directory; name a recipe file"
    assert "not valid TOML" in refusal(written(tmp_path, "steps = = 3"), kind=BadInput)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    assert "not valid TOML" in refusal(tmp_path / "bytes.toml", kind=BadInput)


def test_what_may_change_in_a_run_is_not_among_what_must_not():
    recipe = read(TINY)
    assert not set(PASSING) & lasting(recipe).keys()
    assert "root" not in lasting(recipe)["data"]
    assert lasting(read(TINY, ["steps=9", "data.root=/elsewhere", "workers=3"])) == lasting(recipe)
    assert lasting(read(TINY, ["lr=1e-5"])) != lasting(recipe)
