"""Networks as denoisers: what they are called with, what is made of their answer, and that batches do not couple pictures."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import tiny
from inpaintkit.core.schedule import NoiseSchedule, cosine
from inpaintkit.models.denoisers import NetworkDenoiser, Tiled, crops
from inpaintkit.models.unet import Network, NetworkConfig

SCHEDULE = cosine()
CLOSE = 32 * 2.0**-24  # eight float32 roundings of numbers up to about four


class Answer(nn.Module):
    """A network that gives a fixed answer, whatever it is shown."""

    def __init__(self, answer: Tensor):
        super().__init__()
        self.answer = nn.Parameter(answer, requires_grad=False)

    def forward(self, x: Tensor, time: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.answer.expand(len(x), *self.answer.shape[1:]))


class Clock(nn.Module):
    """A network that answers with the time it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, x: Tensor, time: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.one * time[:, None, None, None].expand(x.shape))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def denoiser(micro_batch: int = 1, **other) -> NetworkDenoiser:
    return NetworkDenoiser(tiny.network(**other), SCHEDULE, micro_batch)


def seen(denoiser: NetworkDenoiser, x: Tensor, t: int = 500) -> Tensor:
    """What enters the U-Net."""
    inputs = []
    hook = denoiser.network.unet.register_forward_pre_hook(lambda module, args: inputs.append(args[0].clone()))
    denoiser(x, t)
    hook.remove()
    return torch.cat(inputs)


@pytest.mark.parametrize("t", [1, 300, 700])
@pytest.mark.parametrize("prediction", ["x0", "eps", "v"])
def test_consistent_answers_of_every_kind_mean_the_same_clean_picture(prediction, t):
    x0, eps = normal(1, 3, 8, 8).clamp(-1, 1), normal(1, 3, 8, 8, seed=1)
    answer = {"x0": x0, "eps": eps, "v": SCHEDULE.v(x0, eps, t)}[prediction]
    network = Network(Answer(answer), NetworkConfig(prediction=prediction))
    found, spread = NetworkDenoiser(network, SCHEDULE)(SCHEDULE.noised(x0, t, eps), t)
    assert spread is None
    assert (found - x0).abs().max() < CLOSE / SCHEDULE.a(t)


@pytest.mark.parametrize("t", [1, 2, 500, 1000])
def test_the_network_counts_time_from_zero(t):
    clock = NetworkDenoiser(Network(Clock(), NetworkConfig(prediction="x0")), SCHEDULE)
    found, _ = clock(torch.zeros(2, 3, 4, 4), t)
    assert (found == t - 1).all()


@pytest.mark.parametrize("t", [0, -1, 1001])
def test_predicting_outside_the_levels_of_the_schedule_is_an_error(t):
    with pytest.raises(ValueError, match=r"levels 1\.\.1000"):
        denoiser()(torch.zeros(1, 3, 8, 8), t)


def test_a_learned_spread_is_split_from_the_answer():
    wide = denoiser(spread=True)
    x = normal(2, 3, 8, 8)
    x0, spread = wide(x, 500)
    raw = torch.cat([wide.network(x[i : i + 1], torch.tensor([499]), torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8)) for i in (0, 1)])
    assert torch.equal(x0, raw[:, :3])
    assert torch.equal(spread, raw[:, 3:])


@pytest.mark.parametrize("fill", ["zero", "pushpull"])
def test_told_nothing_the_network_sees_all_hole_and_no_colours(fill):
    from inpaintkit.models.unet import Condition

    untold = denoiser(condition=Condition(fill=fill))
    x = normal(2, 3, 8, 8)
    entered = seen(untold, x)
    assert torch.equal(entered[:, :3], x)
    assert (entered[:, 3:6] == 1).all()
    assert (entered[:, 6:] == 0).all()
    told = untold.told(torch.zeros(2, 1, 8, 8), normal(2, 3, 8, 8, seed=2))
    assert torch.equal(told(x, 500)[0], untold(x, 500)[0])


@pytest.mark.parametrize("held", [5.0, float("nan"), float("inf")])
@pytest.mark.parametrize("fill", ["zero", "pushpull"])
def test_what_the_picture_holds_in_the_hole_never_reaches_the_network(fill, held):
    from inpaintkit.models.unet import Condition

    known = (normal(1, 1, 8, 8, seed=3) > 0).float()
    picture = normal(1, 3, 8, 8, seed=4)
    other = torch.where(known > 0, picture, held)
    plain = denoiser(condition=Condition(fill=fill))
    x = normal(1, 3, 8, 8)
    clean = plain.told(known, picture)(x, 500)[0]
    assert torch.equal(plain.told(known, other)(x, 500)[0], clean)
    assert torch.equal(plain.network(x, torch.tensor([499]), known, other), clean)
    assert not torch.equal(plain.told(known, -picture)(x, 500)[0], clean)


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_a_picture_is_the_same_to_the_bit_in_any_company(micro_batch):
    known = (normal(5, 1, 16, 16, seed=5) > 0).float()
    x, picture = normal(5, 3, 16, 16), normal(5, 3, 16, 16, seed=6)
    plain = denoiser(micro_batch)

    def grouped(*groups: list[int]) -> Tensor:
        out = torch.empty_like(x)
        for group in groups:
            out[group] = plain.told(known[group], picture[group])(x[group], 400)[0]
        return out

    together = grouped([0, 1, 2, 3, 4])
    for groups in ([[0], [1], [2], [3], [4]], [[0, 1], [2, 3, 4]], [[4, 2, 0], [3, 1]], [[0, 1, 2, 3], [4]]):
        assert torch.equal(grouped(*groups), together)


