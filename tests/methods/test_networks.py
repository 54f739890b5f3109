"""The methods on real networks (tiny ones): what is counted is what happened, and batches do not couple pictures."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import tiny
from inpaintkit.core.noise import Noise
from inpaintkit.core.operators import Known
from inpaintkit.core.resize import AvgPool, Stack
from inpaintkit.core.sampler import Context, begin, sample
from inpaintkit.core.schedule import cosine
from inpaintkit.methods import METHODS, CoPaint
from inpaintkit.methods.gradient import GradientMethod
from inpaintkit.methods.ilvr import ILVR
from inpaintkit.models.denoisers import Calls, NetworkDenoiser, Tiled, crops

SCHEDULE = cosine()
SEEDS = (3, 5, 8, 13, 21)


def few(method):
    walk = replace(method.walk, steps=3, jump_length=min(method.walk.jump_length, 2), jump_n_sample=min(method.walk.jump_n_sample, 2))
    method = replace(method, walk=walk)
    if isinstance(method, ILVR):
        return replace(method, range_t=0, factor=4)
    if isinstance(method, CoPaint):
        return replace(method, lr=2.0)  # long enough to be shortened
    return method


FEW = {name: few(method) for name, method in METHODS.items()}
GRADIENT = {name: method for name, method in FEW.items() if isinstance(method, GradientMethod)}
every_method = pytest.mark.parametrize("method", FEW.values(), ids=list(FEW))
every_gradient_method = pytest.mark.parametrize("method", GRADIENT.values(), ids=list(GRADIENT))

PICTURES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
MASKS = (torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(1)) < 0.6).float()
NETWORK = tiny.network(seed=1)


def denoiser(micro_batch=2, frugal=False) -> NetworkDenoiser:
    return NetworkDenoiser(NETWORK, SCHEDULE, micro_batch, frugal=frugal, calls=Calls())


def run(method, network, index=(0, 1, 2, 3, 4), operator=None, y=None) -> Tensor:
    index = list(index)
    operator = operator or Known(MASKS[index])
    c = Context(network, operator, PICTURES[index] if y is None else y, Noise([SEEDS[i] for i in index]), method.walk.levels(SCHEDULE))
    with torch.no_grad():
        *_, last = sample(method, method.walk.times(SCHEDULE), begin(c, (3, 16, 16)), c)
    return last.x


class Hooks:
    """Counts what the network itself does: pictures it is called with, there and back."""

    def __init__(self, network):
        self.forward = self.backward = 0
        self.handles = [network.register_forward_hook(self.ahead), network.register_full_backward_hook(self.back)]

    def ahead(self, module, inputs, output):
        self.forward += len(inputs[0])

    def back(self, module, gradients_in, gradients_out):
        self.backward += len(gradients_out[0])

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for handle in self.handles:
            handle.remove()


@every_method
@pytest.mark.parametrize("frugal", [False, True])
def test_evaluations_are_counted_as_hooks_on_the_network_count_them(method, frugal):
    network = denoiser(1, frugal)
    with Hooks(NETWORK) as hooks:
        run(method, network, range(2))
    assert (network.calls.forward, network.calls.backward) == (hooks.forward, hooks.backward)
    assert (hooks.backward > 0) == isinstance(method, GradientMethod)
    assert hooks.forward > 0


@every_gradient_method
def test_padding_is_not_counted(method):
    network = denoiser(4)
    with Hooks(NETWORK) as hooks:
        run(method, network, range(3))
    assert (network.calls.forward, network.calls.backward) == (hooks.forward * 3 // 4, hooks.backward * 3 // 4)


@every_gradient_method
def test_the_frugal_way_costs_one_evaluation_per_gradient_and_changes_no_bit(method):
    plain, frugal = denoiser(2), denoiser(2, frugal=True)
    assert torch.equal(run(method, plain), run(method, frugal))
    assert frugal.calls.backward == plain.calls.backward
    assert frugal.calls.forward == plain.calls.forward + plain.calls.backward


@every_gradient_method
def test_the_frugal_way_keeps_the_activations_of_one_call_at_a_time(method):
    """Bytes saved for the way back at the end of a prediction."""

    def kept(frugal):
        sizes: dict[int, int] = {}

        def saved(tensor):
            sizes[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(saved, lambda tensor: tensor):
            x0, _ = denoiser(1, frugal)(PICTURES.clone().requires_grad_(), 500)
        del x0
        return sum(sizes.values())

    assert kept(frugal=True) < kept(frugal=False) / 5


@every_method
@pytest.mark.parametrize("micro_batch", [1, 2])
def test_a_picture_is_the_same_to_the_bit_in_any_company(method, micro_batch):
    together = run(method, denoiser(micro_batch))
    assert together.isfinite().all()
    for index in ([2], [4, 1, 3]):
        assert torch.equal(run(method, denoiser(micro_batch), index), together[index])


@every_gradient_method
def test_gradients_go_through_tiles(method):
    corners, size = [(0, 0), (0, 8)], (16, 16)
    wide, mask = torch.cat([PICTURES, PICTURES.flip(3)], 3)[..., :24], torch.cat([MASKS, MASKS], 3)[..., :24]
    finished = {}
    for frugal in (False, True):
        for index in ([0], [0, 1]):
            inner = denoiser(1, frugal).told(crops(mask[index], corners, size), crops(wide[index], corners, size))
            c = Context(
                Tiled(inner, corners, size, wide[index] * mask[index]),
                Known(mask[index]),
                wide[index],
                Noise([SEEDS[i] for i in index]),
                method.walk.levels(SCHEDULE),
            )
            with Hooks(NETWORK) as hooks, torch.no_grad():
                *_, last = sample(method, method.walk.times(SCHEDULE), begin(c, (3, 16, 24)), c)
            finished[frugal, len(index)] = last.x[:1]
            assert (inner.calls.forward, inner.calls.backward) == (hooks.forward, hooks.backward)
            assert hooks.backward % (2 * len(index)) == 0
    assert all(torch.equal(x, finished[False, 1]) for x in finished.values())


@pytest.mark.parametrize("name", [name for name in FEW if name not in ("plain", "ddpm", "ddim", "repaint")])
def test_every_measurement_serves_a_real_network(name):
    method = FEW[name]
    for operator in (AvgPool(2), Stack(Known(MASKS), AvgPool(2))):
        y = operator.A(PICTURES)
        end = run(method, denoiser(), operator=operator, y=y)
        assert end.isfinite().all()
        if name == "ddnm":
            assert operator.residual(end, y).abs().max() < 1e-5  # float32, numbers of size 1
            if isinstance(operator, Stack):
                assert torch.equal(end[MASKS.expand_as(end) > 0], PICTURES[MASKS.expand_as(end) > 0])
