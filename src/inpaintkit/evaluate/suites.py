"""A benchmark suite: a checked dataclass read from TOML, and the cells of its grid.

A cell is one way to fill: a model with a method, its options and a task (`tasks.py`), or a classical filler.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from inpaintkit.core import toml
from inpaintkit.core.errors import UsageError
from inpaintkit.core.sampler import Method
from inpaintkit.core.settings import Settings, checked, dumped
from inpaintkit.evaluate.features import PERCEPTUAL
from inpaintkit.evaluate.frozen import kinds
from inpaintkit.evaluate.metrics import METRICS
from inpaintkit.evaluate.sets import NAMES as SETS
from inpaintkit.evaluate.tasks import FILL, AnyTask, Task
from inpaintkit.methods import METHODS
from inpaintkit.models.catalog import DEFAULT
from inpaintkit.pipeline.fillers import named
from inpaintkit.pipeline.job import Options

SKIMAGE = "skimage"
DEFAULT_METHOD = "default"
PLAINLY = Options()


@dataclass(frozen=True)
class Images(Settings):
    """The pictures, each cut to squares that are reduced to `size` px."""

    source: str = SKIMAGE
    """A folder or a tar; skimage: the colour photos that come with scikit-image."""
    size: Annotated[int, Field(ge=16, le=4096)] = 64
    limit: Annotated[int, Field(ge=1)] | None = None
    """At most so many, spread evenly."""
    crops: Annotated[int, Field(ge=1, le=64)] = 1
    """Squares cut from each picture, side by side: 1 = the middle one. Those of one picture resemble each other."""
    bad: Literal["refuse", "skip"] = "refuse"
    """What is done with files that cannot be read."""
    split: Literal["train", "validation", "test"] | None = None
    """Only those that training with the shares 0.75, 0.15, 0.10 takes for this; they are told by their content."""


@dataclass(frozen=True)
class Masks(Settings):
    """Where the holes are; every picture gets one of each kind and one of each folder."""

    kinds: tuple[str, ...] = ()
    """Kinds and families as `inpaintkit mask set` has them, drawn for each picture from the seed and its name: they are not the masks of
    a set, whose folders can be named instead."""
    folders: tuple[str, ...] = ()
    """Folders that hold a mask for every picture, of `size` and under its name (.png), white = hole; those of a set are checked."""
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True)
class Sampling(Settings):
    """A method as a row of the table."""

    name: str = DEFAULT_METHOD
    """As `inpaintkit methods list` shows it; default: the model's, or the task's."""
    label: str | None = None
    """What the tables call it; the name unless given."""
    fields: dict[str, Any] = field(default_factory=dict)
    """The method's own settings that are not at their defaults, those of its walk under `walk`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Those of the suite's options that are others here; `tell_network` tells a mask-conditioned network the known pixels."""
    task: AnyTask = FILL
    """What is done with the picture, `kind` first; fill unless given."""
    models: tuple[str, ...] = ()
    """Models of its own, in place of the suite's."""

    def method(self) -> Method | None:
        """The method with its fields, None for the default one. Raises `UsageError`."""
        if self.name == DEFAULT_METHOD:
            if self.fields:
                raise UsageError("fields = of the default method: name the method whose fields they are")
            return None
        if self.name not in METHODS:
            raise UsageError(f"name = {self.name!r}: no such method{_near(self.name, METHODS)}")
        base = METHODS[self.name]
        usual = dumped(base)
        fields = {k: {**usual[k], **v} if isinstance(v, dict) and isinstance(usual.get(k), dict) else v for k, v in self.fields.items()}
        return checked(type(base), usual | fields)


@dataclass(frozen=True)
class Suite(Settings):
    """Everything that decides a benchmark: the grid of models x methods x masks x pictures x seeds, and what is measured."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    """Letters, digits, _ . and -."""
    images: Images
    masks: Masks
    models: tuple[str, ...] = (DEFAULT,)
    """Bundled names, model folders, files or hub ids."""
    methods: tuple[Sampling, ...] = ()
    """Each is run with every model; with none, each model's default method is."""
    fillers: tuple[str, ...] = ()
    """Classical methods and .onnx files; they have no seed."""
    options: Options = PLAINLY
    """How all methods fill apart from the method itself."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    """Of noise, which every picture has of its own: from the seed and its name."""
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("psnr", "mae", "ssim")
    """The first one ranks. kid and fid, which are of all pictures of a way and a mask together, need Inception's weights, and fid 2,000
    pictures."""
    features: tuple[str, ...] = ()
    """Weights of classifiers, as `inpaintkit eval --features` takes them: a perceptual distance is measured with each."""
    strips: Annotated[int, Field(ge=0)] = 1
    """Pictures of each mask whose way from noise is kept, with the first seed."""
    notes: str = ""
    """For the head of the report."""


@dataclass(frozen=True)
class Cell:
    """One way to fill."""

    label: str
    model: str | None = None
    method: Method | None = None
    """None: the model's default one."""
    options: Options = PLAINLY
    filler: str | None = None
    task: Task = FILL

    @property
    def folder(self) -> str:
        """The label as a name of a folder."""
        return slug(self.label)


