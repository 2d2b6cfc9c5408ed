from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sounding.errors import RecipeError
from sounding.recipe import OptimizerRecipe
from sounding.training.optimizers import OPTIMIZERS, build_optimizer, parameter_groups

T = torch.optim
CASES = {
    "sgd": (T.SGD, {}),
    "momentum": (T.SGD, {"momentum": 0.9}),
    "nesterov": (T.SGD, {"momentum": 0.9, "nesterov": True}),
    "adagrad": (T.Adagrad, {}),
    "rmsprop": (T.RMSprop, {}),
    "adam": (T.Adam, {}),
    "adamw": (T.AdamW, {}),
}


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 2))


def updated(network: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        optimizer.zero_grad()
        network(torch.randn(8, 3, generator=generator)).square().mean().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in network.parameters()]


@pytest.mark.parametrize("name", CASES)
def test_equals_torch_with_decay_on_the_weights_alone(name):
    network = small_network()
    other = copy.deepcopy(network)
    ours = updated(network, build_optimizer(network, OptimizerRecipe(name=name, lr=0.05, weight_decay=0.1)))

    build, options = CASES[name]
    groups = [
        {"params": [other[0].weight, other[3].weight], "weight_decay": 0.1},
        {"params": [other[0].bias, other[1].weight, other[1].bias, other[3].bias], "weight_decay": 0.0},
    ]
    theirs = updated(other, build(groups, lr=0.05, foreach=False, **options))
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-6)


def test_muon_turns_matrices_and_adamw_the_rest():
    network = small_network()
    other = copy.deepcopy(network)
    ours = updated(network, build_optimizer(network, OptimizerRecipe(name="muon", lr=0.05, weight_decay=0.1)))

    matrices = [other[0].weight, other[3].weight]
    rest = [other[0].bias, other[1].weight, other[1].bias, other[3].bias]
    muon = T.Muon(matrices, lr=0.05, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = T.AdamW(rest, lr=0.05, weight_decay=0.0, foreach=False)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        other.zero_grad()
        other(torch.randn(8, 3, generator=generator)).square().mean().backward()
        muon.step()
        adamw.step()
    for mine, reference in zip(ours, other.parameters(), strict=True):
        torch.testing.assert_close(mine, reference.detach(), rtol=1e-5, atol=1e-6)


def test_norms_biases_and_embeddings_are_not_decayed():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.member_bias = nn.Parameter(torch.zeros(4, 3))  # a matrix, and yet a bias

    network = nn.Sequential(nn.Embedding(7, 4), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LayerNorm((2, 3)), Odd())
    decayed, others = parameter_groups(network, 0.5)
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 1, 3, 3)]
    assert decayed["weight_decay"] == 0.5
    assert others["weight_decay"] == 0.0
    assert sum(len(group["params"]) for group in (decayed, others)) == len(list(network.parameters()))


def test_tied_weights_are_one_parameter_and_frozen_ones_none():
    first, second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    frozen = nn.Linear(3, 3).requires_grad_(False)
    (group,) = parameter_groups(nn.Sequential(first, second, frozen), 0.0)
    assert len(group["params"]) == 1


def test_fused_where_torch_has_it():
    optimizer = build_optimizer(small_network(), OptimizerRecipe(name="adamw"))
    assert all(group["fused"] for group in optimizer.param_groups)
    sparse = build_optimizer(nn.Embedding(3, 2, sparse=True), OptimizerRecipe(name="sgd"))
    assert not sparse.param_groups[0]["fused"]


def test_unknown_name():
    with pytest.raises(RecipeError, match='no optimizer "adamv"; did you mean "adam'):
        build_optimizer(small_network(), OptimizerRecipe(name="adamv"))


def test_unknown_option_names_the_valid_ones():
    with pytest.raises(RecipeError, match='adamw has no option "beta"; did you mean "betas"'):
        build_optimizer(small_network(), OptimizerRecipe(options={"beta": [0.9, 0.98]}))


@pytest.mark.parametrize("recipe", [OptimizerRecipe(options={"betas": [2.0, 0.9]}), OptimizerRecipe(lr=-1.0)])
def test_refused_values(recipe):
    with pytest.raises(RecipeError, match="adamw refuses its options"):
        build_optimizer(small_network(), recipe)


def test_options_from_toml_lists_become_tuples():
    optimizer = build_optimizer(small_network(), OptimizerRecipe(options={"betas": [0.8, 0.9]}))
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)


def test_nothing_to_train():
    with pytest.raises(RecipeError, match="no parameters"):
        build_optimizer(nn.ReLU(), OptimizerRecipe())


def test_every_name_is_covered_here():
    assert set(OPTIMIZERS) == {*CASES, "muon"}
