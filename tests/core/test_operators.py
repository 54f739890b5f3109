"""What every measurement must satisfy, and that known values are put back to the bit."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.operators import Known, Linear, Operator
from inpaintkit.core.resize import AvgPool, Bicubic, Decimate, LowPass, Stack

SHAPE = (2, 3, 12, 8)
C, H, W = SHAPE[1:]


def some(seed, shape=SHAPE, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mask(seed, shape=(1, 1, H, W), share=0.5):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share).double()


ALL, NOTHING = torch.ones(1, 1, H, W, dtype=torch.float64), torch.zeros(1, 1, H, W, dtype=torch.float64)
KNOWN = {
    "one mask for all": Known(mask(1)),
    "a mask per picture": Known(mask(2, (2, 1, H, W))),
    "a mask per channel": Known(mask(3, (1, 3, H, W))),
    "a mask per value": Known(mask(4, SHAPE)),
    "everything known": Known(ALL),
    "nothing known": Known(NOTHING),
}
LOW_RANK = some(9, (20, 7)) @ some(8, (7, C * H * W))
OTHERS = {
    "every second pixel": Decimate(2),
    "every fourth pixel, phase 3": Decimate(4, 3),
    "means of 2": AvgPool(2),
    "means of 4": AvgPool(4),
    "bicubic, half": Bicubic(2),
    "bicubic, a quarter": Bicubic(4),
    "low-pass of 2": LowPass(2),
    "low-pass of 4": LowPass(4),
    "low-pass of 4 by cells": LowPass(4, "pool"),
    "low-pass of 1": LowPass(1),
    "a matrix": Linear(some(7, (20, C * H * W)), SHAPE[1:]),
    "a tall matrix": Linear(some(7, (2 * C * H * W, C * H * W)), SHAPE[1:]),
    "a matrix of rank 7": Linear(LOW_RANK, SHAPE[1:]),
    "pixels and means of 2": Stack(Known(mask(5)), AvgPool(2)),
    "pixels and means of 4": Stack(Known(mask(6, SHAPE, 0.9)), AvgPool(4)),
    "everything known, and means": Stack(Known(ALL), AvgPool(2)),
    "nothing known, but means": Stack(Known(NOTHING), AvgPool(2)),
}
OPERATORS = KNOWN | OTHERS
every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=list(OPERATORS))


def measurement(operator, seed):
    """Any values of a measurement's shape, those of no picture too."""
    return some(seed, (SHAPE[0], *operator.measured(SHAPE[1:])))


def close(one, other, scale=1.0):
    """Within the roundings of a few hundred products of numbers up to about `scale` (float64)."""
    return float((one - other).abs().max()) < 1e-11 * max(scale, 1.0, float(one.abs().max()))


@every_operator
@settings(max_examples=15)
@given(st.integers(0, 1000), st.integers(1001, 2000))
def test_the_adjoint_gives_the_same_inner_product(operator, one, other):
    x, y = some(one), measurement(operator, other)
    size = float(operator.A(x).norm() * y.norm())
    assert float((operator.A(x) * y).sum()) == pytest.approx(float((x * operator.At(y)).sum()), rel=1e-12, abs=1e-12 * max(size, 1))


@every_operator
@settings(max_examples=15)
@given(st.integers(0, 1000))
def test_the_pseudo_inverse_is_one(operator, seed):
    x, z, y = some(seed), some(seed + 1), measurement(operator, seed + 2)
    assert close(operator.A(operator.pinv(operator.A(x))), operator.A(x))
    assert close(operator.pinv(operator.A(operator.pinv(y))), operator.pinv(y))
    there_and_back = operator.pinv(operator.A(x))  # a symmetric projection
    assert float((there_and_back * z).sum()) == pytest.approx(float((x * operator.pinv(operator.A(z))).sum()), rel=1e-9, abs=1e-9)


@every_operator
@settings(max_examples=15)
@given(st.integers(0, 1000), st.sampled_from([1e-3, 0.5, 20.0]))
def test_damped_it_minimises_error_and_size_together(operator, seed, ratio):
    y = measurement(operator, seed)
    x = operator.pinv(operator.A(operator.pinv(y)) if isinstance(operator, Known) else y, ratio)
    slope = operator.At(operator.A(x) - y) + ratio * x  # of half of |A x - y|^2 + ratio |x|^2
    assert close(slope, torch.zeros_like(slope), float(operator.At(y).abs().max()))


@every_operator
@settings(max_examples=15)
@given(st.integers(0, 1000))
def test_projection_meets_the_measurement_moves_least_and_is_idempotent(operator, seed):
    x, y = some(seed), operator.A(some(seed + 1))
    projected = operator.project(x, y)
    assert close(operator.A(projected), y)
    assert close(operator.project(projected, y), projected)
    unseen = some(seed + 2)
    unseen = unseen - operator.pinv(operator.A(unseen))  # a direction that is not measured
    assert float(((projected - x) * unseen).sum()) == pytest.approx(0, abs=1e-9 * float((projected - x).norm() * unseen.norm() + 1))


@every_operator
def test_a_light_projection_lies_on_the_way_to_the_full_one(operator):
    x, y = some(1), operator.A(some(2))
    gaps = [float(operator.residual(operator.project(x, y, ratio), y).norm()) for ratio in (0.0, 0.01, 1.0, 100.0)]
    assert gaps == sorted(gaps)
    assert close(operator.project(x, y, 1e-13), operator.project(x, y), 1e4)  # it is the limit


@every_operator
def test_a_measurement_is_linear(operator):
    x, y = some(3), some(4)
    assert close(operator.A(2 * x - y), 2 * operator.A(x) - operator.A(y), 10)