def read(path: Path, sets: Sequence[str] = (), over: Mapping[str, Any] | None = None) -> Suite:
    """The suite in a TOML file with values and `key=value` settings put over it, as `toml.read`. Raises `BadInput` or `UsageError`, one
    line with the place."""
    suite = toml.read(Suite, path, sets, "suite", over)
    text = Path(path).read_text()
    try:
        check(suite)
    except UsageError as error:
        raise UsageError(f"{toml.place(path, text, sets, str(error)) or path}: {error}") from None
    return suite


def check(suite: Suite) -> None:
    """Raise `UsageError` for a name that does not exist, a field that does not fit, or two cells of one label."""
    for i, entry in enumerate(suite.methods):
        try:
            entry.method()
        except UsageError as error:
            inner = "" if str(error).startswith(("name =", "fields =")) else "fields."
            before, option, after = re.fullmatch(r"(\w+ has no option ')?([\w.-]+)(.*)", str(error), re.DOTALL).groups("")  # type: ignore[union-attr]
            raise UsageError(f"{before}methods.{i}.{inner}{option}{after}") from None
        try:
            _options(suite, entry)
        except UsageError as error:
            raise UsageError(f"methods.{i}.options = {entry.options}: {error}") from None
    for name in suite.metrics:
        if name not in (*METRICS, *PERCEPTUAL, *SETS):
            raise UsageError(f"metrics = {name!r}: no such metric{_near(name, [*METRICS, *PERCEPTUAL, *SETS])}")
    if suite.metrics[0] in SETS:
        raise UsageError(f"metrics = {suite.metrics[0]!r}: is no metric of single pictures and cannot rank; put one of those first")
    try:
        kinds(suite.masks.kinds)
    except UsageError as error:
        raise UsageError(f"masks.kinds = {error}") from None
    for filler in suite.fillers:
        try:
            named(filler)
        except UsageError as error:
            raise UsageError(f"fillers = {error}") from None
    if len({Path(file).stem for file in suite.features}) < len(suite.features):
        raise UsageError("features = two files of one name, which tables show: rename one")
    if not suite.masks.kinds and not suite.masks.folders:
        raise UsageError("masks = nothing: name kinds or folders")
    if not cells(suite):
        raise UsageError("models = nothing: name models or fillers")
    if len(set(suite.seeds)) < len(suite.seeds):
        raise UsageError("seeds = one of them twice: name each once")
    _check_distinct("cells", [cell.label for cell in cells(suite)])
    _check_distinct("masks", [*kinds(suite.masks.kinds), *(Path(f).name for f in suite.masks.folders)])


def cells(suite: Suite) -> list[Cell]:
    """The rows of the table, in the suite's order: classical fillers first."""
    found = [Cell(Path(name).name, filler=name) for name in suite.fillers]
    for model in suite.models:
        prefix = f"{model}, " if len(suite.models) > 1 else ""
        found += [_cell(suite, entry, model, prefix) for entry in suite.methods if not entry.models]
        if not suite.methods:
            found.append(Cell(model, model, options=suite.options))
    for entry in suite.methods:
        found += [_cell(suite, entry, model, f"{model}, " if len(entry.models) > 1 else "") for model in entry.models]
    return found


def _cell(suite: Suite, entry: Sampling, model: str, prefix: str) -> Cell:
    return Cell(f"{prefix}{entry.label or entry.name}", model, entry.method(), _options(suite, entry), task=entry.task)


def _options(suite: Suite, entry: Sampling) -> Options:
    return checked(Options, dumped(suite.options) | entry.options)


def slug(text: str) -> str:
    """A name for files: letters, digits, _ . and -, never hidden."""
    return re.sub(r"[^\w.]+", "-", text).strip("-.") or "unnamed"


def _check_distinct(what: str, labels: list[str]) -> None:
    twice = [name for name, count in Counter(slug(label).casefold() for label in labels).items() if count > 1]
    if twice:
        raise UsageError(f"{what}: two are called {twice[0]!r} (as a folder); give each its own label")


def _near(name: str, names: Any) -> str:
    close = get_close_matches(name, names, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(names)}"
