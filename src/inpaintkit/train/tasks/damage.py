"""A mask predictor: finds damage of many kinds, told nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from inpaintkit.core.errors import UsageError
from inpaintkit.data.damage import KINDS, SEEN, damage, worn
from inpaintkit.data.damage_kinds import altered
from inpaintkit.models import damage as detectors
from inpaintkit.models.damage import DamageNet, DetectorConfig
from inpaintkit.train.task import Item, Task

Share = Annotated[float, Field(ge=0)]
LEARNT = 0.25
"""Factor on the learning rate of weights that know something already (at equal time ahead of one rate for all)."""
SMOOTH = 1e-3  # of the pixels, added to both sides of the Dice ratio: a picture without damage has a finite loss


@dataclass(frozen=True)
class Damage(Task):
    """Binary cross-entropy plus soft Dice loss (Milletari et al. 2016, eq. 3, with plain sums in the denominator)."""

    places: ClassVar = ("trunk",)

    network: DetectorConfig = field(default_factory=DetectorConfig)
    kind: Literal["damage"] = "damage"
    kinds: dict[str, Share] = field(default_factory=dict)
    """How often kinds of damage are drawn, where that is not 1 for those that are shown and 0 for those held out to measure what is
    found of unknown damage (`SEEN` and `UNSEEN` of data/damage.py)."""
    clean: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of pictures without damage: there, nothing is to be found."""
    more: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Chance of one more kind of damage on top of each."""
    dice: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the Dice loss; that of the cross-entropy is 1."""
    trunk: Path | None = None
    """File with MobileNetV2's weights, batch norms folded in (safetensors or torch.save, in the form that `inpaintkit eval --features`
    takes), to start its half of the network from; instead of `start`."""
    start: str | None = None
    """Detector (bundled name or folder) whose weights to start from."""

    @property
    def shares(self) -> dict[str, float]:
        """How often each kind is drawn, relative to the others."""
        return {kind: self.kinds.get(kind, float(kind in SEEN)) for kind in KINDS}

    def build(self, seed: int) -> dict[str, nn.Module]:
        if unknown := set(self.kinds) - set(KINDS):
            raise UsageError(f"task.kinds.{min(unknown)} is not a kind of damage; there are {', '.join(KINDS)}")
        if not sum(self.shares.values()):
            raise UsageError("the shares of task.kinds must not all be 0")
        if self.start and self.trunk:
            raise UsageError("task.start and task.trunk: the detector to start from has a trunk; give one of them")
        network = detectors.build(self.network, seed)
        if self.trunk:
            network.start_from(self.trunk)
        if self.start:
            started = detectors.load(self.start).network
            if started.config.widths != self.network.widths:
                raise UsageError("start: its network has other widths; give task.network the same")
            network.load_state_dict(started.state_dict())
        return {"network": network}

    def rate(self, role: str, name: str) -> float:
        return LEARNT if name.startswith("trunk.") and (self.trunk or self.start) else 1.0

    def multiple(self, networks: Mapping[str, nn.Module]) -> int:
        return self.network.multiple

    def check(self, networks: Mapping[str, nn.Module], shapes: Sequence[tuple[int, int, int]], accumulate: int, processes: int = 1) -> None:
        super().check(networks, shapes, accumulate, processes)
        if accumulate > 1:
            raise UsageError("accumulate: batch norm sees one piece at a time, so pieces would not give the same step; lower items instead")
        if processes > 1:
            raise UsageError("task: batch norm sees one process's part at a time, so several do not train as one; use one process")

    def item(self, example: Mapping[str, np.ndarray], rng: np.random.Generator) -> Item:
        picture, hole = example["x0"], example["known"][0] == 0
        found = np.zeros(hole.shape, bool)
        damaged = rng.random() >= self.clean
        while damaged:
            picture, where = damage(picture, hole, altered(example["x0"], rng), self._drawn(rng), rng)
            found, damaged = found | where, rng.random() < self.more
            hole = np.rot90(hole) if hole.shape[0] == hole.shape[1] else hole[::-1]  # the next kind is somewhere else
        arrays = {"damaged": worn(picture, rng), "hole": found[None].astype(np.float32)}
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}

    def loss(self, role: str, networks: Mapping[str, nn.Module], batch: Item) -> tuple[Tensor, dict[str, Tensor]]:
        logits, hole = networks[role](batch["damaged"]).float(), batch["hole"]
        entropy = F.binary_cross_entropy_with_logits(logits, hole)
        dice = soft_dice(logits.sigmoid(), hole).mean()
        return entropy + self.dice * dice, {"entropy": entropy, "dice": dice}

    def validate(self, networks: Mapping[str, nn.Module], batch: Item) -> dict[str, Tensor]:
        """The mean Jaccard distance, 1 - IoU, at the network's threshold; then the loss and its parts."""
        logits = networks["network"](batch["damaged"]).float()
        found = logits.sigmoid() > self.network.threshold
        loss, parts = self.loss("network", networks, batch)
        return {"jaccard": 1 - iou(found, batch["hole"] > 0).mean(), "loss": loss, **parts}

    def samples(self, networks: Mapping[str, nn.Module], batch: Item) -> Tensor:
        """Damaged, true mask and likelihood side by side, one item below the other: `(N, 3, H, 3 W)`."""
        likelihood = networks["network"](batch["damaged"]).float().sigmoid()
        gray = [(part * 2 - 1).expand(-1, 3, -1, -1) for part in (batch["hole"], likelihood)]
        return torch.cat([batch["damaged"], *gray], 3)

    def export(self, folder: Path, networks: Mapping[str, nn.Module], card: str) -> None:
        network = networks["network"]
        assert isinstance(network, DamageNet)
        detectors.save_folder(folder, network, card, torch.float32)  # full precision: training may go on from it

    def _drawn(self, rng: np.random.Generator) -> str:
        shares = np.array(list(self.shares.values()))
        return list(self.shares)[int(rng.choice(len(shares), p=shares / shares.sum()))]


def soft_dice(likelihood: Tensor, hole: Tensor) -> Tensor:
    """1 - (2 |p g| + s) / (|p| + |g| + s) of each picture, `(B,)`, sums over its pixels; both are `(B, 1, H, W)` in [0, 1]."""
    s = SMOOTH * hole[0].numel()
    both, either = (likelihood * hole).sum((1, 2, 3)), (likelihood + hole).sum((1, 2, 3))
    return 1 - (2 * both + s) / (either + s)


def iou(found: Tensor, hole: Tensor) -> Tensor:
    """Intersection over union of each picture, `(B,)`; both are bool `(B, 1, H, W)`. Nothing found where nothing is: 1."""
    union = (found | hole).sum((1, 2, 3))
    return torch.where(union > 0, (found & hole).sum((1, 2, 3)) / union.clamp(min=1), 1.0)
