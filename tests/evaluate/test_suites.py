"""A suite says what is wrong with it, and where; what is written short means what the command line means."""

from pathlib import Path

import pytest

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.evaluate import suites
from inpaintkit.methods import METHODS

QUICK = Path(__file__).parents[2] / "suites" / "quick.toml"
TEXT = """\
name = "mine"
metrics = ["psnr"]
fillers = ["telea"]

[images]
size = 32

[masks]
kinds = ["box"]

[[methods]]
name = "repaint"
fields.walk = { steps = 25 }
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "suite.toml"
    path.write_text(text)
    return path


def test_what_is_not_given_stays_as_the_method_has_it(tmp_path):
    _, cell = suites.cells(suites.read(written(tmp_path, TEXT)))
    assert cell.method is not None
    assert (cell.method.walk.steps, cell.method.walk.jump_length) == (25, METHODS["repaint"].walk.jump_length)
    assert METHODS["repaint"].walk.jump_length > 1


@pytest.mark.parametrize(
    ("right", "wrong", "line", "says"),
    [
        ("size = 32", "sise = 32", 6, "did you mean 'images.size'?"),
        ("size = 32", "size = 3", 6, "images.size = 3"),
        ('kinds = ["box"]', 'kinds = ["bx"]', 9, "did you mean 'box'?"),
        ('metrics = ["psnr"]', 'metrics = ["pnsr"]', 2, "did you mean 'psnr'?"),
        ('name = "repaint"', 'name = "repant"', 12, "did you mean 'repaint'?"),
        ("steps = 25", "stps = 25", 13, "did you mean 'walk.steps'?"),
        ("steps = 25", "steps = 0", 13, "walk.steps = 0"),
        ('fillers = ["telea"]', 'fillers = ["tela"]', 3, "nothing of that name fills"),
        ('kinds = ["box"]', "kinds = []", 8, "name kinds or folders"),
    ],
)
def test_a_slip_is_named_with_its_line(tmp_path, right, wrong, line, says):
    path = written(tmp_path, TEXT.replace(right, wrong))
    with pytest.raises(UsageError) as refusal:
        suites.read(path)
    assert str(refusal.value).startswith(f"{path}, line {line}: ")
    assert says in str(refusal.value)


def test_two_ways_of_one_name_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"two are called 'repaint'.*its own label"):
        suites.read(written(tmp_path, TEXT + TEXT[TEXT.index("[[methods]]") :]))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="name a suite file"):
        suites.read(tmp_path / "none.toml")


def test_the_quick_suite_can_be_read():
    suite = suites.read(QUICK)
    assert suite.images.source == suites.SKIMAGE
    assert len(suites.cells(suite)) == len(suite.fillers) + len(suite.methods)
