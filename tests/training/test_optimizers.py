"""Every update against one written from its paper, in float64, one array at a time."""

from __future__ import annotations

import inspect
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from sounding.batches import Batches
from sounding.errors import RecipeError
from sounding.recipe import OptimizerRecipe
from sounding.training import Player, train
from sounding.training.checkpoint import optimizer_from_tensors, optimizer_to_tensors
from sounding.training.optimizers import OPTIMIZERS, build_optimizer, parameter_groups
from sounding.training.schedule_free import ScheduleFreeAdamW
from sounding.training.schedules import cosine

STEPS = 7
RATES = [0.05 * factor for factor in (0.2, 0.6, 1.0, 1.0, 0.7, 0.4, 0.1)]
DECAY = 0.1


# The references: weights w, the gradient of each step, the rate of each step, the decay -> the weights in the end.


def sgd(w, gradients, rates, decay):
    for g, rate in zip(gradients, rates, strict=True):
        w = w - rate * (g + decay * w)
    return w


def momentum(w, gradients, rates, decay):  # Sutskever et al. 2013, eq. 1 and 2, with the rate outside the velocity
    velocity = np.zeros_like(w)
    for g, rate in zip(gradients, rates, strict=True):
        velocity = 0.9 * velocity + g + decay * w
        w = w - rate * velocity
    return w


def nesterov(w, gradients, rates, decay):  # the gradient at the point looked ahead to, as Bengio et al. 2013 write it
    velocity = np.zeros_like(w)
    for g, rate in zip(gradients, rates, strict=True):
        g = g + decay * w
        velocity = 0.9 * velocity + g
        w = w - rate * (g + 0.9 * velocity)
    return w


def adagrad(w, gradients, rates, decay):  # Duchi et al. 2011
    total = np.zeros_like(w)
    for g, rate in zip(gradients, rates, strict=True):
        g = g + decay * w
        total = total + g**2
        w = w - rate * g / (np.sqrt(total) + 1e-10)
    return w


def rmsprop(w, gradients, rates, decay):  # Tieleman and Hinton 2012, lecture 6e
    mean_square = np.zeros_like(w)
    for g, rate in zip(gradients, rates, strict=True):
        g = g + decay * w
        mean_square = 0.99 * mean_square + 0.01 * g**2
        w = w - rate * g / (np.sqrt(mean_square) + 1e-8)
    return w


def adam(w, gradients, rates, decay):  # Kingma and Ba 2015, algorithm 1
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        g = g + decay * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return w


def adamw(w, gradients, rates, decay):  # Loshchilov and Hutter 2019, algorithm 2
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - rate * ((m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + decay * w)
    return w


def schedule_free_points(w, gradients, rates, decay):  # Defazio et al. 2024; all of x and y, so that y is the last
    x, z, v, y = w, w, np.zeros_like(w), w
    for t, g in enumerate(gradients, start=1):
        v = 0.999 * v + 0.001 * g**2
        z = z - rates[t - 1] * g / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) - rates[t - 1] * decay * y
        c = rates[t - 1] ** 2 / sum(rate**2 for rate in rates[:t])
        x = (1 - c) * x + c * z
        y = 0.1 * z + 0.9 * x
    return x, y


def schedule_free(w, gradients, rates, decay):
    return schedule_free_points(w, gradients, rates, decay)[1]


REFERENCES = {
    "gradient_descent": sgd,
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
    "schedule_free": schedule_free,
}


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 5).double()


def gradients_of(module: nn.Module) -> dict[str, list[np.ndarray]]:
    draw = np.random.default_rng(0)
    return {name: [draw.normal(size=p.shape) for _ in range(STEPS)] for name, p in module.named_parameters()}


def step_with(module: nn.Module, optimizer: torch.optim.Optimizer, step: int, gradients, rates=RATES) -> None:
    """One update with given gradients and, as the training loop sets it, a given rate."""
    for name, parameter in module.named_parameters():
        parameter.grad = torch.tensor(gradients[name][step], dtype=parameter.dtype)  # a copy: foreach may write into it
    for group in optimizer.param_groups:
        group["lr"] = rates[step]
    optimizer.step()


