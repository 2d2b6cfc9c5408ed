from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sounding.errors import RecipeError
from sounding.networks import NETWORKS
from sounding.training.gradients import (
    checkpoint_activations,
    clip_by_norm,
    clip_by_percentile,
    clip_by_value,
    gradient_check,
)

CLIPS: dict[str, Callable[[list[nn.Parameter]], Tensor]] = {
    "value": lambda parameters: clip_by_value(parameters, 0.5),
    "norm": lambda parameters: clip_by_norm(parameters, 0.5),
    "percentile": lambda parameters: clip_by_percentile(parameters, 50, [1.0]),
}


def with_gradients(scale: float = 1.0, seed: int = 0) -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(seed)
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((3, 4), (4,), (2, 2, 2), ())]
    for parameter in parameters:
        parameter.grad = scale * torch.randn(parameter.shape, generator=draw)
    return [*parameters, nn.Parameter(torch.zeros(5))]  # the last took no part in the loss


def gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def whole(parameters: list[nn.Parameter]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients(parameters)])


# Clipping


@pytest.mark.parametrize("limit", [0.3, 100.0])
def test_by_norm_gives_the_bits_of_torch(limit: float) -> None:
    ours, theirs = with_gradients(), with_gradients()
    assert torch.equal(clip_by_norm(ours, limit), nn.utils.clip_grad_norm_(theirs, limit))
    assert all(torch.equal(a, b) for a, b in zip(gradients(ours), gradients(theirs), strict=True))


def test_by_value_gives_the_bits_of_torch_and_the_norm_before() -> None:
    ours, theirs = with_gradients(), with_gradients()
    before = whole(ours).double().norm().item()
    assert clip_by_value(ours, 0.5).item() == pytest.approx(before)
    nn.utils.clip_grad_value_(theirs, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(gradients(ours), gradients(theirs), strict=True))


@pytest.mark.parametrize("percentile", [10.0, 50.0, 97.5])
def test_by_percentile_clips_to_that_of_numpy_over_the_recent_norms(percentile: float) -> None:
    norms: list[float] = []
    all_norms = []
    for step in range(12):
        parameters = with_gradients(scale=1.5 ** (step * 5 % 12), seed=step)
        before = whole(parameters)
        all_norms.append(before.double().norm().item())
        limit = np.percentile(all_norms[-5:], percentile)
        assert clip_by_percentile(parameters, percentile, norms, window=5).item() == pytest.approx(all_norms[-1])
        expected = before * min(1.0, limit / all_norms[-1])
        torch.testing.assert_close(whole(parameters), expected)
        assert norms == pytest.approx(all_norms[-5:])


def test_a_resumed_run_clips_as_one_left_alone() -> None:
    norms: list[float] = []
    for step in range(10):
        clip_by_percentile(with_gradients(1 + step % 4, seed=step), 30, norms, window=6)
        if step == 6:
            saved = [float(text) for text in map(repr, norms)]  # as JSON keeps them
    alone, resumed = with_gradients(3.0), with_gradients(3.0)
    for step in (7, 8, 9):
        clip_by_percentile(with_gradients(1 + step % 4, seed=step), 30, saved, window=6)
    clip_by_percentile(alone, 30, norms, window=6)
    clip_by_percentile(resumed, 30, saved, window=6)
    assert torch.equal(whole(alone), whole(resumed))
    assert norms == saved


@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_what_is_not_finite_shows_in_the_norm(clip: Callable[[list[nn.Parameter]], Tensor], bad: float) -> None:
    parameters = with_gradients()
    gradients(parameters)[0][1, 2] = bad
    assert not clip(parameters).isfinite()


def test_a_norm_that_is_not_finite_is_not_remembered() -> None:
    norms, parameters = [1.0, 2.0], with_gradients()
    gradients(parameters)[1][0] = math.inf
    before = whole(parameters)
    clip_by_percentile(parameters, 50, norms)
    assert norms == [1.0, 2.0]
    assert torch.equal(whole(parameters), before)


@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
def test_without_gradients_there_is_nothing_to_clip(clip: Callable[[list[nn.Parameter]], Tensor]) -> None:
    assert clip([nn.Parameter(torch.zeros(2))]).item() == 0.0


