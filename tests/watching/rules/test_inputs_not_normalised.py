"""What goes into a first layer is standardised by feature, wherever the layer has its features."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sounding.watching.rules.inputs_not_normalised import _scaler


@pytest.mark.parametrize(("layer", "features"), [(nn.Linear(4, 3), 2), (nn.Conv1d(4, 3, 1), 1)])
def test_features_and_not_places_are_standardised(layer: nn.Module, features: int) -> None:
    values = torch.randn(64, 4, 4, generator=torch.Generator().manual_seed(0))  # as many places as features
    shape = [1, 1, 1]
    shape[features] = 4
    values = values * torch.tensor([1.0, 10.0, 100.0, 1000.0]).view(shape) + 50
    rest = tuple(dim for dim in range(3) if dim != features)
    means, deviations = values.mean(rest), values.std(rest, correction=0)
    given: list[torch.Tensor] = []
    layer.register_forward_pre_hook(_scaler(means, deviations))
    layer.register_forward_pre_hook(lambda module, args: given.append(args[0]))
    layer(values)
    torch.testing.assert_close(given[0].mean(rest), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(given[0].std(rest, correction=0), torch.ones(4))
