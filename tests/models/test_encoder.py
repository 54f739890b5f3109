"""Features of a denoising network's encoder: they are the network's own activations, and compare pictures where asked."""

import pytest
import torch

import tiny
from inpaintkit.models.encoder import TIME, distance, features

GENERATOR = torch.Generator().manual_seed(0)
TRUTH = torch.rand(2, 3, 16, 16, generator=GENERATOR) * 2 - 1
OTHER = torch.rand(2, 3, 16, 16, generator=GENERATOR) * 2 - 1
LEFT = torch.zeros(2, 1, 16, 16)
LEFT[..., :8] = 1


@pytest.mark.parametrize("condition", [None, tiny.TOLD])
@pytest.mark.parametrize("patch", [1, 2])
def test_the_last_feature_is_what_reaches_the_decoder(condition, patch):
    network, seen = tiny.network(condition, patch=patch), []
    handle = network.unet.mid_block.register_forward_hook(lambda module, given, out: seen.append(out))
    time = torch.full((2,), TIME)
    network(TRUTH, time, torch.zeros(2, 1, 16, 16), TRUTH)
    handle.remove()
    found = features(network, TRUTH)
    torch.testing.assert_close(found[-1], seen[0])
    layers = 1 + sum(len(block.resnets) + (block.downsamplers is not None) for block in network.unet.down_blocks)
    assert len(found) == layers


def test_distance_is_zero_for_the_same_pictures_only_and_looks_where_asked():
    network = tiny.network()
    assert distance(network, TRUTH, TRUTH, LEFT).abs().max() == 0
    both = distance(network, OTHER, TRUTH, torch.ones_like(LEFT))
    assert both.shape == (2,)
    assert both.min() > 0.01
    near = TRUTH + 0.05 * (OTHER - TRUTH)
    assert (distance(network, near, TRUTH, LEFT) < distance(network, OTHER, TRUTH, LEFT) / 4).all()
    first = distance(network, torch.stack([OTHER[0], TRUTH[1]]), TRUTH, LEFT)
    assert first[0] > 0.01
    assert first[1] == 0


def test_gradients_reach_the_picture_and_not_the_truth():
    picture, truth = OTHER.clone().requires_grad_(), TRUTH.clone().requires_grad_()
    distance(tiny.network(), picture, truth, LEFT).sum().backward()
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0
    assert truth.grad is None
