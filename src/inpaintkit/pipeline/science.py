"""Fields from measurements: several samples of a conditional model, their mean and their spread, in the array's own units."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.noise import Noise, derived
from inpaintkit.core.operators import Known
from inpaintkit.core.sampler import Context, Method, State, begin, sample
from inpaintkit.core.settings import dumped
from inpaintkit.data.scale import Scale
from inpaintkit.models.control import ControlConfig, ControlNetwork, Units
from inpaintkit.models.denoisers import Calls
from inpaintkit.models.guided import guided
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.job import Step
from inpaintkit.pipeline.measurements import Measurements

AT_ONCE = 64  # fields sampled together; more only costs memory
ALONE = "std is 0 everywhere, for one sample has no spread; draw more for an uncertainty (--samples)"
FAR = 8.0  # standard deviations from the mean that values of these units hardly have


@dataclass(frozen=True)
class Reconstruction:
    """What a model says about fields, in their units, float32. Known values are the given ones, to the bit, with std 0."""

    samples: NDArray[np.float32]
    """`(K, N, H, W, C)`."""

    @property
    def mean(self) -> NDArray[np.float32]:
        """`(N, H, W, C)`."""
        return np.asarray(self.samples.mean(0, dtype=np.float64), np.float32)

    @property
    def std(self) -> NDArray[np.float32]:
        """`(N, H, W, C)`, of the samples around their mean, with K - 1; 0 for one sample."""
        count = len(self.samples)
        return np.asarray(self.samples.std(0, dtype=np.float64, ddof=1) if count > 1 else np.zeros(self.samples.shape[1:]), np.float32)


@dataclass(frozen=True)
class Reconstructor:
    """A model of fields, ready to reconstruct them. Make one with `Reconstructor.from_pretrained`."""

    pipe: Inpainter
    network: ControlNetwork
    units: Units

    @classmethod
    def from_pretrained(cls, name: str, device: str = "auto", dtype: str = "auto", micro_batch: int | None = None) -> "Reconstructor":
        """Load a model that was trained on arrays. Raises `UsageError` for a model of pictures, and as `Inpainter` does.

        Fields are small: 16 of them are one call of the network unless `micro_batch` says otherwise.
        """
        pipe = Inpainter.from_pretrained(name, device, dtype, micro_batch or 16)
        network = pipe.model.network
        if not isinstance(network, ControlNetwork) or network.config.units is None:
            advice = "inpaintkit train recipes/grf-32.toml shows how to train one on arrays; inpaintkit fill fills pictures"
            raise UsageError(f"{name}: is a model of pictures, not of fields; {advice}")
        return cls(pipe, network, network.config.units)

    @property
    def config(self) -> ControlConfig:
        return self.network.config

    @torch.no_grad()
    def __call__(
        self,
        given: Measurements,
        method: Method | None = None,
        seed: int = 0,
        samples: int = 16,
        guidance: float = 1.0,
        on_step: Callable[[Step], None] | None = None,
    ) -> tuple[Reconstruction, dict[str, Any]]:
        """Sample `samples` fields for each of those measured; (reconstruction, record). Sample k of a field uses seed + k.

        The network is told the measurements at every step, at guidance scale `guidance`; a method that projects (repaint,
        ddnm, ...) puts the known values in besides. Raises `BadInput` and `UsageError`, one line.
        """
        began = time.perf_counter()
        if seed < 0 or samples < 1 or not 0 <= guidance < float("inf"):
            raise UsageError(f"seed = {seed}, samples = {samples}, guidance = {guidance}: at least 0, 1 and 0 are possible")
        chosen, calls = self.pipe.method(method), Calls()
        told = self._scaled(given, self._size(given))
        notes = [*given.notes, *self._far(told[0]), *([ALONE] if samples == 1 else [])]
        pairs = [(n, k) for n in range(len(given.known)) for k in range(samples)]
        groups = [pairs[first : first + AT_ONCE] for first in range(0, len(pairs), AT_ONCE)]
        moves, parts = len(chosen.walk.times(self.pipe.model.schedule)) - 1, []
        for i, group in enumerate(groups):
            noise = Noise([derived(seed + k, "field", n) if n else seed + k for n, k in group])
            y, cond, known = (values[[n for n, _ in group]].to(self.pipe.device) for values in told)
            denoiser = guided(replace(self.pipe.denoiser, known=known, picture=cond, calls=calls), guidance)
            context = Context(denoiser, Known(known), y, noise, chosen.walk.levels(self.pipe.model.schedule), notes)
            for done, state in enumerate(self._states(chosen, context), i * moves + 1):
                if on_step is not None:
                    on_step(Step(state.t, state.x, state.x0, state.x0_t, done=done, total=moves * len(groups)))
            parts.append(state.x.cpu())
        made = Reconstruction(self._in_units(torch.cat(parts), given, samples))
        return made, self._record(chosen, given, seed, samples, guidance, calls, notes, began)

    def _states(self, method: Method, context: Context) -> Iterator[State]:
        return sample(method, method.walk.times(self.pipe.model.schedule), begin(context, context.y.shape[1:]), context)

    def _size(self, given: Measurements) -> tuple[int, int]:
        """Height and width at which the network runs: what is given, enlarged to its multiples by positions of which nothing is known.

        Raises `BadInput` when they are too large, or when a condition that is not values of the field would have to be made up.
        """
        h, w = given.known.shape[1:]
        step, largest = self.network.multiple, self.config.largest
        if max(h, w) > largest:
            raise BadInput(
                f"{given.name}: fields of {h} x {w} positions; this model takes up to {largest} on a side, so cut them into parts"
            )
        size = -(-h // step) * step, -(-w // step) * step
        if size != (h, w) and self.config.condition == "measurements":
            raise BadInput(f"{given.name}: fields of {h} x {w} positions; this model's measurements need multiples of {step} on each side")
        return size

    def _scaled(self, given: Measurements, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """(values known `(N, C, H, W)`, condition `(N, C', H, W)`, known `(N, 1, H, W)`), scaled, at the network's size."""
        units, (h, w) = self.units, given.known.shape[1:]
        known = torch.from_numpy(given.known).float()[:, None]
        values = Scale(units.mean, units.std).scaled(np.where(given.known[..., None], given.values, 0)) * known
        cond = values if given.cond is None else Scale(units.cond_mean, units.cond_std).scaled(given.cond)
        rim = (0, size[1] - w, 0, size[0] - h)
        x, cond, known = (torch.nn.functional.pad(part, rim) for part in (values, cond, known))
        return x, cond, known

    def _far(self, x: Tensor) -> list[str]:
        """What is to be said about values that fields of the model's kind do not have: perhaps other units were given."""
        worst = float(x.abs().max())
        if worst <= FAR:
            return []
        unit = f" ({self.units.name})" if self.units.name else ""
        mean = "standard deviations from the mean of what the model was trained on"
        return [f"known values lie up to {worst:.0f} {mean}; are its units{unit} meant?"]

    def _in_units(self, x: Tensor, given: Measurements, samples: int) -> NDArray[np.float32]:
        """`(K, N, H, W, C)` from `(N K, C, H', W')`, known values as they were given."""
        n, h, w = given.known.shape
        values = Scale(self.units.mean, self.units.std).units(x.double())[..., :h, :w].permute(0, 2, 3, 1).float().numpy()
        return np.where(given.known[..., None], given.values, values.reshape(n, samples, h, w, -1).swapaxes(0, 1)).astype(np.float32)

    def _record(self, method, given, seed, samples, guidance, calls, notes, began) -> dict[str, Any]:  # type: ignore[no-untyped-def]
        pipe, count = self.pipe, len(given.known)
        return {
            "model": pipe.model.name,
            "model_sha256": pipe.model.sha256,
            "method": {"class": type(method).__name__, **dumped(method)},
            "papers": [str(paper) for paper in method.papers],
            "units": self.units.name,
            "condition": self.config.condition,
            "guidance": guidance,
            "seed": seed,
            "samples": samples,
            "fields": count,
            "size": list(given.known.shape[1:]),
            "told": guidance > 0,
            "known_fraction": float(given.known.mean()),
            "hole_fraction": float(1 - given.known.mean()),
            "walk": dumped(method.walk),
            "steps": method.walk.steps,
            "nfe": calls.forward // (samples * count),
            "seconds_total": round(time.perf_counter() - began, 4),
            "dtype": str(pipe.dtype).removeprefix("torch."),
            "device": str(pipe.device),
            "threads": torch.get_num_threads(),
            "micro_batch": pipe.denoiser.micro_batch,
            "versions": {name: version(name) for name in ("inpaintkit", "torch", "numpy")},
            "notes": notes,
        }
