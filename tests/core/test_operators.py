"""What every measurement must satisfy, and that known values are put back to the bit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inpaintkit.core.operators import Known

SHAPE = (2, 3, 6, 5)


def some(seed, dtype=torch.float64):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mask(seed, shape=(1, 1, 6, 5), share=0.5):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share).double()


OPERATORS = {
    "one mask for all": Known(mask(1)),
    "a mask per picture": Known(mask(2, (2, 1, 6, 5))),
    "a mask per channel": Known(mask(3, (1, 3, 6, 5))),
    "a mask per value": Known(mask(4, SHAPE)),
    "everything known": Known(torch.ones(1, 1, 6, 5, dtype=torch.float64)),
    "nothing known": Known(torch.zeros(1, 1, 6, 5, dtype=torch.float64)),
}
every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=list(OPERATORS))


@every_operator
@given(st.integers(0, 1000), st.integers(1001, 2000))
def test_the_adjoint_gives_the_same_inner_product(operator, one, other):
    x, y = some(one), some(other)
    assert float((operator.A(x) * y).sum()) == pytest.approx(float((x * operator.At(y)).sum()), rel=1e-12, abs=1e-12)


@every_operator
def test_the_pseudo_inverse_is_one(operator):
    x, y = some(1), some(2)
    assert torch.equal(operator.A(operator.pinv(operator.A(x))), operator.A(x))
    assert torch.equal(operator.pinv(operator.A(operator.pinv(y))), operator.pinv(y))
    both = operator.pinv(operator.A(x))
    assert float((both * y).sum()) == pytest.approx(float((x * operator.pinv(operator.A(y))).sum()), rel=1e-12)  # symmetric


@every_operator
def test_a_measurement_is_linear(operator):
    x, y = some(3), some(4)
    assert torch.allclose(operator.A(2 * x - y), 2 * operator.A(x) - operator.A(y), rtol=0, atol=1e-12)


@every_operator
@pytest.mark.parametrize("junk", [0.0, 1e30, float("nan")])
def test_projection_puts_the_known_values_back_to_the_bit_and_changes_no_other(operator, junk):
    x, known = some(5), operator.known().expand(SHAPE) > 0
    y = torch.where(known, some(6) * 1e-3, junk)
    projected = operator.project(x, y)
    assert torch.equal(projected[known], y[known])
    assert torch.equal(projected[~known], x[~known])
    assert torch.equal(operator.project(projected, y), projected)


def test_adding_the_difference_would_not_be_exact():
    x, y = some(7, torch.float32) * 1e3, some(8, torch.float32) * 1e-3  # why Known projects by choosing, not by x + (y - x)
    assert not torch.equal(x + (y - x), y)
    assert torch.equal(Known(torch.ones(1, 1, 6, 5)).project(x, y), y)


def test_projection_keeps_the_pictures_precision():
    assert Known(mask(1).float()).project(some(1, torch.float32), some(2)).dtype == torch.float32


def test_one_measurement_serves_a_batch():
    operator, x, y = OPERATORS["one mask for all"], some(1), some(2)[:1]
    assert torch.equal(operator.project(x, y), operator.project(x, y.expand(SHAPE)))
