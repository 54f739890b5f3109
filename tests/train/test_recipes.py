"""Recipes: read strictly, every slip named with the file."""

from pathlib import Path

import pytest

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.settings import checked, dumped
from inpaintkit.train.recipes import Recipe, read

SHIPPED = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
SMALL = """
name = "small"
steps = 10
sources = [{ path = "photos" }]
masks = { box = 1.0 }
batches = [{ size = 16, items = 2 }]
unet = { in_channels = 9 }
network = { prediction = "x0" }
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def refusal(path: Path, kind: type = UsageError, **overrides) -> str:
    with pytest.raises(kind) as error:
        read(path, overrides)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_read_and_survives_a_round_trip(path):
    recipe = read(path)
    assert recipe.name == path.stem
    assert checked(Recipe, dumped(recipe)) == recipe


def test_a_recipe_is_read_and_overrides_go_before_it(tmp_path):
    path = written(tmp_path, SMALL)
    assert (read(path).steps, read(path).masks) == (10, {"box": 1.0})
    assert (read(path, {"steps": 3}).steps, read(path, {"steps": 3}).name) == (3, "small")


@pytest.mark.parametrize(
    ("slip", "says"),
    [
        ("stpes = 3", "Recipe has no option 'stpes'; did you mean 'steps'?"),
        ("lr = -1.0", "lr = -1.0: input should be greater than 0"),
        ("ema = 1.0", "ema = 1.0: input should be less than 1"),
        ("seed = -1", "seed = -1: input should be greater than or equal to 0"),
        ('schedule = "wavy"', "schedule = 'wavy': input should be"),
        ("mask_zoom = [1, 9]", "mask_zoom.1 = 9"),
    ],
)
def test_a_slip_at_the_top_is_named(tmp_path, slip, says):
    assert says in refusal(written(tmp_path, slip + "\n" + SMALL))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"masks": {"boxx": 1.0}}, "masks.boxx is not a mask kind; there are thin"),
        ({"masks": {"box": -1.0}}, "masks.box = -1.0"),
        ({"masks": {"box": 0.0}}, "must not all be 0"),
        ({"masks": {}}, "must not all be 0"),
        ({"batches": []}, "batches = []"),
        ({"batches": [{"size": 16, "items": 2, "share": 0.0}]}, "must not all be 0"),
        ({"batches": [{"size": 16, "item": 2}]}, "batches.0.item"),
        ({"sources": []}, "sources = []"),
        ({"network": {"predicts": "x0"}}, "'network.predicts'; did you mean 'network.prediction'?"),
    ],
)
def test_a_slip_inside_is_named(tmp_path, change, says):
    assert says in refusal(written(tmp_path, SMALL), **change)


def test_a_missing_key_is_named(tmp_path):
    assert "steps" in refusal(written(tmp_path, SMALL.replace("steps = 10\n", "")))


def test_a_missing_file_and_broken_toml_are_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "none.toml", BadInput)
    assert "not valid TOML" in refusal(written(tmp_path, "steps = = 3"), BadInput)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    assert "not valid TOML" in refusal(tmp_path / "bytes.toml", BadInput)
