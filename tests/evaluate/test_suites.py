"""A suite says what is wrong with it, and where; what is written short means what the command line means."""

from dataclasses import replace
from pathlib import Path

import pytest

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.walk import Walk
from inpaintkit.evaluate import parts, suites
from inpaintkit.methods import ILVR, METHODS

SUITES = Path(__file__).parents[2] / "suites"
QUICK = SUITES / "quick.toml"
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


def test_a_seed_is_named_once(tmp_path):
    with pytest.raises(UsageError, match=r"seeds = .*name each once"):
        suites.read(written(tmp_path, TEXT), ["seeds=[4, 4]"])


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


def test_options_of_a_way_are_put_over_those_of_the_suite(tmp_path):
    text = (
        TEXT.replace('fillers = ["telea"]', "options = { reach = 100, feather = 0 }") + "options = { feather = 3, tell_network = true }\n"
    )
    (cell,) = suites.cells(suites.read(written(tmp_path, text)))
    assert (cell.options.reach, cell.options.feather, cell.options.tell_network) == (100, 3, True)
    path = written(tmp_path, text.replace("feather = 3", "fether = 3"))
    with pytest.raises(UsageError, match=r"line \d+: methods.0.options = .*did you mean 'feather'"):
        suites.read(path)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ('task.kind = "onoin"', "task.kind = 'onoin'"),
        ('task = { kind = "onion", rin = 3 }', "did you mean 'methods.0.task.ring'?"),
        ('task = { kind = "onion", ring = 0 }', "methods.0.task.ring = 0"),
    ],
)
def test_a_slip_in_a_task_is_named(tmp_path, more, says):
    with pytest.raises(UsageError) as refusal:
        suites.read(written(tmp_path, TEXT + more + "\n"))
    assert says in str(refusal.value)


def test_a_way_may_have_models_of_its_own_and_the_default_method(tmp_path):
    text = TEXT + '\n[[methods]]\nlabel = "its own"\nmodels = ["a/b/c"]\n'
    cells = suites.cells(suites.read(written(tmp_path, text)))
    assert [(cell.label, cell.model, cell.method is None) for cell in cells[1:]] == [
        ("repaint", "photo-64", False),
        ("its own", "a/b/c", True),
    ]
    with pytest.raises(UsageError, match="name the method whose fields they are"):
        suites.read(written(tmp_path, text + "fields.eta = 1.0\n"))


def test_settings_are_put_over_the_file(tmp_path):
    suite = suites.read(written(tmp_path, TEXT), ["images.limit=3", 'metrics=["ssim"]'])
    assert (suite.images.limit, suite.metrics) == (3, ("ssim",))
    with pytest.raises(UsageError, match=r"^--set metrics=.* no such metric"):
        suites.read(written(tmp_path, TEXT), ['metrics=["x"]'])


def test_every_suite_here_can_be_read_and_holds_what_its_names_promise():
    single = [path for path in sorted(SUITES.rglob("*.toml")) if not parts.is_collection(path)]
    assert len(single) >= 17
    for path in single:
        suite = suites.read(path)
        assert suite.name == path.stem
        assert suites.cells(suite)
    collection, found = parts.read(SUITES / "documents.toml")
    named = {Path(entry.suite).name for entry in collection.parts}
    assert named == {path.name for path in (SUITES / "documents").glob("*.toml")}
    for part in found:
        assert part.suite.images == collection.pictures[part.name.rpartition("-")[2]]
    ways = {cell.label: cell for part in found for cell in suites.cells(part.suite)}
    assert ways["test 6: N 1, 100 steps, range_t 100"].method == ILVR(factor=1, range_t=100, walk=Walk(100))
    assert ways["repaint, 2410 evaluations"].method == METHODS["repaint"]
    assert [ways[f"n = {n}"].method.walk.jump_n_sample for n in range(1, 11)] == list(range(1, 11))


