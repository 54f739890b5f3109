"""The training loop, as a generator: it knows no task, and logging and saving belong to the caller."""

import copy
import math
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from inpaintkit.core.errors import BadInput
from inpaintkit.core.noise import derived
from inpaintkit.models.catalog import bfloat16_is_fast
from inpaintkit.train import state as states
from inpaintkit.train.draws import Draws, batches, kind_of, pieces, refuse_uneven, stacked
from inpaintkit.train.processes import Processes
from inpaintkit.train.recipes import Recipe, as_of_today, lasting
from inpaintkit.train.sources import Source
from inpaintkit.train.task import Item

ASKED = ("stop", "save")
"""What a process may ask for between two steps."""


@dataclass(frozen=True)
class Report:
    """What the loop yields after each step."""

    step: int
    """Steps done since the beginning, this one too."""
    losses: dict[str, float]
    """By role, in their order, then what the task adds; before the step."""
    rate: float
    norm: float
    """Largest of the roles' gradient norms, before clipping."""
    seconds: float
    """From asking for the batch to the end of the step."""
    items: int
    """Items seen since the beginning."""
    asked: frozenset[str]
    """Those of `ASKED` that any process asked for: the same on all of them."""


class Trainer:
    """Networks, their moving averages, optimisers and data of one recipe. `run()` does the steps that are left.

    Several processes hold the same weights and each work through a part of every batch; gradients are averaged.
    """

    def __init__(self, recipe: Recipe, out: Path, device: str = "auto"):
        self.processes = Processes(device)
        self.device = self.processes.device
        self.bfloat16 = recipe.precision == "bfloat16" or (recipe.precision == "auto" and bfloat16_is_fast(self.device))
        refuse_uneven(recipe, self.processes.count)
        self.source: Source = recipe.data.open()
        self.recipe, self.out = replace(recipe, task=recipe.task.fitted(self.source.about())), Path(out)
        self.task = self.recipe.task
        self.networks = self.task.build(recipe.seed)
        self.task.check(self.networks, self.source.shapes(self.processes.count), recipe.accumulate, self.processes.count)
        layout = torch.channels_last if self.device.type == "cuda" else torch.preserve_format  # on a CPU it made training 10 % slower
        self.read = {name: states.digest(network) for name, network in self.networks.items() if name not in self.task.roles}
        for role, network in self.networks.items():
            network.to(self.device, memory_format=layout)  # type: ignore[call-overload]
            network.train(role in self.task.roles)
        self.trained = {role: [p for p in self.networks[role].parameters() if p.requires_grad] for role in self.task.roles}
        self.averages = {role: {k: v.detach().clone() for k, v in self.networks[role].state_dict().items()} for role in self.task.averaged}
        self.optimizers = {role: self._optimizer(role) for role in self.task.roles}
        self.step = self.items = 0
        self.saved: int | None = None
        self.damaged: tuple[Path, ...] = ()
        """States passed over when the run was resumed."""
        self.asks: set[str] = set()

    def about(self) -> dict[str, Any]:
        """What a resumed state must agree with."""
        about = {"recipe": lasting(self.recipe), "data": self.source.about()}
        return about | ({"networks that are only read": self.read} if self.read else {})

    def machine(self) -> dict[str, Any]:
        """What bit-exact resuming depends on beside that."""
        numbers = {"processes": self.processes.count, "threads": torch.get_num_threads()}
        return {"torch": str(torch.__version__), "device": self.device.type, "bfloat16": self.bfloat16} | numbers

    def tensors(self) -> dict[str, Tensor]:
        """All that changes during training, by name."""
        tensors: dict[str, Tensor] = {}
        for role in self.task.roles:  # what is only read is built again
            tensors |= {f"{role}.net.{k}": v for k, v in self.networks[role].state_dict().items()}
            tensors |= {f"{role}.ema.{k}": v for k, v in self.averages.get(role, {}).items()}
        for role, optimizer in self.optimizers.items():
            tensors |= {f"{role}.opt.{k}": v for k, v in states.moments(optimizer).items()}
        return tensors

    def save(self) -> Path:
        """Write a state (to be called by one process only). Raises `BadInput` when a weight is not finite: older states stay."""
        tensors = self.tensors()
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise self._not_finite(f"{name} is not finite after step {self.step}")
        about = self.about() | {"items": self.items, "machine": self.machine()}
        place = states.write(self.out, self.step, tensors, about, self.recipe.keep, self.damaged)
        self.saved = self.step
        return place

    def resume(self, folder: Path | None = None) -> list[str]:
        """Load the newest complete state in a folder (the output folder), if any; what is worth knowing about it, in lines.

        Raises `BadInput` for a state of another recipe or other data, with the differences.
        """
        found, damaged = states.newest(folder := folder or self.out)
        warnings = [f"{place}: damaged or incomplete ({wrong}); an older state is used" for place, wrong in damaged.items()]
        self.damaged = tuple(damaged) if folder == self.out else ()
        if found is not None:
            step, tensors, about = found
            states.refuse_other(about | {"recipe": as_of_today(about["recipe"])}, self.about(), folder)
            for role in self.task.roles:
                self.networks[role].load_state_dict(states.under(tensors, f"{role}.net."))
                for name, value in states.under(tensors, f"{role}.ema.").items():
                    self.averages[role][name].copy_(value)
            for role, optimizer in self.optimizers.items():
                states.restore_moments(optimizer, states.under(tensors, f"{role}.opt."))
            self.step, self.items = step, about["items"]
            self.saved = self.step if folder == self.out else None
            if other := list(states.differences(about["machine"], self.machine())):
                warnings.append(f"{folder}: made under other conditions ({'; '.join(other)}); the run goes on, but not bit for bit")
        if len(steps := self.processes.every(self.step)) > 1:
            raise BadInput(f"{folder}: the processes find the states of steps {steps}; let all of them see the same folder")
        return warnings

    def averaged(self) -> dict[str, nn.Module]:
        """Copies of the networks that hold the moving averages, by role, on the training device."""
        copies = copy.deepcopy(self.networks)
        for role, average in self.averages.items():
            copies[role].load_state_dict(average)
        return {role: network.eval().requires_grad_(False) for role, network in copies.items()}

    def rate(self) -> float:
        """Learning rate of the next step: linear warm-up, flat, then a linear fall to zero over the last `decay` of the steps."""
        r = self.recipe
        left = (r.steps - self.step) / max(r.decay * r.steps, 1)
        return r.lr * min(1.0, (self.step + 1) / (r.warmup + 1), left)

    def run(self) -> Iterator[Report]:
        """Train until `recipe.steps`. Raises `BadInput` at a loss or gradient that is not finite, before it reaches the weights."""
        part, of, begin = self.processes.index, self.processes.count, time.perf_counter()
        for batch in map(self._placed, batches(self.recipe, self.source, self.step, part, of, self.device.type == "cuda")):
            rate, losses, norms, asked = self.rate(), dict[str, float](), list[float](), set[str]()
            for role in self.task.roles:
                values, norm, wanted = self._update(role, batch, rate)
                losses |= values
                norms.append(norm)
                asked |= wanted
            self.items += self.recipe.data.batches[kind_of(self.recipe, self.step)].items
            self.step += 1
            self._average()
            asked |= self.asks if of == 1 else set()  # what came since
            self.asks -= asked
            losses = {role: losses[role] for role in self.task.roles} | losses
            yield Report(self.step, losses, rate, max(norms), time.perf_counter() - begin, self.items, frozenset(asked))
            begin = time.perf_counter()

    @torch.no_grad()
    def validate(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        """Mean figures over fixed held-out items of every kind of batch (the same for every call); empty when none is held out."""
        figures, kinds = dict[str, float](), self.recipe.data.batches
        sizes = [batch.size for batch in kinds]
        for kind, batch in enumerate(kinds):
            if not self.source.count("validation", kind):
                continue
            totals: dict[str, float] = {}
            for first in range(0, self.recipe.validation_items, 16):
                items = range(first, min(first + 16, self.recipe.validation_items))
                with self._arithmetic("validation", first):
                    values = self.task.validate(networks, self.held_out(items, kind))
                for name, value in values.items():
                    totals[name] = totals.get(name, 0) + float(value) * len(items) / self.recipe.validation_items
            suffix = (f"_{batch.size}" if batch.size and sizes.count(batch.size) == 1 else f"_kind_{kind}") if len(kinds) > 1 else ""
            figures |= {name + suffix: value for name, value in totals.items()}
        if bad := [name for name, value in figures.items() if not math.isfinite(value)]:
            raise self._not_finite(f"the validation figure {bad[0]} is not finite after step {self.step}")
        return figures

    def held_out(self, items: Sequence[int], kind: int = 0) -> Item:
        """A fixed batch of validation items on the training device."""
        draws = Draws(self.recipe, self.source, "validation")
        return self._placed(stacked([draws.item(item, 0, kind) for item in items]))

    @torch.no_grad()
    def samples(self, networks: Mapping[str, nn.Module], count: int = 8) -> Tensor | None:
        """The task's pictures `(N, 3, H, W)` in [-1, 1] of fixed held-out items; None when it has none, or nothing is held out."""
        if not self.source.count("validation", 0):
            return None
        with self._arithmetic("samples"):
            return self.task.samples(networks, self.held_out(range(count)))

    def _update(self, role: str, batch: Item, rate: float) -> tuple[dict[str, float], float, set[str]]:
        """One step of one network's optimiser: the loss and its parts, the norm of the gradient, what was asked for."""
        parameters, optimizer = self.trained[role], self.optimizers[role]
        for name, others in self.trained.items():  # the other networks are only read
            for parameter in others:
                parameter.requires_grad_(name == role)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        optimizer.zero_grad(set_to_none=True)
        totals: dict[str, Tensor] = {}
        count = self.recipe.accumulate
        for i, piece in enumerate(pieces(batch, count)):
            with self._arithmetic(role, self.step, i, self.processes.index):
                loss, parts = self.task.loss(role, self.networks, piece)
            (loss / count).backward()
            for name, value in ({role: loss} | parts).items():
                totals[name] = totals.get(name, 0) + value.detach().float() / count
        flags = torch.tensor([float(name in self.asks) for name in ASKED], device=self.device)
        means = self.processes.mean(parameters, torch.cat([torch.stack(list(totals.values())), flags]))
        norm = nn.utils.clip_grad_norm_(parameters, self.recipe.grad_clip)
        *values, last = torch.cat([means, norm.reshape(1)]).tolist()
        losses = dict(zip(totals, values, strict=False))
        if not all(map(math.isfinite, [*losses.values(), last])):
            raise self._not_finite(f"the loss or a gradient of the {role} is not finite at step {self.step + 1}")
        optimizer.step()
        return losses, last, {name for name, flag in zip(ASKED, values[len(losses) :], strict=True) if flag}

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        for role, average in self.averages.items():
            current = self.networks[role].state_dict()
            floats = [k for k, v in average.items() if v.is_floating_point()]
            torch._foreach_lerp_([average[k] for k in floats], [current[k] for k in floats], 1 - decay)
            for name in average.keys() - floats:
                average[name].copy_(current[name])

    @contextmanager
    def _arithmetic(self, *key: Hashable) -> Iterator[None]:
        """The chosen precision, and torch's own generator (dropout) set to a function of the seed and `key`."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            torch.manual_seed(derived(self.recipe.seed, "torch", *key))
            yield

    def _optimizer(self, role: str) -> torch.optim.Optimizer:
        recipe = self.recipe
        values: dict[str, Any] = {"lr": recipe.lr, "betas": recipe.betas, "weight_decay": recipe.weight_decay, "fused": True}
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.networks[role].named_parameters():
            if parameter.requires_grad:
                groups.setdefault(self.task.rate(role, name), []).append(parameter)
        given = [{"params": group, "factor": factor} for factor, group in groups.items()]
        return torch.optim.AdamW(given, **(values | self.task.adam(role)))

    def _placed(self, batch: Item) -> Item:
        return {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}

    def kept(self) -> str:
        """What is left when a run ends here."""
        return "no state was saved before" if self.saved is None else f"the state of step {self.saved} is kept"

    def _not_finite(self, what: str) -> BadInput:
        return BadInput(f"{self.out}: {what}; lower lr or look at the data ({self.kept()})")