@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
def test_kinds_of_numbers_may_be_mixed(clip: Callable[[list[nn.Parameter]], Tensor]) -> None:
    mixed, plain = with_gradients(), with_gradients()
    mixed[0].data, mixed[0].grad = mixed[0].double(), gradients(mixed)[0].double()
    assert clip(mixed).item() == pytest.approx(clip(plain).item())
    torch.testing.assert_close(whole(mixed).float(), whole(plain))


@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
def test_a_generator_of_parameters_will_do(clip: Callable[[list[nn.Parameter]], Tensor]) -> None:
    once, listed = with_gradients(), with_gradients()
    assert torch.equal(clip(parameter for parameter in once), clip(listed))  # type: ignore[arg-type]
    assert torch.equal(whole(once), whole(listed))


# Activation checkpointing


def families() -> dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]]:
    """Every network in the registry, small, with inputs."""
    torch.manual_seed(0)
    codes = torch.randint(1, 30, (4, 7)) * (torch.arange(7) < torch.tensor([[7], [3], [5], [1]]))
    inputs = {
        "table": (torch.randn(4, 3), torch.randint(0, 3, (4, 2))),
        "pictures": (torch.randn(4, 2, 10, 12),),
        "tokens": (codes,),
        "series": (torch.randn(4, 2, 16),),
        "sound": (torch.randint(-9000, 9000, (4, 300), dtype=torch.int16),),
    }
    arguments = {"table": (3, [3, 5], 2), "pictures": (2, 2), "tokens": (30, 2), "series": (2, 2), "sound": (2,)}
    own = {"pictures": {"picture_size": (10, 12)}, "series": {"length": 16}, "sound": {"rate": 1000}}
    smaller = {
        "ensemble": {"members": 3, "hidden_sizes": [12, 12]},
        "resnet": {"stem_size": 4, "hidden_sizes": [4, 8], "depths": [2, 2]},
        "convolutional": {"hidden_sizes": [4, 8]},
        "transformer": {"hidden_size": 16, "heads": 2},
        "recurrent": {"embedding_size": 8, "hidden_sizes": [6, 6]},
        "text_convolution": {"embedding_size": 8, "hidden_size": 6},
        "text_ensemble": {"embedding_size": 8, "hidden_size": 4},
        "bag": {"buckets": 31},
        "series_convolution": {"hidden_size": 4, "widths": [3, 5], "depth": 3},
        "series_transformer": {"hidden_size": 16, "stretches": 4},
        "detector": {"stem_size": 4, "hidden_sizes": [4, 4, 8, 8], "depths": [1, 1, 1, 1], "pyramid_size": 4},
        "unet": {"hidden_size": 4, "levels": 2},
        "encoder_decoder": {"decoder_size": 4, "hidden_sizes": [4, 8], "depths": [2, 2], "stem_size": 4},
        "style_network": {"hidden_sizes": [4, 4, 8], "depth": 2},
        "sound_convolution": {"bands": 8, "stem_size": 4, "hidden_sizes": [4, 8]},
        "sound_recurrent": {"bands": 8, "stem_size": 4, "convolution_sizes": [4, 8], "hidden_sizes": [8]},
    }
    asked_otherwise = ("samples", "forecasts", "next_token", "next_codes", "scores", "next_items", "frames")
    found = {}
    for name, family in NETWORKS.items():
        if name in ("resnet34", "resnet50") or family.answers in asked_otherwise:  # those have the code of resnet18
            continue
        options = dict(
            smaller.get(name, {"hidden_sizes": [12, 12]} if "feedforward" in name or "encoder" in name else {})
        )
        options |= own.get(family.takes, {})
        found[name] = (partial(family.build, *arguments[family.takes], **options), inputs[family.takes])
    return found


FAMILIES = families()


