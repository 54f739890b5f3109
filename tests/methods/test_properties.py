"""What every user may rely on, whatever the method: seeds, batches, known values, and the methods' limiting cases."""

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.noise import Noise
from inpaintkit.core.operators import Known, Linear
from inpaintkit.core.resize import AvgPool, LowPass
from inpaintkit.core.sampler import State, begin, sample
from inpaintkit.core.settings import checked
from inpaintkit.core.walk import Walk, moves_down
from inpaintkit.evaluate.oracle import Exact, context, fill, trajectory
from inpaintkit.methods import DDNM, DPS, ILVR, METHODS, CoPaint, Plain, RePaint
from inpaintkit.methods.gradient import squares
from methods.cases import DENOISER, KNOWN, PRIOR, SCHEDULE, SEEDS, SHORT, Y, trailing

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


# ---- ddnm


@pytest.mark.parametrize("walk", [trailing(20), JUMPS], ids=["walk", "jumps"])
def test_with_nothing_known_and_no_fresh_noise_ddnm_is_plain_ddim(walk):
    unconditional = fill(Plain(walk=walk), DENOISER, Y, NOTHING, noise())
    assert torch.equal(fill(DDNM(renoise=0.0, walk=walk), DENOISER, Y, NOTHING, noise()), unconditional)
    assert not torch.equal(fill(DDNM(renoise=0.0, walk=walk), DENOISER, Y, KNOWN, noise()), unconditional)
    assert not torch.equal(fill(DDNM(walk=walk), DENOISER, Y, NOTHING, noise()), unconditional)


@pytest.mark.parametrize("walk", [trailing(20), JUMPS], ids=["walk", "jumps"])
def test_ddnm_ends_with_the_known_values_to_the_bit(walk):
    end = fill(DDNM(walk=walk), DENOISER, Y, KNOWN, noise())
    assert torch.equal(end[KNOWN.expand_as(end) > 0], Y[KNOWN.expand_as(Y) > 0])


def test_ddnm_trusts_a_noisy_measurement_less_the_noisier_it_is():
    gaps = [float((fill(DDNM(sigma_y=n, walk=trailing(20)), DENOISER, Y, ALL, noise()) - Y).norm()) for n in (0.0, 0.05, 0.5, 50.0)]
    assert gaps[0] == 0
    assert gaps == sorted(gaps)
    nothing = fill(DDNM(walk=trailing(20)), DENOISER, Y, NOTHING, noise())
    assert torch.allclose(fill(DDNM(sigma_y=1e6, walk=trailing(20)), DENOISER, Y, ALL, noise()), nothing, atol=1e-6)


# ---- ilvr


def test_ilvr_of_factor_1_overwrites_with_the_reference_at_every_level():
    method = ILVR(factor=1, range_t=0, walk=trailing(20))
    states, drawn = trajectory(method, DENOISER, Y, ALL, noise()), noise()
    for state in states[1:]:
        wanted = SCHEDULE.noised(Y, state.t, drawn.draw("known", Y.shape[1:])) if state.t else Y
        assert torch.equal(state.x, wanted)


def test_ilvr_gives_every_state_above_its_range_the_references_low_frequencies_at_its_level():
    method, phi, drawn = ILVR(factor=8, range_t=5, lowpass="pool", walk=trailing(20)), LowPass(8, "pool"), noise()
    for level, state in zip(range(19, -1, -1), trajectory(method, DENOISER, Y, ALL, noise())[1:], strict=True):
        reference = SCHEDULE.noised(Y, state.t, drawn.draw("known", Y.shape[1:])) if level > 5 else Y
        alike = (phi.A(state.x) - phi.A(reference)).abs().amax((1, 2, 3))  # cells are a projector: there they are equal
        assert (alike < 1e-12).all() if level > 5 else (alike > 1e-3).all()
        assert (state.x - reference).abs().amax() > 0.05  # the details are its own
    end = fill(replace(method, range_t=0), DENOISER, Y, ALL, noise())
    assert torch.allclose(phi.A(end), phi.A(Y), rtol=0, atol=1e-12)


def test_ilvr_with_nothing_known_still_ends_in_a_picture_of_the_mixture():
    end = fill(ILVR(range_t=0, walk=trailing(20)), DENOISER, Y, NOTHING, noise())
    assert end.isfinite().all()
    assert end.abs().max() < 5