def test_every_optimizer_has_a_reference():
    assert set(OPTIMIZERS) == {*REFERENCES, "muon"}


@pytest.mark.parametrize("implementation", ["auto", "fused", "foreach", "loop"])
@pytest.mark.parametrize("name", REFERENCES)
def test_equals_the_reference(name, implementation):
    if implementation not in ("auto", *OPTIMIZERS[name].implementations):
        pytest.skip(f"{name} has no {implementation} implementation")
    module, gradients = linear(), gradients_of(linear())
    start = {key: parameter.detach().numpy().copy() for key, parameter in module.named_parameters()}
    recipe = OptimizerRecipe(name=name, lr=0.05, weight_decay=DECAY, implementation=implementation)
    optimizer = build_optimizer(module, recipe)
    for step in range(STEPS):
        step_with(module, optimizer, step, gradients)
    for key, parameter in module.named_parameters():
        expected = REFERENCES[name](start[key], gradients[key], RATES, DECAY if key == "weight" else 0.0)
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if len(OPTIMIZERS[name].implementations) > 1])
def test_implementations_agree_in_float32(name):
    results = []
    for implementation in OPTIMIZERS[name].implementations:
        module = linear().float()
        optimizer = build_optimizer(module, OptimizerRecipe(name=name, lr=0.05, implementation=implementation))
        for step in range(STEPS):
            step_with(module, optimizer, step, gradients_of(module))
        results.append(module.weight.detach())
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, rtol=1e-5, atol=1e-6)


def test_gradient_descent_on_a_quadratic_is_a_power_of_a_matrix():
    draw = np.random.default_rng(0)
    factor = draw.normal(size=(4, 4))
    A, start, rate = factor @ factor.T + np.eye(4), draw.normal(size=4), 0.02
    module = nn.Module()
    module.x = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = build_optimizer(module, OptimizerRecipe(name="gradient_descent", lr=rate, weight_decay=0.0))
    for _ in range(50):
        optimizer.zero_grad()
        (0.5 * module.x @ torch.from_numpy(A) @ module.x).backward()
        optimizer.step()
    expected = np.linalg.matrix_power(np.eye(4) - rate * A, 50) @ start
    np.testing.assert_allclose(module.x.detach().numpy(), expected, rtol=1e-10)


# Muon


def test_muon_turns_a_gradient_into_its_nearest_orthogonal_matrix():
    module = nn.Linear(20, 12, bias=False)
    gradient = torch.randn(12, 20, generator=torch.Generator().manual_seed(0))
    before, module.weight.grad = module.weight.detach().clone(), gradient.clone()
    build_optimizer(module, OptimizerRecipe(name="muon", lr=0.1, weight_decay=0.0)).step()
    step = (before - module.weight.detach()) / (0.1 * 0.2 * math.sqrt(20))  # in AdamW's size: Liu et al. 2025, eq. 4
    u, _, vt = torch.linalg.svd(gradient, full_matrices=False)
    core = u.T @ step @ vt.T  # the identity, if u @ vt itself were found; the iteration stops short of it
    assert core.diagonal().min() > 0.65
    assert core.diagonal().max() < 1.25
    assert (core - core.diagonal().diag()).abs().max() < 0.03  # it computes in bfloat16


def newton_schulz(gradient: np.ndarray) -> np.ndarray:  # Jordan et al. 2024
    x = gradient / np.linalg.norm(gradient)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x