class Stateful(nn.Module):
    """Its output depends on a buffer that each forward pass changes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("calls", torch.ones(()))

    def forward(self, values: Tensor) -> Tensor:
        self.calls += 1
        return torch.tanh(self.linear(values) * self.calls)


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.GELU()) for _ in range(3)
        )

    def forward(self, values: Tensor) -> Tensor:
        for layer in self.layers:
            values = values + layer(values)
        return values


X = (torch.linspace(-2, 2, 32).view(8, 4),)
OTHERS: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    "stateful": (lambda: nn.Sequential(Stateful(), nn.Sequential(nn.Linear(4, 4), nn.Tanh()), Stateful()), X),
    "listed": (Listed, X),
    "flat": (
        lambda: nn.Sequential(
            *(m for _ in range(4) for m in (nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.SiLU()))
        ),
        X,
    ),
    "torch": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 3),
        (X[0][:, None],),
    ),
}
BLOCKS = {
    **{"feedforward": 2, "picture_feedforward": 2, "ensemble": 2, "convolutional": 4, "resnet": 6, "resnet18": 10},
    **{"autoencoder": 4, "variational_autoencoder": 4, "picture_autoencoder": 2, "picture_variational_autoencoder": 2},
    **{"convolutional_autoencoder": 8, "convolutional_variational_autoencoder": 8},
    **{"series_autoencoder": 5, "series_variational_autoencoder": 5},
    **{"detector": 15, "unet": 5, "encoder_decoder": 9, "style_network": 7},
    **{"denoiser": 2, "one_class": 0, "picture_one_class": 3},
    **{"transformer": 2, "recurrent": 2, "bag": 0, "text_convolution": 0, "text_ensemble": 0},
    **{"series_convolution": 2, "series_recurrent": 1, "series_transformer": 2},
    **{"sound_convolution": 2, "sound_recurrent": 3},
    **{"stateful": 3, "listed": 3, "flat": 4, "torch": 3},
}


def step_of(network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[dict[str, Tensor], int]:
    """Everything that one forward and backward pass leaves behind, and the bytes kept in between."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(1)
    for parameter in network.parameters():
        kept[parameter.untyped_storage().data_ptr()] = 0
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(*inputs)
        loss = sum(part.square().sum() for part in (outputs if isinstance(outputs, tuple) else (outputs,)))
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    loss.backward()
    left = {f"gradient of {name}": p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    left |= {"loss": loss.detach(), "generator": torch.get_rng_state()}
    left |= {f"buffer {name}": buffer.clone() for name, buffer in network.named_buffers()}
    return left, sum(size for place, size in kept.items() if place not in weights)


@pytest.mark.parametrize("name", [*FAMILIES, *OTHERS])
def test_recomputed_blocks_change_no_bit(name: str) -> None:
    build, inputs = (FAMILIES | OTHERS)[name]
    torch.manual_seed(0)
    network = build().train()
    twin = copy.deepcopy(network)
    kinds = [type(module) for module in network.modules()]
    expected, _ = step_of(twin, inputs)
    with checkpoint_activations(network) as blocks:
        assert blocks == BLOCKS[name]
        assert list(network.state_dict()) == list(twin.state_dict())
        assert [type(module) for module in network.modules()] == kinds
        found, _ = step_of(network, inputs)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize("name", ["transformer", "resnet", "flat", "listed"])
def test_recomputed_blocks_keep_less(name: str) -> None:
    build, inputs = (FAMILIES | OTHERS)[name]
    network = build().train()
    inputs = tuple(torch.cat([x] * 20) for x in inputs)
    _, before = step_of(network, inputs)
    with checkpoint_activations(network):
        _, during = step_of(network, inputs)
    _, after = step_of(network, inputs)
    assert during < 0.6 * before
    assert after == before


def test_a_copy_of_a_network_with_recomputed_blocks_is_its_own() -> None:
    network = Listed().eval()
    with checkpoint_activations(network):
        twin = copy.deepcopy(network)
        nn.init.zeros_(network.layers[0][0].weight)
        assert not torch.equal(twin(*X), network(*X))
    assert not any("forward" in vars(module) for module in network.modules())


def test_a_forward_pass_of_its_own_is_left_alone() -> None:
    network = Listed().eval()
    network.layers[0].forward = lambda values: values * 0
    expected = network(*X)
    with checkpoint_activations(network) as blocks:
        assert blocks == 2
        assert torch.equal(network(*X), expected)
    assert "forward" in vars(network.layers[0])


def test_going_back_twice_computes_the_same_again() -> None:
    network = nn.Sequential(Stateful(), Stateful())
    with checkpoint_activations(network):
        loss = network(*X).square().sum()
        once, again = (torch.autograd.grad(loss, list(network.parameters()), retain_graph=True) for _ in range(2))
    assert all(torch.equal(first, second) for first, second in zip(once, again, strict=True))


def test_without_a_backward_pass_nothing_is_prepared_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Listed().eval()
    expected = network(*X)
    monkeypatch.setattr("sounding.training.gradients.checkpoint", None)
    with checkpoint_activations(network), torch.no_grad():
        assert torch.equal(network(*X), expected)


@pytest.mark.parametrize("name", ["listed", "flat"])
def test_recomputed_blocks_can_be_compiled(name: str) -> None:
    build, inputs = (FAMILIES | OTHERS)[name]
    network = build().train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # a compiled graph draws in another order
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    expected, _ = step_of(copy.deepcopy(network), inputs)
    with checkpoint_activations(network):
        network.compile(backend="aot_eager")
        found, _ = step_of(network, inputs)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=key)


