"""A training recipe: a checked dataclass read from TOML."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from inpaintkit.core import toml
from inpaintkit.core.errors import UsageError
from inpaintkit.core.settings import Settings, checked, dumped
from inpaintkit.train.fields import ArrayData
from inpaintkit.train.sources import PictureData
from inpaintkit.train.tasks import AnyTask


@dataclass(frozen=True)
class Recipe(Settings):
    """Everything that decides a training run."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    """Of the model; letters, digits, _ . and -."""
    task: Annotated[AnyTask, Field(discriminator="kind")]
    """What is trained."""
    data: Annotated[PictureData | ArrayData, Field(discriminator="kind")]
    """On what."""
    steps: Annotated[int, Field(ge=1)]
    lr: Annotated[float, Field(gt=0)] = 2e-4
    warmup: Annotated[int, Field(ge=0)] = 200
    """Steps over which the rate rises from zero."""
    decay: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Share of the steps, at the end, over which the rate falls to zero."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Adam's."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.9995
    """Decay of the moving average of the weights."""
    grad_clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of a gradient."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Pieces in which each process works through its part of a batch: more need less memory and give the same step."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the networks' arithmetic (weights and moments stay float32); auto: bfloat16 where the device has it."""
    seed: Annotated[int, Field(ge=0, lt=2**22)] = 0
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that prepare batches; any number gives the same run."""
    save_minutes: Annotated[float, Field(gt=0)] = 5.0
    """Minutes between saved states."""
    keep: Annotated[int, Field(ge=1)] = 2
    """Saved states kept, beside the best one."""
    log_steps: Annotated[int, Field(ge=1)] = 20
    """Steps between rows of the log."""
    validation_items: Annotated[int, Field(ge=1)] = 96
    """Held-out items of each kind of batch that validation figures are means of."""
    terms: str = ""
    """Under which terms the data, and so the weights, may be used; for the model card."""
    notes: str = ""
    """More for the model card: what it is for, known failures."""


PASSING = ("steps", "decay", "workers", "save_minutes", "keep", "log_steps", "validation_items", "terms", "notes")
"""Settings that may change when a run is resumed; `data.root` too."""


def lasting(recipe: Recipe) -> dict[str, Any]:
    """The settings that stay the same through a run."""
    return {k: v for k, v in placeless(recipe).items() if k not in PASSING}


def placeless(recipe: Recipe) -> dict[str, Any]:
    """The settings without the folders in which data and files lie on this machine."""
    values = dumped(recipe)
    task = {k: Path(v).name if v is not None and k in recipe.task.places else v for k, v in values["task"].items()}
    return values | {"task": task, "data": {k: v for k, v in values["data"].items() if k != "root"}}


def as_of_today(recipe: dict[str, Any]) -> dict[str, Any]:
    """A saved recipe with settings that were added since then at their defaults; one that cannot be read as it is."""
    try:
        return lasting(checked(Recipe, recipe | {"steps": 1}))
    except UsageError:
        return recipe


def read(path: Path, sets: Sequence[str] = ()) -> Recipe:
    """The recipe in a TOML file, with `key=value` settings put over it (`toml.read`). Raises `BadInput` or `UsageError`, one line."""
    return toml.read(Recipe, path, sets)