def test_muon_equals_the_reference_and_is_adamw_for_what_is_no_matrix():
    module = linear().float()
    start = {key: parameter.detach().double().numpy().copy() for key, parameter in module.named_parameters()}
    gradients = gradients_of(module)
    optimizer = build_optimizer(module, OptimizerRecipe(name="muon", lr=0.05, weight_decay=DECAY))
    w, average = start["weight"], np.zeros((5, 3))
    for step, (g, rate) in enumerate(zip(gradients["weight"], RATES, strict=True)):
        step_with(module, optimizer, step, gradients)
        average = 0.95 * average + 0.05 * g
        turned = newton_schulz(0.05 * g + 0.95 * average)
        w = w - rate * (0.2 * math.sqrt(5) * turned + DECAY * w)
    moved = np.abs(w - start["weight"]).max()
    np.testing.assert_allclose(module.weight.detach().numpy(), w, atol=0.02 * moved)  # bfloat16 has 8 bits
    expected = adamw(start["bias"], gradients["bias"], RATES, 0.0)
    np.testing.assert_allclose(module.bias.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


# Schedule-free


def test_schedule_free_shows_its_average_and_goes_on_to_the_same_bits():
    looked, left_alone = linear().float(), linear().float()
    gradients = gradients_of(looked)
    start = looked.weight.detach().double().numpy().copy()
    first, second = (
        build_optimizer(module, OptimizerRecipe(name="schedule_free", lr=0.05, weight_decay=DECAY))
        for module in (looked, left_alone)
    )
    assert isinstance(first, ScheduleFreeAdamW)
    with first.averaged():  # before the first step all three sequences are one
        assert looked.weight.equal(left_alone.weight)
    for step in range(STEPS):
        step_with(looked, first, step, gradients)
        step_with(left_alone, second, step, gradients)
        with first.averaged():
            x, _ = schedule_free_points(start, gradients["weight"][: step + 1], RATES[: step + 1], DECAY)
            np.testing.assert_allclose(looked.weight.detach().numpy(), x, rtol=1e-5, atol=1e-6)
        assert looked.weight.equal(left_alone.weight)
        assert looked.bias.equal(left_alone.bias)
    first.use_average()
    assert looked.weight.equal(first.state[looked.weight]["x"])


def test_schedule_free_puts_the_parameters_back_after_an_error():
    module = linear()
    optimizer = build_optimizer(module, OptimizerRecipe(name="schedule_free"))
    for step in range(2):
        step_with(module, optimizer, step, gradients_of(module))
    before = module.weight.detach().clone()

    def measure() -> None:
        with optimizer.averaged():
            assert not module.weight.equal(before)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure()
    assert module.weight.equal(before)


def test_schedule_free_does_nothing_at_a_rate_of_zero():
    module = linear()
    optimizer = build_optimizer(module, OptimizerRecipe(name="schedule_free"))
    before = module.weight.detach().clone()
    step_with(module, optimizer, 0, gradients_of(module), rates=[0.0])
    torch.testing.assert_close(module.weight.detach(), before, rtol=1e-15, atol=1e-15)


def test_schedule_free_leaves_parameters_without_gradient_alone_in_spite_of_decay():
    module = linear()
    before = module.weight.detach().clone()
    build_optimizer(module, OptimizerRecipe(name="schedule_free", lr=1.0, weight_decay=DECAY)).step()
    assert module.weight.equal(before)


# What holds for all


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_survives_a_checkpoint_to_the_bit(name):
    straight, resumed = linear().float(), linear().float()
    gradients = gradients_of(straight)
    recipe = OptimizerRecipe(name=name, lr=0.05, weight_decay=DECAY, rates={"bias": 0.5})
    optimizer = build_optimizer(straight, recipe)
    for step in range(3):
        step_with(straight, optimizer, step, gradients)
    tensors, values = optimizer_to_tensors(optimizer)
    other = build_optimizer(resumed, recipe)
    optimizer_from_tensors(other, {key: t.clone() for key, t in tensors.items()}, json.loads(json.dumps(values)))
    resumed.load_state_dict(straight.state_dict())
    for step in range(3, STEPS):
        step_with(straight, optimizer, step, gradients)
        step_with(resumed, other, step, gradients)
    assert straight.weight.equal(resumed.weight)
    assert straight.bias.equal(resumed.bias)


# Groups


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 2))