# Gradients checked


class Wrong(torch.autograd.Function):
    """A square whose derivative is wrong in one place."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, place: int) -> Tensor:
        ctx.save_for_backward(values)
        ctx.place = place
        return values.square()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (values,) = ctx.saved_tensors
        slope = 2 * values
        slope.view(-1)[ctx.place] *= 1.01
        return gradient * slope, None


class Scaled(nn.Module):
    """Its weight has a gradient that is wrong at [1, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, 6).view(2, 3))
        self.bias = nn.Parameter(torch.ones(2))

    def forward(self, values: Tensor) -> Tensor:
        return values @ Wrong.apply(self.weight, 5).T + self.bias


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "resnet18"])  # large, and the code of resnet
def test_every_family_has_right_gradients(name: str, training: bool) -> None:
    build, inputs = FAMILIES[name]
    torch.manual_seed(0)
    network = build()
    before = copy.deepcopy(network.state_dict())
    report = gradient_check(network, inputs, training=training, entries=3)
    assert report.passed, str(report)
    trainable = [key for key, _ in network.named_parameters()]
    assert list(report.comparisons) == trainable + [
        f"input {place}" for place, x in enumerate(inputs) if x.is_floating_point()
    ]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network.training
    assert next(network.parameters()).dtype == torch.float32


AGREED: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "softmax": (lambda x: x.softmax(-1), True),
    "norm": (lambda x: nn.functional.layer_norm(x, (3,)), True),
    "attention": (lambda x: nn.functional.scaled_dot_product_attention(x, x.sin(), x.cos()), True),
    "several": (lambda x: (x.exp(), x.sum()), True),
    "wrong": (lambda x: Wrong.apply(x, 4), False),
    "cut off": (lambda x: x.square() + x.detach(), False),
    "cut off altogether": (lambda x: x.square().detach(), False),
}


@pytest.mark.filterwarnings("ignore:Input #0 requires gradient")
@pytest.mark.parametrize("name", AGREED)
def test_it_agrees_with_torch(name: str) -> None:
    function, right = AGREED[name]
    torch.manual_seed(0)
    x = torch.randn(2, 3, dtype=torch.float64) + 0.1
    if name != "cut off altogether":  # torch refuses to look at that
        assert torch.autograd.gradcheck(function, x.clone().requires_grad_(), raise_exception=False) == right
    assert gradient_check(function, x).passed == right


def test_a_wrong_gradient_is_named_with_its_place_and_both_values() -> None:
    report = gradient_check(Scaled(), torch.ones(1, 3), loss=lambda outputs: outputs.sum())
    assert not report.passed
    (difference,) = report.differences
    assert (difference.name, difference.index) == ("weight", (1, 2))
    assert difference.numerical == pytest.approx(3.0, abs=1e-8)
    assert difference.backpropagated == pytest.approx(3.03)
    assert report.comparisons["weight"].error == pytest.approx(0.01, rel=0.02)
    assert report.comparisons["bias"].error < 1e-8
    text = str(report)
    assert "1 of 3 gradients differ (float64, central differences, step 1e-06, tolerance 1e-05)" in text
    assert "weight[1, 2]: backpropagation gives 3.03, finite differences " in text
    assert "bias: 2 of 2 entries, greatest relative error" in text