@pytest.mark.parametrize("kind", [ILVR, RePaint])
@pytest.mark.parametrize("range_t", [18, 19, 100])
def test_a_range_that_switches_the_condition_off_is_noted_and_runs(kind, range_t):
    method = kind(range_t=range_t, walk=trailing(20))
    c = context(method, DENOISER, Y, KNOWN, noise())
    *_, last = sample(method, method.walk.times(SCHEDULE), begin(c, Y.shape[1:]), c)
    off = range_t >= 19
    assert len(c.notes) == off  # said once
    assert torch.equal(last.x, fill(Plain(eta=1.0, walk=trailing(20)), DENOISER, Y, KNOWN, noise())) == off
    if off:
        assert f"range_t = {range_t}: the walk reaches levels 19 to 0 only" in c.notes[0]


def test_ilvr_refuses_a_factor_that_does_not_divide_before_it_asks_the_network():
    network = Exact(PRIOR, SCHEDULE)
    with pytest.raises(UsageError, match=r"1 x 32 pixels is no whole number of cells of 5|no whole number of cells of 5"):
        fill(ILVR(factor=5, walk=trailing(20)), network, Y, KNOWN, noise())
    assert network.calls.forward == 0


# ---- the gradient methods


@pytest.mark.parametrize("weighting", ["dps", "pigdm"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_with_nothing_known_dps_is_the_network_alone(weighting, eta):
    method = DPS(weighting=weighting, eta=eta, walk=trailing(12))
    unconditional = fill(Plain(eta=eta, walk=trailing(12)), DENOISER, Y, NOTHING, noise())
    assert torch.equal(fill(method, DENOISER, Y, NOTHING, noise()), unconditional)


def test_with_nothing_known_copaint_is_plain_ddim():
    unconditional = fill(Plain(walk=trailing(12)), DENOISER, Y, NOTHING, noise())
    assert torch.equal(fill(CoPaint(walk=trailing(12)), DENOISER, Y, NOTHING, noise()), unconditional)


def test_dps_steps_by_zeta_over_the_norm_whatever_the_error_is():
    state = State(500, trajectory(Plain(walk=trailing(20)), DENOISER, Y, KNOWN, noise())[10].x)
    c = context(DPS(walk=trailing(100)), DENOISER, Y, KNOWN, noise())
    free, short, long = (DPS(zeta=z, eta=0.0).step(state, 490, c).x for z in (0.0, 0.5, 1.0))
    assert torch.allclose(long - free, 2 * (short - free), rtol=1e-9)
    x = state.x.clone().requires_grad_()
    error = (DENOISER(x, 500)[0] - Y)[..., KNOWN.flatten() > 0]
    (slope,) = torch.autograd.grad(error.flatten(1).norm(dim=1).sum(), x)
    assert torch.allclose(long - free, -slope, rtol=0, atol=1e-10)


def test_copaint_never_ends_a_level_with_a_higher_loss_than_it_began_with():
    for lr in (0.02, 1.0, 1e4):
        method = CoPaint(lr=lr, walk=trailing(8))
        c = context(method, DENOISER, Y, KNOWN, noise())
        state = begin(c, Y.shape[1:])
        for s in method.walk.times(SCHEDULE)[1:]:
            before, after = c.predict(state.x, state.t), method.improved(state.x, state.t, c)
            assert (squares(c.operator.residual(after.x0, Y)) <= squares(c.operator.residual(before.x0, Y))).all()
            state = method.step(state, s, c)


def test_copaint_counts_the_evaluations_it_spends_on_shortening_steps():
    def calls(lr):
        network = Exact(PRIOR, SCHEDULE)
        fill(CoPaint(inner=2, lr=lr, walk=trailing(5)), network, Y[:1], KNOWN, noise(SEEDS[:1]))
        return network.calls

    easy, hard = calls(1e-3), calls(30.0)
    assert (easy.forward, easy.backward) == (5 * 3, 5 * 2)
    assert hard.forward > easy.forward
    assert hard.backward == easy.backward


@pytest.mark.parametrize("method", [DPS(walk=trailing(5)), DPS(weighting="pigdm", walk=trailing(5)), CoPaint(walk=trailing(5))])
def test_a_network_without_a_gradient_is_refused_in_one_line(method):
    class Opaque(Exact):
        def __call__(self, x, t):
            with torch.no_grad():
                return super().__call__(x, t)

    name = type(method).__name__.lower()
    with pytest.raises(UsageError, match=f"^{name} needs the gradient of the network, and this one gives none; use") as refused:
        fill(method, Opaque(PRIOR, SCHEDULE), Y, KNOWN, noise())
    assert "\n" not in str(refused.value)


@every_method
def test_methods_run_where_gradients_are_off_and_leave_no_trace_of_them(method):
    with torch.no_grad():
        states = trajectory(method, DENOISER, Y, KNOWN, noise())
    assert not any(part.requires_grad for state in states[1:] for part in (state.x, state.x0))
    assert torch.equal(states[-1].x, fill(method, DENOISER, Y, KNOWN, noise()))


# ---- other measurements


def measuring(method, operator, y):
    c = context(method, DENOISER, Y, KNOWN, noise())
    c.operator, c.y = operator, y
    *_, last = sample(method, method.walk.times(SCHEDULE), begin(c, Y.shape[1:]), c)
    return last.x


@dataclass(frozen=True)
class Pairs(AvgPool):
    """Means of neighbours along a single row."""

    def matrix(self, n):
        return torch.eye(1, dtype=torch.float64) if n == 1 else super().matrix(n)

    def pixels(self, m):
        return 1 if m == 1 else super().pixels(m)

    def measured(self, shape):
        return (shape[0], 1, shape[2] // self.factor)


def test_ddnm_reproduces_means_and_any_linear_measurement():
    pairs, matrix = Pairs(2), Linear(torch.randn(9, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64), (1, 1, 32))
    for operator in (pairs, matrix):
        end = measuring(DDNM(walk=trailing(20)), operator, operator.A(Y))
        assert (operator.A(end) - operator.A(Y)).abs().max() < 1e-10


NEAR = [DPS(zeta=1.0, walk=trailing(50)), CoPaint(lr=1.0, walk=trailing(20)), ILVR(range_t=0, factor=2, walk=trailing(20))]


@pytest.mark.parametrize("method", NEAR, ids=lambda m: type(m).__name__)
def test_the_others_come_near_a_measurement_of_means(method):
    operator = Pairs(2)
    end, free = measuring(method, operator, operator.A(Y)), fill(Plain(walk=trailing(20)), DENOISER, Y, NOTHING, noise())
    near, far = (float((operator.A(x) - operator.A(Y)).norm()) for x in (end, free))
    assert near < far / 2


def test_injection_refuses_a_measurement_without_known_values_and_says_what_to_use():
    with pytest.raises(UsageError, match="repaint needs known pixels; Pairs measures something else, use ddnm"):
        measuring(RePaint(walk=trailing(5)), Pairs(2), Pairs(2).A(Y))


@every_method
def test_a_measurement_that_does_not_fit_the_picture_is_refused_before_anything_is_made(method):
    with pytest.raises(BadInput, match="Pairs of 4 x 1 x 1 x 32 values is 4 x 1 x 1 x 16, but y is 4 x 1 x 1 x 32; give what was measured"):
        measuring(method, Pairs(2), Y)


@every_method
def test_a_jump_longer_than_the_walk_is_refused(method):
    method = replace(method, walk=trailing(5, jump_length=5, jump_n_sample=2))
    with pytest.raises(UsageError, match="jump_length = 5: a walk of 5 levels has no jump that long; use at most 4, or jump_n_sample = 1"):
        fill(method, DENOISER, Y, KNOWN, noise())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_to_cite(name):
    assert METHODS[name].papers
    for paper in METHODS[name].papers:
        assert paper.bibtex.startswith("@inproceedings{")
        assert all(author.split()[-1] in paper.bibtex for author in paper.authors)
        assert str(paper.year) in str(paper)


@pytest.mark.parametrize(
    ("kind", "values", "line"),
    [
        (ILVR, {"factor": 0}, "factor = 0"),
        (ILVR, {"lowpass": "gauss"}, "lowpass = 'gauss'"),
        (DDNM, {"renoise": 1.5}, "renoise = 1.5"),
        (DDNM, {"sigma_y": -1}, "sigma_y = -1"),
        (DPS, {"zeta": -0.1}, "zeta = -0.1"),
        (DPS, {"weighting": "mcg"}, "weighting = 'mcg'"),
        (CoPaint, {"inner": 0}, "inner = 0"),
        (CoPaint, {"lr": 0}, "lr = 0"),
        (CoPaint, {"renoise": 1}, "has no option 'renoise'"),
    ],
)
def test_settings_out_of_bounds_are_one_line(kind, values, line):
    with pytest.raises(UsageError, match=line) as refused:
        checked(kind, values)
    assert "\n" not in str(refused.value)