def test_norms_biases_and_embeddings_are_not_decayed():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.member_bias = nn.Parameter(torch.zeros(4, 3))  # a matrix, and yet a bias

    network = nn.Sequential(nn.Embedding(7, 4), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LayerNorm((2, 3)), Odd())
    decayed, others = parameter_groups(network, OptimizerRecipe(weight_decay=0.5))
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 1, 3, 3)]
    assert decayed["weight_decay"] == 0.5
    assert others["weight_decay"] == 0.0
    assert sum(len(group["params"]) for group in (decayed, others)) == len(list(network.parameters()))


def test_tied_weights_are_one_parameter_and_frozen_ones_none():
    first, second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    frozen = nn.Linear(3, 3).requires_grad_(False)
    (group,) = parameter_groups(nn.Sequential(first, second, frozen), OptimizerRecipe())
    assert len(group["params"]) == 1


def rates_by_name(network: nn.Module, rates: dict[str, float]) -> dict[str, float]:
    groups = parameter_groups(network, OptimizerRecipe(lr=1.0, rates=rates))
    found = {parameter: group["lr"] for group in groups for parameter in group["params"]}
    return {name: found[parameter] for name, parameter in network.named_parameters()}


def test_the_first_pattern_that_fits_gives_the_rate():
    assert rates_by_name(small_network(), {"3.bias": 5.0, "3.*": 2.0, "*.bias": 3.0, "*": 1.0}) == {
        "0.weight": 1.0,
        "0.bias": 3.0,
        "1.weight": 1.0,
        "1.bias": 3.0,
        "3.weight": 2.0,
        "3.bias": 5.0,
    }


def test_groups_at_the_recipes_own_rate_come_first():
    groups = parameter_groups(small_network(), OptimizerRecipe(lr=0.5, rates={"0.*": 0.1, "1.*": 4.0}))
    assert [(group["lr"], group["decays"]) for group in groups] == [
        (0.5, True),
        (0.5, False),
        (0.05, True),
        (0.05, False),
        (2.0, False),
    ]


def test_any_name_of_a_tied_parameter_fits():
    network = nn.ModuleDict({"encoder": nn.Linear(3, 3, bias=False), "decoder": nn.Linear(3, 3, bias=False)})
    network["decoder"].weight = network["encoder"].weight
    assert rates_by_name(network, {"decoder.*": 0.1}) == {"encoder.weight": 0.1}


def test_a_pattern_for_frozen_parameters_alone_is_fine():
    network = small_network()
    network[0].requires_grad_(False)
    groups = parameter_groups(network, OptimizerRecipe(lr=1.0, rates={"0.*": 0.1}))
    assert [group["lr"] for group in groups] == [1.0, 1.0]


def test_a_pattern_that_fits_nothing_names_the_nearest():
    with pytest.raises(RecipeError, match=r'"3.weigth" in optimizer.rates fits no parameter; did you mean "3.weight"'):
        build_optimizer(small_network(), OptimizerRecipe(rates={"3.weigth": 2.0}))


@pytest.mark.parametrize("factor", [-1.0, math.nan, math.inf])
def test_a_factor_out_of_range(factor):
    with pytest.raises(RecipeError, match=r'the factor of "0.\*" in optimizer.rates is'):
        build_optimizer(small_network(), OptimizerRecipe(rates={"0.*": factor}))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rates_go_with_the_schedule(name):
    network = small_network()
    recipe = OptimizerRecipe(name=name, lr=0.01, rates={"0.*": 0.0, "3.*": 10.0})
    before = {key: parameter.detach().clone() for key, parameter in network.named_parameters()}
    optimizer = build_optimizer(network, recipe)
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(1))
    player = Player("fit", network, lambda batch: network(batch.inputs[0]).square().mean(), optimizer, cosine)
    records = list(train([player], Batches((x,), batch_size=4), epochs=1))
    assert [record.learning_rate for record in records[:-1]] == pytest.approx([0.01 * cosine(k / 3) for k in range(3)])
    seen = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    last = 0.01 * cosine(2 / 3)
    for key, parameter in network.named_parameters():
        factor = {"0": 0.0, "1": 1.0, "3": 10.0}[key[0]]
        assert seen[parameter] == pytest.approx(last * factor)
        assert parameter.equal(before[key]) == (factor == 0.0)