@pytest.mark.parametrize(("micro_batch", "expected"), [(1, 5), (3, 2), (8, 1)])
def test_the_network_always_gets_whole_micro_batches_and_each_picture_counts_as_one_evaluation(micro_batch, expected):
    plain, sizes = denoiser(micro_batch), []
    plain.network.register_forward_hook(lambda module, args, out: sizes.append(len(args[0])))
    for count in (1, 2):
        plain(normal(5, 3, 8, 8), 10)
        assert sizes == [micro_batch] * expected * count
        assert plain.calls.forward == 5 * count  # padding is not counted


@dataclass(frozen=True)
class Pointwise:
    """A denoiser that sees single pixels only: the same through any window."""

    schedule: NoiseSchedule = SCHEDULE
    clamp: bool = False
    sizes: list = field(default_factory=list)

    def __call__(self, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        self.sizes.append(tuple(x.shape))
        return x / 2, x * x


def eighths(*shape: int) -> Tensor:
    """Multiples of 1/8 in [-1, 1]: sums of a few dozen of them, weighted by whole numbers, are exact in float32."""
    return torch.randint(-8, 9, shape, generator=torch.Generator().manual_seed(0)) / 8


def test_a_denoiser_of_single_pixels_is_the_same_in_tiles():
    x, inner = eighths(2, 3, 24, 20), Pointwise()
    corners = [(i, j) for i in (0, 6, 12) for j in (0, 4, 8)]
    x0, spread = Tiled(inner, corners, (12, 12), torch.full_like(x, 9.0))(x, 5)
    assert torch.equal(x0, x / 2)
    assert torch.equal(spread, x * x)
    assert inner.sizes == [(18, 3, 12, 12)]


def test_where_no_tile_looks_the_clean_picture_is_the_known_one():
    x, rest = eighths(1, 3, 24, 24), torch.full((1, 3, 24, 24), 0.25)
    x0, spread = Tiled(Pointwise(), [(0, 0), (6, 6)], (12, 12), rest)(x, 5)
    covered = torch.zeros(24, 24, dtype=torch.bool)
    covered[:12, :12] = covered[6:18, 6:18] = True
    assert torch.equal(x0[..., covered], (x / 2)[..., covered])
    assert (x0[..., ~covered] == 0.25).all()
    assert (spread[..., ~covered] == 0).all()


def test_tiles_of_a_told_network_are_told_their_own_part():
    known, picture = (normal(2, 1, 16, 24, seed=5) > 0).float(), normal(2, 3, 16, 24, seed=6)
    x, corners, size = normal(2, 3, 16, 24), [(0, 0), (0, 8)], (16, 16)
    plain = denoiser()
    tiled = Tiled(plain.told(crops(known, corners, size), crops(picture, corners, size)), corners, size, picture * known)
    x0, _ = tiled(x, 400)
    left = plain.told(known[..., :16], picture[..., :16])(x[..., :16], 400)[0]
    right = plain.told(known[..., 8:], picture[..., 8:])(x[..., 8:], 400)[0]
    top = max(float(left.abs().max()), float(right.abs().max()), 1.0)
    assert (x0[..., :8] - left[..., :8]).abs().max() < 4 * top * 2.0**-24  # one weight times a value, divided by the weight
    assert (x0[..., 16:] - right[..., 8:]).abs().max() < 4 * top * 2.0**-24
    between = torch.stack([left[..., 8:], right[..., :8]])
    assert (x0[..., 8:16] <= between.amax(0) + 1e-6).all()
    assert (x0[..., 8:16] >= between.amin(0) - 1e-6).all()


def test_telling_leaves_the_denoiser_itself_untold_and_shares_its_count():
    plain = denoiser()
    told = plain.told(torch.ones(1, 1, 8, 8), torch.zeros(1, 3, 8, 8))
    told(normal(1, 3, 8, 8), 3)
    assert plain.known is None
    assert plain.calls.forward == 1
    assert replace(plain).conditioned
    assert not denoiser(condition=None).conditioned
