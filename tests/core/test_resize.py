"""The matrices: against torch's own resampling, and what each stands for."""

import pytest
import torch
from torch.nn import functional as F

from inpaintkit.core.operators import Known
from inpaintkit.core.resize import AvgPool, Bicubic, Decimate, LowPass

X = torch.randn(2, 3, 24, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def resized(x, size):
    return F.interpolate(x, size, mode="bicubic", antialias=True, align_corners=False)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_bicubic_is_torchs_antialiased_one(factor):
    assert torch.allclose(Bicubic(factor).A(X), resized(X, (24 // factor, 16 // factor)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_low_pass_is_torchs_antialiased_bicubic_down_and_up(factor):
    there = resized(X, (24 // factor, 16 // factor))
    assert torch.allclose(LowPass(factor).A(X), resized(there, (24, 16)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("factor", [2, 4])
def test_means_are_torchs(factor):
    assert torch.allclose(AvgPool(factor).A(X), F.avg_pool2d(X, factor), rtol=0, atol=1e-12)
    cells = F.interpolate(F.avg_pool2d(X, factor), scale_factor=factor)
    assert torch.allclose(LowPass(factor, "pool").A(X), cells, rtol=0, atol=1e-12)
    assert torch.allclose(AvgPool(factor).pinv(AvgPool(factor).A(X)), cells, rtol=0, atol=1e-12)  # every pixel its cell's mean


def test_decimation_takes_pixels_and_its_adjoint_puts_them_back():
    operator = Decimate(4, 1)
    assert torch.equal(operator.A(X), X[..., 1::4, 1::4])
    known = Known(operator.At(torch.ones(1, 1, 6, 4, dtype=torch.float64)))
    assert torch.equal(known.A(X), operator.At(operator.A(X)))
    assert torch.allclose(known.project(X, operator.At(operator.A(-X))), operator.project(X, operator.A(-X)), rtol=0, atol=1e-12)


def test_a_low_pass_of_one_row_works_along_it():
    row = X[:, :, :1]
    assert torch.allclose(LowPass(4).A(row), resized(resized(row, (1, 4)), (1, 16)), rtol=0, atol=1e-12)
    assert torch.equal(LowPass(1).A(X), X)


def test_a_flat_picture_stays_flat():
    flat = torch.full((1, 1, 24, 16), 0.3, dtype=torch.float64)
    for operator in (Bicubic(4), AvgPool(4), LowPass(8), LowPass(8, "pool")):
        assert (operator.A(flat) - 0.3).abs().max() < 1e-14
