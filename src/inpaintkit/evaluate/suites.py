"""A benchmark suite: a checked dataclass read from TOML, and the cells of its grid.

A cell is one way to fill: a model with a method and its options, or a classical filler. Other tasks (upscaling, blind
repair, rings) would be further kinds of cell: `cells` makes them, `run.opened` says how each fills.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from inpaintkit.core import toml
from inpaintkit.core.errors import UsageError
from inpaintkit.core.sampler import Method
from inpaintkit.core.settings import Settings, checked, dumped
from inpaintkit.data.masks import check_kind
from inpaintkit.evaluate.features import BACKBONES
from inpaintkit.evaluate.metrics import METRICS
from inpaintkit.methods import METHODS
from inpaintkit.models.catalog import DEFAULT
from inpaintkit.pipeline.fillers import named
from inpaintkit.pipeline.job import Options

SKIMAGE = "skimage"
PLAINLY = Options()
PERCEPTUAL = tuple(f"lpips_{name}" for name in BACKBONES)
"""Metrics whose networks need weights that are got separately."""


@dataclass(frozen=True)
class Images(Settings):
    """The pictures, each cut to its central square and reduced to `size` px."""

    source: str = SKIMAGE
    """A folder or a tar; skimage: the colour photos that come with scikit-image."""
    size: Annotated[int, Field(ge=16, le=4096)] = 64
    limit: Annotated[int, Field(ge=1)] | None = None
    """At most so many, spread evenly."""


@dataclass(frozen=True)
class Masks(Settings):
    """Where the holes are; every picture gets one of each kind and one of each folder."""

    kinds: tuple[str, ...] = ()
    """Drawn for each picture from the seed and the picture's name."""
    folders: tuple[str, ...] = ()
    """Folders that hold a mask for every picture, of `size` and under its name (.png), white = hole."""
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True)
class Sampling(Settings):
    """A method as a row of the table."""

    name: str
    """As `inpaintkit methods list` shows it."""
    label: str | None = None
    """What the tables call it; the name unless given."""
    fields: dict[str, Any] = field(default_factory=dict)
    """The method's own settings that are not at their defaults, those of its walk under `walk`."""
    options: Options = PLAINLY
    """How a hole is filled apart from the method; `tell_network` tells a mask-conditioned network the known pixels."""

    def method(self) -> Method:
        """The method with its fields. Raises `UsageError`."""
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
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("psnr", "mae", "ssim")
    """The first one ranks."""
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

    @property
    def folder(self) -> str:
        """The label as a name of a folder."""
        return slug(self.label)


def read(path: Path) -> Suite:
    """The suite in a TOML file. Raises `BadInput` or `UsageError`, one line with the place in the file."""
    suite = toml.read(Suite, path, kind="suite")
    text = Path(path).read_text()
    try:
        check(suite)
    except UsageError as error:
        raise UsageError(f"{toml.place(path, text, (), str(error))}: {error}") from None
    return suite


def check(suite: Suite) -> None:
    """Raise `UsageError` for a name that does not exist, a field that does not fit, or two cells of one label."""
    for i, entry in enumerate(suite.methods):
        try:
            entry.method()
        except UsageError as error:
            inner = "" if str(error).startswith("name =") else "fields."
            before, option, after = re.fullmatch(r"(\w+ has no option ')?([\w.-]+)(.*)", str(error), re.DOTALL).groups("")  # type: ignore[union-attr]
            raise UsageError(f"{before}methods.{i}.{inner}{option}{after}") from None
    for name in suite.metrics:
        if name not in METRICS and name not in PERCEPTUAL:
            raise UsageError(f"metrics = {name!r}: no such metric{_near(name, [*METRICS, *PERCEPTUAL])}")
    for kind in suite.masks.kinds:
        try:
            check_kind(kind)
        except UsageError as error:
            raise UsageError(f"masks.kinds = {error}") from None
    for filler in suite.fillers:
        try:
            named(filler)
        except UsageError as error:
            raise UsageError(f"fillers = {error}") from None
    if not suite.masks.kinds and not suite.masks.folders:
        raise UsageError("masks = nothing: name kinds or folders")
    if not cells(suite):
        raise UsageError("models = nothing: name models or fillers")
    _check_distinct("cells", [cell.label for cell in cells(suite)])
    _check_distinct("masks", [*suite.masks.kinds, *(Path(f).name for f in suite.masks.folders)])


def cells(suite: Suite) -> list[Cell]:
    """The rows of the table, in the suite's order: classical fillers first."""
    found = [Cell(Path(name).name, filler=name) for name in suite.fillers]
    for model in suite.models:
        prefix = f"{model}, " if len(suite.models) > 1 else ""
        for entry in suite.methods:
            found.append(Cell(f"{prefix}{entry.label or entry.name}", model, entry.method(), entry.options))
        if not suite.methods:
            found.append(Cell(model, model))
    return found


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
