"""What is special about the detector: its places, its boxes, and what all networks promise."""

from __future__ import annotations

from inspect import signature

import pytest
import torch
from safetensors.torch import load, save

from sounding.networks import NETWORKS, Detections, Detector

SMALL = {"stem_size": 8, "hidden_sizes": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "pyramid_size": 16, "head_depth": 1}
SIZE = (40, 72)


def small(seed: int = 0, classes: int = 3, **options: object) -> Detector:
    torch.manual_seed(seed)
    return Detector(2, classes, picture_size=SIZE, **{**SMALL, **options})  # type: ignore[arg-type]


def pictures(rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, 2, *SIZE, generator=torch.Generator().manual_seed(rows))


def test_shapes_and_types() -> None:
    network, x = small(), pictures()
    found = network(x)
    count = 5 * 9 + 3 * 5 + 2 * 3  # strides 8, 16 and 32 of 40 x 72, rounded up
    assert found.logits.shape == (3, count, 3)
    assert found.boxes.shape == (3, count, 4)
    assert found.places.shape == (3, count, 3)
    assert [values.shape[1] for values in network.forward_features(x)] == [network.num_features] * 3
    again = network.head(network.forward_features(x))
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True)) or network.training
    assert NETWORKS["detector"].answers == "detections"
    assert "kwargs" not in signature(Detector).parameters


def test_places_are_the_middles_of_their_squares() -> None:
    places = small()(pictures(1)).places[0]
    expected = [
        (x * stride + stride / 2, y * stride + stride / 2, stride)
        for stride, (height, width) in {8: (5, 9), 16: (3, 5), 32: (2, 3)}.items()
        for y in range(height)
        for x in range(width)
    ]
    assert [tuple(place) for place in places.tolist()] == expected


def test_boxes_lie_around_their_places_and_few_are_believed_at_first() -> None:
    found = small().eval()(pictures())
    middle = found.places[..., :2]
    assert (found.boxes[..., :2] < middle).all()
    assert (found.boxes[..., 2:] > middle).all()
    assert found.logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.2)


def test_edges_move_as_far_in_strides_on_every_map() -> None:
    network = small()
    torch.nn.init.zeros_(network.head.edges.weight)
    found = network(pictures(1))
    away = (found.boxes[..., 2:] - found.places[..., :2]) / found.places[..., 2:]
    torch.testing.assert_close(away, torch.full_like(away, torch.nn.functional.softplus(torch.tensor(2.0)).item()))


def test_every_parameter_gets_a_finite_gradient() -> None:
    network = small()
    found = network(pictures())
    (found.logits.square().mean() + found.boxes.square().mean()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_no_row_sees_another_and_the_state_is_all_there_is() -> None:
    network, x = small().eval(), pictures()
    whole, alone = network(x), network(x[1:2])
    for one, other in zip(whole, alone, strict=True):
        torch.testing.assert_close(one[1:2], other, rtol=1e-4, atol=1e-4)
    other = small(seed=7).eval()
    assert not torch.equal(other(x).logits, whole.logits)
    other.load_state_dict(load(save(network.state_dict())))
    assert torch.equal(other(x).logits, whole.logits)


def test_it_is_exported_for_batches_of_any_size() -> None:
    network, x = small().eval(), pictures()
    rows = torch.export.Dim("rows", min=2, max=64)
    graph = torch.export.export(network, (x,), dynamic_shapes=({0: rows},)).module()
    more = pictures(5)
    for one, other in zip(Detections(*graph(more)), network(more), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_wrong_sizes_are_told() -> None:
    with pytest.raises(ValueError, match="four stages"):
        small(hidden_sizes=(8, 8))
    with pytest.raises(ValueError, match="normalization"):
        small(normalization="none")