# How PyTorch carries it out


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_auto_is_fused_where_torch_has_it(name):
    module = nn.Linear(3, 2)
    expected = "fused" in OPTIMIZERS[name].implementations or name == "muon"  # its part that is AdamW
    for group in build_optimizer(module, OptimizerRecipe(name=name)).param_groups:
        assert bool(group.get("fused")) is (expected and not group.get("muon", False))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_implementation_asked_for_is_taken(name):
    algorithm = OPTIMIZERS[name]
    for asked in algorithm.implementations:
        for group in build_optimizer(nn.Linear(3, 2), OptimizerRecipe(name=name, implementation=asked)).param_groups:
            flags = {flag: group[flag] for flag in ("fused", "foreach") if flag in group}
            assert flags == {flag: flag == asked for flag in flags}
            known = inspect.signature(algorithm.build).parameters
            assert group.get("muon") or set(flags) == {"fused", "foreach"} & set(known)


@pytest.mark.parametrize(
    ("name", "asked"), [("rmsprop", "fused"), ("muon", "fused"), ("muon", "foreach"), ("schedule_free", "foreach")]
)
def test_an_implementation_that_torch_lacks(name, asked):
    with pytest.raises(RecipeError, match=f"{name} has no {asked} implementation; take one of: auto"):
        build_optimizer(small_network(), OptimizerRecipe(name=name, implementation=asked))


def test_sparse_gradients_cannot_be_fused():
    network = nn.Embedding(3, 2, sparse=True)
    assert not build_optimizer(network, OptimizerRecipe(name="sgd")).param_groups[0]["fused"]
    with pytest.raises(RecipeError, match=r"no fused sgd for these parameters \(float32 on cpu\)"):
        build_optimizer(network, OptimizerRecipe(name="sgd", implementation="fused"))


def test_a_device_without_fused_kernels():
    network = nn.Linear(3, 2, device="meta")
    assert not build_optimizer(network, OptimizerRecipe(name="adamw")).param_groups[0]["fused"]


# Mistakes


def test_unknown_name():
    with pytest.raises(RecipeError, match='no optimizer "adamv"; did you mean "adam'):
        build_optimizer(small_network(), OptimizerRecipe(name="adamv"))


def test_unknown_option_names_the_valid_ones():
    with pytest.raises(RecipeError, match='adamw has no option "beta"; did you mean "betas"'):
        build_optimizer(small_network(), OptimizerRecipe(options={"beta": [0.9, 0.98]}))


@pytest.mark.parametrize("name", ["adamw", "schedule_free"])
@pytest.mark.parametrize("values", [{"options": {"betas": [2.0, 0.9]}}, {"options": {"betas": [0.9]}}, {"lr": -1.0}])
def test_refused_values(name, values):
    with pytest.raises(RecipeError, match=f"{name} refuses its options"):
        build_optimizer(small_network(), OptimizerRecipe(name=name, **values))


def test_options_overrule_those_of_the_name():
    momentum = build_optimizer(small_network(), OptimizerRecipe(name="nesterov", options={"momentum": 0.8}))
    assert (momentum.param_groups[0]["momentum"], momentum.param_groups[0]["nesterov"]) == (0.8, True)
    betas = build_optimizer(small_network(), OptimizerRecipe(options={"betas": [0.8, 0.9]})).param_groups[0]["betas"]
    assert tuple(betas) == (0.8, 0.9)


def test_nothing_to_train():
    with pytest.raises(RecipeError, match="no parameters"):
        build_optimizer(nn.ReLU(), OptimizerRecipe())
