"""What every network in the registry promises; those that invent, forecast, write or detect have their own files."""

from __future__ import annotations

from inspect import Parameter, signature
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from sounding.networks import NETWORKS, CompositeNetwork, quantile_bins, reconstruction_errors

APART = ("samples", "forecasts", "next_token", "scores", "next_items", "next_codes", "detections", "maps", "painting")
"""What is promised of networks that answer so is in their own files."""
ROWS = 6
OUT = 3
CARDINALITIES = [2, 4, 150]
PICTURE = (10, 12)
LENGTH = 15
SAMPLES, RATE = 300, 1000

# the smaller ones among the sizes that a family allows, so that the whole file takes seconds
SMALL: dict[str, dict[str, Any]] = {
    "feedforward": {"hidden_sizes": [32, 32]},
    "ensemble": {"hidden_sizes": [32, 32], "members": 4},
    "picture_feedforward": {"hidden_sizes": [32, 32]},
    "convolutional": {"hidden_sizes": [8, 16]},
    "resnet": {"stem_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "bag": {"buckets": 101},
    "text_ensemble": {"hidden_size": 16},
    "transformer": {"hidden_size": 32},
    "recurrent": {"hidden_sizes": [16, 16]},
    "autoencoder": {"hidden_sizes": [32, 16]},
    "variational_autoencoder": {"hidden_sizes": [32, 16]},
    "picture_autoencoder": {"hidden_sizes": [32, 16]},
    "picture_variational_autoencoder": {"hidden_sizes": [32, 16]},
    "convolutional_autoencoder": {"hidden_sizes": [4, 8]},
    "convolutional_variational_autoencoder": {"hidden_sizes": [4, 8]},
    "series_autoencoder": {"hidden_sizes": [4, 8]},
    "series_variational_autoencoder": {"hidden_sizes": [4, 8]},
    "series_convolution": {"hidden_size": 4, "widths": [3, 5], "depth": 3},
    "series_transformer": {"hidden_size": 32, "stretches": 4},
    "sound_convolution": {"bands": 8, "stem_size": 8, "hidden_sizes": [8, 8], "masks": 0},
    "sound_recurrent": {"bands": 8, "stem_size": 8, "convolution_sizes": [8, 8], "hidden_sizes": [8], "masks": 0},
    "sound_frames": {"bands": 8, "stem_size": 8, "convolution_sizes": [8, 8], "hidden_sizes": [16], "masks": 0},
    "denoiser": {"hidden_sizes": [32], "strengths": 2},
    "one_class": {"hidden_sizes": [32]},
    "picture_one_class": {"hidden_sizes": [4, 8]},
}


def make_numbers(rows: int) -> Tensor:
    return torch.randn(rows, 5)


def make_inputs(takes: str, rows: int = ROWS) -> tuple[Tensor, ...]:
    if takes == "table":
        codes = [torch.randint(count, (rows,)) for count in CARDINALITIES]
        return make_numbers(rows), torch.stack(codes, 1)
    if takes == "pictures":
        return (torch.randn(rows, 2, *PICTURE),)
    if takes == "series":
        return (torch.randn(rows, 2, LENGTH),)
    if takes == "sound":
        return (torch.randint(-9000, 9000, (rows, SAMPLES), dtype=torch.int16),)
    tokens = torch.randint(1, 50, (rows, 9))
    lengths = torch.randint(1, 10, (rows, 1))
    return (tokens * (torch.arange(9) < lengths),)


def make_network(name: str, seed: int = 0, **options: Any) -> nn.Module:
    family = NETWORKS[name]
    options = {**SMALL.get(name, {}), **options}
    torch.manual_seed(seed)
    if family.takes == "table":
        bins = quantile_bins(make_numbers(100), 8)
        return family.build(5, CARDINALITIES, OUT, bins=bins, **options)
    if family.takes == "pictures":
        return family.build(2, OUT, picture_size=PICTURE, **options)
    if family.takes == "series":
        return family.build(2, OUT, length=LENGTH, **options)
    if family.takes == "sound":
        return family.build(OUT, rate=RATE, **options)
    return family.build(50, OUT, **options)


def parts(answer: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (answer,) if isinstance(answer, Tensor) else answer


def equal(first: Tensor | tuple[Tensor, ...], second: Tensor | tuple[Tensor, ...]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(parts(first), parts(second), strict=True))


def loss_of(name: str, network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """What the network is trained for, with any target."""
    if NETWORKS[name].answers == "reconstruction":
        values, _, penalty = network(*inputs)
        cardinalities = CARDINALITIES if NETWORKS[name].takes == "table" else ()
        return reconstruction_errors(values, inputs, cardinalities).mean() + penalty.mean()
    if NETWORKS[name].answers in ("distances", "strangeness"):
        return network(*inputs).mean()
    if NETWORKS[name].answers == "frames":
        logits = network(*inputs).logits
        of_frames = (torch.arange(len(logits)) % OUT)[:, None].expand(logits.shape[:2])
        return nn.functional.cross_entropy(logits.flatten(0, 1), of_frames.flatten())
    target = (torch.arange(len(inputs[0])) % OUT).repeat_interleave(getattr(network, "members", 1))
    return nn.functional.cross_entropy(network(*inputs).reshape(-1, OUT), target)


@pytest.fixture(params=[name for name, family in NETWORKS.items() if family.answers not in APART])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def network(name: str) -> nn.Module:
    return make_network(name).eval()


@pytest.fixture
def inputs(name: str) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return make_inputs(NETWORKS[name].takes)


def features_shape(network: nn.Module, rows: int) -> tuple[int, ...]:
    members = (network.members,) if hasattr(network, "members") else ()
    return (rows, *members, network.num_features)


def test_the_head_of_the_features_is_the_output_in_the_documented_shapes(
    name: str, network: nn.Module, inputs: tuple[Tensor, ...]
) -> None:
    features, outputs = network.forward_features(*inputs), parts(network(*inputs))
    if NETWORKS[name].answers == "frames":
        assert features.shape == (ROWS, int(outputs[1].max()), network.num_features)
    else:
        assert features.shape == features_shape(network, ROWS)
    assert all(output.dtype == torch.float32 for output in outputs)
    assert isinstance(network.head, nn.Module)
    assert torch.equal(network.head(features), outputs[0])
    if NETWORKS[name].answers == "strangeness":
        assert outputs[0].shape == (ROWS, 5 + len(CARDINALITIES))
        return
    if NETWORKS[name].answers != "reconstruction":
        assert outputs[0].shape == (*features.shape[:-1], OUT)
        return
    values, code, penalty = outputs
    table = (ROWS, inputs[0].shape[1] + sum(CARDINALITIES))
    assert values.shape == (table if NETWORKS[name].takes == "table" else inputs[0].shape)
    assert torch.equal(code, features)
    assert code.shape == (ROWS, OUT)
    assert penalty.shape == (ROWS,)


def test_every_parameter_gets_a_finite_gradient(name: str, inputs: tuple[Tensor, ...]) -> None:
    network = make_network(name).train()
    loss_of(name, network, inputs).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    assert any(parameter.grad.any() for parameter in network.parameters())


def test_save_and_load_agree_bit_for_bit(name: str, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    other = make_network(name, seed=7).eval()
    assert not equal(other(*inputs), network(*inputs))
    other.load_state_dict(load(save(network.state_dict())))
    assert equal(other(*inputs), network(*inputs))


def test_training_leaves_nothing_behind_that_the_state_does_not_hold(name: str, inputs: tuple[Tensor, ...]) -> None:
    network, other = make_network(name), make_network(name)
    network.train()(*inputs)  # batch statistics move
    other.load_state_dict(load(save(network.state_dict())))
    assert equal(other.eval()(*inputs), network.eval()(*inputs))


def test_a_batch_of_one_works(network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    alone = network(*(tensor[:1] for tensor in inputs))
    for one, of_all in zip(parts(alone), parts(network(*inputs)), strict=True):
        torch.testing.assert_close(one, of_all[:1], rtol=1e-4, atol=1e-5)


def test_a_batch_of_one_trains(name: str, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    if any(isinstance(layer, norms) for layer in network.modules()):
        pytest.skip("a batch of one has no variance to normalize by")
    loss_of(name, network.train(), tuple(tensor[:1] for tensor in inputs)).backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert any(gradient.abs().sum() > 0 for gradient in gradients)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_no_row_sees_another(name: str, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    torch.manual_seed(2)
    fresh = make_inputs(NETWORKS[name].takes, rows=1)
    changed = tuple(torch.cat([new, old[1:]]) for new, old in zip(fresh, inputs, strict=True))
    before, after = parts(network(*inputs)), parts(network(*changed))
    assert not torch.allclose(after[0][0], before[0][0])
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new[1:], old[1:], rtol=1e-4, atol=1e-5)


def test_the_same_seed_builds_the_same_network(name: str) -> None:
    first, second, third = (make_network(name, seed).state_dict() for seed in (3, 3, 4))
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], third[key]) for key in first)


def test_a_few_rows_can_be_learnt_by_heart(name: str, inputs: tuple[Tensor, ...]) -> None:
    if name == "denoiser":
        pytest.skip("noise cannot be learnt by heart")
    # codes that are to be near the standard normal distribution do not tell a few rows apart
    network = make_network(name, **({"beta": 0.01} if "variational" in name else {})).train()
    fast = name == "bag" or NETWORKS[name].answers != "logits"
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2 if fast else 3e-3)
    torch.manual_seed(3)

    losses: list[float] = []
    while len(losses) <= 50 and not (losses and losses[-1] < losses[0] / 3):
        loss = loss_of(name, network, inputs)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 3


def test_inputs_are_left_as_they_were(network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    copies = [tensor.clone() for tensor in inputs]
    network(*inputs)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(inputs, copies, strict=True))


def test_codes_may_be_narrow_integers(name: str, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    if NETWORKS[name].takes in ("pictures", "series", "sound"):
        pytest.skip("they have no codes")
    narrow = tuple(tensor if tensor.is_floating_point() else tensor.int() for tensor in inputs)
    assert equal(network(*narrow), network(*inputs))


def test_pieces_of_words_may_stand_beside_their_codes(
    name: str, network: nn.Module, inputs: tuple[Tensor, ...]
) -> None:
    if NETWORKS[name].takes != "tokens":
        pytest.skip("only tokens have pieces")
    (tokens,) = inputs
    pieces = torch.randint(1, 9, (*tokens.shape, 3))
    assert torch.equal(network(torch.cat([tokens[..., None], pieces], 2)), network(tokens))


@pytest.mark.parametrize("traced", [False, True], ids=["trimmed", "kept"])
def test_padding_changes_nothing(
    name: str, network: nn.Module, inputs: tuple[Tensor, ...], traced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if NETWORKS[name].takes != "tokens":
        pytest.skip("only tokens have padding")
    (tokens,) = inputs
    expected = network(tokens)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: traced)
    torch.testing.assert_close(network(nn.functional.pad(tokens, (0, 5))), expected)


@pytest.mark.parametrize("training", [False, True])
def test_padding_of_recordings_changes_nothing(
    name: str, inputs: tuple[Tensor, ...], training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if NETWORKS[name].takes != "sound":
        pytest.skip("only recordings have silence behind them")
    network, lengths = make_network(name, dropout=0.0).train(training), torch.tensor([SAMPLES, 200, 1, 0, 39, 40])
    behind = torch.arange(SAMPLES) >= lengths[:, None]
    (samples,) = (inputs[0].masked_fill(behind, -32768),)
    expected = parts(network(samples))[0]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)  # so that padding is kept in training, too
    padded = parts(network(nn.functional.pad(samples, (0, 55), value=-32768)))[0]
    for row, length in enumerate(lengths):
        frames = slice(0, 1 + int(length) // 10 // 2) if NETWORKS[name].answers == "frames" else slice(None)
        torch.testing.assert_close(padded[row, frames], expected[row, frames], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_padding_of_series_changes_nothing(name: str, training: bool) -> None:
    if "varying" not in signature(NETWORKS[name].build).parameters:
        pytest.skip("it reads series of one length")
    network = make_network(name, varying=True, dropout=0.0).train(training)
    lengths = torch.tensor([LENGTH, 4, 1, 9, 12, 7])
    real = (torch.arange(LENGTH) < lengths[:, None])[:, None].float()
    series = torch.cat([torch.randn(ROWS, 2, LENGTH) * real, real], 1)
    expected = network(series)
    torch.testing.assert_close(network(nn.functional.pad(series, (0, 9))), expected, rtol=1e-4, atol=1e-5)
    if not training:
        alone = torch.cat([network(row[None, :, :length]) for row, length in zip(series, lengths, strict=True)])
        torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-5)


def test_options_are_keywords_with_plain_defaults(name: str) -> None:
    family = NETWORKS[name]
    for option, default in family.options.items():
        values = default if isinstance(default, tuple) else (default,)
        assert all(isinstance(value, bool | int | float | str) for value in values), option
    with pytest.raises(TypeError, match="dropuot"):
        make_network(name, dropuot=0.1)
    assert "kwargs" not in signature(family.build).parameters


def test_it_can_be_a_part_of_a_composite(name: str, inputs: tuple[Tensor, ...]) -> None:
    if NETWORKS[name].answers == "frames":
        pytest.skip("it speaks of frames, not of rows")
    network = CompositeNetwork([(make_network(name), len(inputs))], 4).eval()
    assert network(*inputs).shape == (ROWS, 4)


def test_it_is_exported_for_batches_of_any_size(name: str, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    if "recurrent" in name:
        pytest.skip("packed sequences cannot be traced")
    if NETWORKS[name].answers == "frames":
        pytest.skip("PyTorch warns of the weights of an LSTM that is traced")
    if name in ("resnet34", "resnet50"):
        pytest.skip("the same code as resnet18, and slow to trace")
    rows = torch.export.Dim("rows", min=2, max=512)
    shapes: Any = tuple({0: rows} for _ in inputs)
    if any(p.kind is Parameter.VAR_POSITIONAL for p in signature(network.forward).parameters.values()):
        shapes = (shapes,)
    graph = torch.export.export(network, inputs, dynamic_shapes=shapes).module()
    more = make_inputs(NETWORKS[name].takes, rows=ROWS + 3)
    for one, other in zip(parts(graph(*more)), parts(network(*more)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