@pytest.mark.parametrize("at", [0.0, 3e-7])
def test_a_kink_is_named_and_no_failure(at: float) -> None:
    x = torch.tensor([-1.0, at, 2.0], dtype=torch.float64)
    report = gradient_check(torch.relu, x, loss=lambda outputs: outputs.sum())
    assert report.passed
    assert report.comparisons["input 0"].kinks == [(1,)]
    assert report.comparisons["input 0"].compared == 2
    assert "not differentiable here: (1,)" in str(report)


def test_a_bend_is_no_kink() -> None:
    x = torch.zeros(1, dtype=torch.float64)
    assert not gradient_check(lambda x: x.square() + x.detach() / 100, x).passed
    assert not gradient_check(lambda x: (30 * x).cos() + x.detach(), x).passed


def test_where_nothing_could_be_compared_it_has_not_passed() -> None:
    report = gradient_check(torch.relu, torch.zeros(2))
    assert not report.passed
    assert "nothing could be compared" in str(report)


def test_frozen_parameters_and_codes_are_left_out() -> None:
    network = nn.Sequential(nn.Embedding(4, 2), nn.Linear(2, 2))
    network[1].bias.requires_grad_(False)
    assert list(gradient_check(network, torch.tensor([1, 2])).comparisons) == ["0.weight", "1.weight"]


def test_rare_rows_of_an_embedding_are_found() -> None:
    torch.manual_seed(0)

    class Rare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(5000, 2))

        def forward(self, codes: Tensor) -> Tensor:
            return Wrong.apply(self.table[codes], 0)

    report = gradient_check(Rare(), torch.tensor([4321]))
    assert [(difference.name, difference.index) for difference in report.differences] == [("table", (4321, 0))]


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_sizes_of_inputs_and_losses_do_not_matter(size: float, scale: float) -> None:
    x = size * torch.tensor([0.3, -2.0, 5.0], dtype=torch.float64)
    wide = max(size, 1.0)  # a function that bends within the step has no slope to measure
    right = gradient_check(lambda x: scale * (x / wide).sin(), x)
    assert right.passed, str(right)
    assert not gradient_check(lambda x: scale * Wrong.apply((x / wide).sin() + 2, 0), x).passed


def test_an_infinite_gradient_is_wrong() -> None:
    (difference,) = gradient_check(
        lambda x: (x + 1e-20 * x.sign()).abs().pow(1.5) + (x * 0).sqrt(), torch.ones(1)
    ).differences
    assert difference.error == math.inf


def test_draws_are_the_same_in_every_pass_and_leave_no_trace() -> None:
    state = torch.get_rng_state()
    network = nn.Sequential(nn.Linear(3, 20), nn.Dropout(0.5), nn.Linear(20, 1)).train()
    torch.set_rng_state(state)
    assert gradient_check(network, torch.ones(2, 3)).passed
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == torch.float32


def test_what_a_module_remembers_begins_each_pass_alike() -> None:
    assert gradient_check(Stateful(), X).passed


def test_it_can_be_called_where_gradients_are_off() -> None:
    with torch.no_grad():
        assert gradient_check(nn.Linear(2, 2), torch.ones(1, 2)).passed


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x * next(DRAWS), "two forward passes of the same inputs differ"),
        (lambda x: x.float(), "the loss is torch.float32"),
        (lambda x: x / 0, "the loss is -?inf|nan"),
    ],
)
def test_what_cannot_be_checked_is_told(function: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        gradient_check(function, torch.ones(2))


DRAWS = iter(range(1, 100))


def test_a_loss_that_is_no_number_is_told() -> None:
    with pytest.raises(RecipeError, match=r"the loss has shape \(2, 3\)"):
        gradient_check(nn.Linear(2, 3), torch.ones(2, 2), loss=lambda outputs: outputs)


def test_codes_alone_are_nothing_to_check() -> None:
    with pytest.raises(RecipeError, match="there is nothing to check"):
        gradient_check(lambda x: x, torch.tensor([1]))