COLLECTION = """\
name = "all"
pictures.one = { size = 32, limit = 1 }
pictures.two = { size = 48, limit = 2 }
common.seeds = [4]

[[parts]]
suite = "suite.toml"
pictures = ["one", "two"]
"""


def collected(tmp_path: Path, text: str = COLLECTION) -> Path:
    written(tmp_path, TEXT)
    path = tmp_path / "all.toml"
    path.write_text(text)
    return path


def test_a_collection_runs_each_suite_on_each_of_its_pictures(tmp_path):
    path = collected(tmp_path)
    assert parts.is_collection(path)
    assert not parts.is_collection(QUICK)
    _, found = parts.read(path, ["pictures.two.limit=5", 'common.metrics=["mae"]', "common.options.feather=2"])
    assert [(p.name, p.suite.name, p.suite.images.size, p.suite.images.limit) for p in found] == [
        ("suite-one", "suite-one", 32, 1),
        ("suite-two", "suite-two", 48, 5),
    ]
    assert {(p.suite.seeds, p.suite.metrics, p.suite.options.feather) for p in found} == {((4,), ("mae",), 2)}
    assert [p.name for p in parts.chosen(found, ["suite-two"])] == ["suite-two"]
    assert parts.chosen(found, ["suite"]) == parts.chosen(found, []) == found
    with pytest.raises(UsageError, match="--part none: no such part; there are suite-one, suite-two"):
        parts.chosen(found, ["none"])


def test_pictures_may_have_models_of_their_own(tmp_path):
    _, found = parts.read(collected(tmp_path), ['models.two=["face-64"]'])
    assert [p.suite.models for p in found] == [found[0].suite.models, ("face-64",)]
    assert found[0].suite.models != ("face-64",)
    _, documents = parts.read(SUITES / "documents.toml")
    models = {p.name: p.suite.models for p in documents}
    assert models["repaint-photos"] == ("photo-64",)
    assert models["repaint-faces"] == ("face-64",)
    assert models["tuning-faces"] == ()  # its methods name theirs


def test_what_is_wrong_with_a_collection_is_said(tmp_path):
    with pytest.raises(UsageError, match="models = three: no such pictures; there are one, two"):
        parts.read(collected(tmp_path), ['models.three=["photo-64"]'])
    with pytest.raises(UsageError, match="no such pictures; there are one, two"):
        parts.read(collected(tmp_path, COLLECTION.replace('["one", "two"]', '["three"]')))
    with pytest.raises(BadInput, match="name a suite file"):
        parts.read(collected(tmp_path, COLLECTION.replace('"suite.toml"', '"other.toml"')))
    with pytest.raises(UsageError, match=r"did you mean 'parts\.0\.suite'"):
        parts.read(collected(tmp_path, COLLECTION.replace("suite =", "suit =")))
    with pytest.raises(UsageError, match="parts = two of them are called 'suite-one'"):
        parts.read(collected(tmp_path, COLLECTION.replace('["one", "two"]', '["one", "one"]')))


def test_pictures_may_have_a_dash_in_their_name(tmp_path):
    _, found = parts.read(collected(tmp_path, COLLECTION.replace("two", "two-px")))
    assert [p.name for p in parts.chosen(found, ["suite"])] == ["suite-one", "suite-two-px"]


def test_common_settings_may_be_anything_that_toml_writes(tmp_path):
    common = 'common.notes = "\\U0001F600"\ncommon.methods = [{ name = "plain", label = "x", fields.walk.steps = 3 }]\n'
    _, found = parts.read(collected(tmp_path, common + COLLECTION))
    assert {(p.suite.notes, p.suite.methods[0].method().walk.steps) for p in found} == {("\U0001f600", 3)}


def test_features_of_one_name_are_refused(tmp_path):
    with pytest.raises(UsageError, match="features = two files of one name"):
        suites.check(replace(suites.read(written(tmp_path, TEXT)), features=("a/net.pth", "b/net.pth")))