@every_operator
def test_every_picture_is_measured_alone(operator):
    def alone(o: Operator, i: int) -> Operator:
        if isinstance(o, Stack):
            return replace(o, pixels=alone(o.pixels, i))
        return replace(o, mask=o.mask[i : i + 1]) if isinstance(o, Known) and len(o.mask) > 1 else o

    x, y, more = some(1, dtype=torch.float32), measurement(operator, 2).float(), some(3, dtype=torch.float32)
    for i in (0, 1):
        one = alone(operator, i)
        assert torch.equal(one.A(x[i : i + 1]), operator.A(x)[i : i + 1])
        assert torch.equal(one.pinv(y[i : i + 1]), operator.pinv(y)[i : i + 1])
        assert torch.equal(one.project(more[i : i + 1], y[i : i + 1]), operator.project(more, y)[i : i + 1])
    assert operator.project(more, y).dtype == torch.float32


@pytest.mark.parametrize("operator", KNOWN.values(), ids=list(KNOWN))
@pytest.mark.parametrize("junk", [0.0, 1e30, float("nan")])
def test_projection_puts_the_known_values_back_to_the_bit_and_changes_no_other(operator, junk):
    x, known = some(5), operator.known().expand(SHAPE) > 0
    y = torch.where(known, some(6) * 1e-3, junk)
    projected = operator.project(x, y)
    assert torch.equal(projected[known], y[known])
    assert torch.equal(projected[~known], x[~known])
    assert torch.equal(operator.project(projected, y), projected)
    assert operator.residual(x, y).isfinite().all()
    assert torch.equal(operator.project(x, y, 0.5)[~known], x[~known])


@pytest.mark.parametrize("junk", [0.0, float("nan")])
def test_pixels_and_means_together_keep_the_pixels_to_the_bit_and_shift_the_rest_of_a_cell(junk):
    operator = Stack(Known(mask(5)), AvgPool(2))
    picture, x = some(6), some(5)
    known = operator.pixels.mask.expand(SHAPE) > 0
    y = operator.join(torch.where(known, picture, junk), AvgPool(2).A(picture))
    assert y.isfinite().all()
    projected = operator.project(x, y)
    assert torch.equal(projected[known], picture[known])
    shift = (projected - x).unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    unknown = ~known.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    middle = (shift * unknown).sum(-1) / unknown.sum(-1).clamp(min=1)
    assert ((shift - middle[..., None]).abs() * unknown).max() < 1e-12  # one number for all unknown pixels of a cell
    assert close(AvgPool(2).A(projected), AvgPool(2).A(picture))


def test_where_pixels_and_mean_contradict_each_other_the_pixels_count():
    operator, picture = OTHERS["everything known, and means"], some(6)
    assert torch.equal(operator.project(some(5), operator.join(picture, AvgPool(2).A(picture) + 1)), picture)


def test_adding_the_difference_would_not_be_exact():
    x, y = some(7, dtype=torch.float32) * 1e3, some(8, dtype=torch.float32) * 1e-3  # why Known chooses, and adds no y - x
    assert not torch.equal(x + (y - x), y)
    assert torch.equal(Known(ALL.float()).project(x, y), y)


def test_projection_keeps_the_pictures_precision():
    assert Known(mask(1).float()).project(some(1, dtype=torch.float32), some(2)).dtype == torch.float32


@every_operator
def test_one_measurement_serves_a_batch(operator):
    x, y = some(1), measurement(operator, 2)[:1]
    assert torch.equal(operator.project(x, y), operator.project(x, y.expand(SHAPE[0], *y.shape[1:])))


@every_operator
def test_what_is_no_measurement_of_the_pictures_is_refused_in_one_line(operator):
    name, wanted = type(operator).__name__, operator.measured(SHAPE[1:])
    operator.check(torch.zeros(1, *wanted), SHAPE)
    operator.check(torch.zeros(SHAPE[0], *wanted), SHAPE)
    for wrong in ((3, *wanted), (1, *wanted[:-1], wanted[-1] + 1), (1, 1, 1, *wanted)):
        with pytest.raises(BadInput, match=f"{name} of 2 x 3 x 12 x 8 values is .*, but y is {' x '.join(map(str, wrong))}; give"):
            operator.check(torch.zeros(wrong), SHAPE)


@pytest.mark.parametrize("operator", [AvgPool(5), Bicubic(5), Decimate(5), LowPass(5), Stack(Known(ALL), AvgPool(5))])
def test_a_factor_that_does_not_divide_is_refused_in_one_line(operator):
    with pytest.raises(UsageError, match="a picture of 12 x 8 pixels is no whole number of cells of 5; use a factor that divides"):
        operator.measured(SHAPE[1:])
    with pytest.raises(UsageError, match="no whole number of cells"):
        operator.A(some(1))


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: AvgPool(0), "AvgPool: a factor of 0; at least 1"),
        (lambda: Decimate(2, 2), "Decimate: a phase of 2; from 0 to 1 are possible"),
        (lambda: Linear(torch.zeros(3, 5), SHAPE[1:]), "a matrix of 3 x 5 does not fit pictures of 3 x 12 x 8; it needs 288 columns"),
        (lambda: OTHERS["a matrix"].A(some(1, (1, 3, 8, 8))), "made for pictures of 3 x 12 x 8, not 3 x 8 x 8"),
        (lambda: Known(mask(1)).check(some(1), (2, 3, 8, 8)), "a mask of 1 x 12 x 8 values, but the picture has 3 x 8 x 8"),
    ],
)
def test_measurements_that_make_no_sense_are_refused_in_one_line(make, line):
    with pytest.raises((UsageError, BadInput), match=line) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_only_single_values_count_as_known_pixels():
    assert all(operator.known() is not None for operator in KNOWN.values())
    assert all(operator.known() is None for operator in OTHERS.values())
