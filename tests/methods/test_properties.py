"""What every user may rely on, whatever the method: seeds, batches, known values, and the methods' limiting cases."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from inpaintkit.core.errors import UsageError
from inpaintkit.core.noise import Noise
from inpaintkit.core.operators import Known, Operator
from inpaintkit.core.sampler import begin, sample
from inpaintkit.core.walk import Walk, moves_down
from inpaintkit.evaluate.oracle import context, fill, trajectory
from inpaintkit.methods import METHODS, Plain, RePaint
from methods.cases import DENOISER, KNOWN, SCHEDULE, SEEDS, SHORT, Y, trailing

ALL, NOTHING = torch.ones_like(KNOWN), torch.zeros_like(KNOWN)
JUMPS = trailing(12, jump_length=3, jump_n_sample=3)


def noise(seeds=SEEDS):
    return Noise(seeds, torch.float64)


every_method = pytest.mark.parametrize("method", SHORT.values(), ids=list(SHORT))


@every_method
def test_the_same_seed_gives_the_same_picture(method):
    assert torch.equal(fill(method, DENOISER, Y, KNOWN, noise()), fill(method, DENOISER, Y, KNOWN, noise()))


@every_method
def test_another_seed_gives_another_picture(method):
    one, other = fill(method, DENOISER, Y, KNOWN, noise()), fill(method, DENOISER, Y, KNOWN, noise([s + 1 for s in SEEDS]))
    apart = (one - other)[KNOWN.expand_as(one) == 0].reshape(len(SEEDS), -1).abs().amax(1)
    assert (apart > 1e-3).all()


@every_method
@pytest.mark.parametrize("i", range(4))
def test_a_picture_does_not_depend_on_its_batch_mates(method, i):
    together = fill(method, DENOISER, Y, KNOWN, noise())[i : i + 1]
    alone = fill(method, DENOISER, Y[i : i + 1], KNOWN, noise(SEEDS[i : i + 1]))
    # matrix products of another size may round differently; the noise itself is bit-equal (core/test_noise)
    assert (together - alone).abs().max() < 1e-12


@every_method
def test_a_batch_may_share_one_measurement(method):
    shared = fill(method, DENOISER, Y[:1], KNOWN, noise())
    repeated = fill(method, DENOISER, Y[:1].expand(4, -1, -1, -1), KNOWN, noise())
    assert torch.equal(shared, repeated)


@every_method
@pytest.mark.parametrize("junk", [1e6, float("nan")])
def test_what_the_measurement_holds_in_the_hole_is_never_read(method, junk):
    filled_hole = torch.where(KNOWN > 0, Y, junk)
    assert torch.equal(fill(method, DENOISER, filled_hole, KNOWN, noise()), fill(method, DENOISER, Y, KNOWN, noise()))


@every_method
def test_states_follow_the_walk_and_say_where_their_estimate_is_from(method):
    times, states = method.walk.times(SCHEDULE), trajectory(method, DENOISER, Y, KNOWN, noise())
    assert [state.t for state in states] == times
    asked = [t for t, s in pairwise(times) if s < t]
    fresh = [state.x0_t for before, state in pairwise(states) if state.t < before.t]
    assert fresh == asked
    assert all(state.x.shape == Y.shape and state.x0.shape == Y.shape for state in states[1:])


@every_method
def test_a_jump_up_keeps_the_latest_estimate_for_previews(method):
    method = replace(method, walk=JUMPS)
    states = trajectory(method, DENOISER, Y, KNOWN, noise())
    ups = [(before, after) for before, after in pairwise(states) if after.t > before.t]
    assert len(ups) == len(method.walk.times(SCHEDULE)) - 1 - moves_down(method.walk.times(SCHEDULE)) > 0
    assert all(after.x0 is before.x0 and after.x0_t == before.x0_t for before, after in ups)


@every_method
def test_the_last_move_to_the_clean_picture_adds_no_noise(method):
    c = context(method, DENOISER, Y, KNOWN, noise())
    *_, before, last = trajectory(method, DENOISER, Y, KNOWN, noise())
    c.noise = None  # any draw now raises
    assert torch.equal(method.step(before, 0, c).x, last.x)


@pytest.mark.parametrize("walk", [trailing(20), JUMPS], ids=["walk", "jumps"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_injection_after_the_move_ends_with_the_known_values_to_the_bit(eta, walk):
    end = fill(RePaint(eta=eta, walk=walk), DENOISER, Y, KNOWN, noise())
    assert torch.equal(end[KNOWN.expand_as(end) > 0], Y[KNOWN.expand_as(Y) > 0])


def test_injection_ahead_of_the_network_needs_the_final_composite():
    end = fill(RePaint(merge="before", walk=trailing(20)), DENOISER, Y, KNOWN, noise())
    known = KNOWN.expand_as(end) > 0
    assert 1e-4 < (end - Y)[known].abs().max() < 0.5  # near, as the last merge was at the lowest level, but not the input
    composite = Known(KNOWN).project(end, Y)
    assert torch.equal(composite[known], Y[known])
    assert torch.equal(composite[~known], end[~known])


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_both_places_of_injection_fill_the_hole_alike_when_the_walk_has_no_jumps(eta):
    after = RePaint(eta=eta, walk=trailing(20))
    one, other = (fill(m, DENOISER, Y, KNOWN, noise()) for m in (after, replace(after, merge="before")))
    hole = KNOWN.expand_as(one) == 0
    assert torch.equal(one[hole], other[hole])
    assert not torch.equal(one[~hole], other[~hole])


@pytest.mark.parametrize("walk", [trailing(20), JUMPS], ids=["walk", "jumps"])
def test_with_everything_known_injection_returns_the_input(walk):
    assert torch.equal(fill(RePaint(walk=walk), DENOISER, Y, ALL, noise()), Y)


@pytest.mark.parametrize("walk", [trailing(20), JUMPS], ids=["walk", "jumps"])
@pytest.mark.parametrize("merge", ["after", "before"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_with_nothing_known_injection_is_the_network_alone(eta, merge, walk):
    unconditional = fill(Plain(eta=eta, walk=walk), DENOISER, Y, NOTHING, noise())
    assert torch.equal(fill(RePaint(eta=eta, merge=merge, walk=walk), DENOISER, Y, NOTHING, noise()), unconditional)
    assert not torch.equal(fill(RePaint(eta=eta, merge=merge, walk=walk), DENOISER, Y, KNOWN, noise()), unconditional)


@pytest.mark.parametrize("merge", ["after", "before"])
def test_a_range_that_covers_the_walk_switches_injection_off(merge):
    off, almost = (RePaint(merge=merge, range_t=r, walk=trailing(20)) for r in (20, 18))
    unconditional = fill(Plain(eta=1.0, walk=trailing(20)), DENOISER, Y, KNOWN, noise())
    assert torch.equal(fill(off, DENOISER, Y, KNOWN, noise()), unconditional)
    assert not torch.equal(fill(almost, DENOISER, Y, KNOWN, noise()), unconditional)


def test_repaint_that_walks_each_stretch_once_is_injection():
    once, never = RePaint(walk=trailing(20, jump_length=5, jump_n_sample=1)), RePaint(walk=trailing(20))
    assert torch.equal(fill(once, DENOISER, Y, KNOWN, noise()), fill(never, DENOISER, Y, KNOWN, noise()))


def test_the_table_names_the_published_settings():
    assert METHODS["repaint"] == RePaint(eta=1.0, merge="after", range_t=0, walk=Walk(250, jump_length=10, jump_n_sample=10))
    assert METHODS["ddpm"] == RePaint(eta=1.0, walk=Walk(1000))
    assert METHODS["ddim"] == RePaint(eta=0.0, walk=Walk(100))


class Rows(Operator):
    """Sums of rows: no single value is known."""

    def A(self, x):
        return x.sum(-1, keepdim=True)

    def At(self, y):
        return y.expand(*y.shape[:-1], 32)

    def pinv(self, y):
        return self.At(y) / 32


def test_injection_refuses_a_measurement_without_known_values_and_says_what_to_use():
    method = RePaint(walk=trailing(5))
    c = context(method, DENOISER, Y, KNOWN, noise())
    c.operator = Rows()
    with pytest.raises(UsageError, match="needs known pixels; Rows has none, use ddnm"):
        list(sample(method, method.walk.times(SCHEDULE), begin(c, Y.shape[1:]), c))
