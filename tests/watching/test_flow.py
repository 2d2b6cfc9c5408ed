"""How layers went over time, as numbers: against what the loop itself can measure."""

from __future__ import annotations

import json
import math

import pytest
import torch
from programs import blobs, perceptron
from torch import nn
from torch.nn import functional as F

from sounding.watching import watch
from sounding.watching.flow import MOST_ROWS, rows_of


def whole(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors]).norm().item()


def test_gradients_and_updates_are_those_of_the_layers():
    torch.manual_seed(0)
    model, (x, y) = perceptron(8, 16, 3), blobs(32)
    layers = {"0": model[0], "2": model[2]}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gradients, updates = {name: [] for name in layers}, {name: [] for name in layers}
    with watch(model, optimizer, say=None) as w:
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            before = {name: [p.detach().clone() for p in layer.parameters()] for name, layer in layers.items()}
            for name, layer in layers.items():
                gradients[name].append(whole(p.grad for p in layer.parameters()))
            optimizer.step()
            for name, layer in layers.items():
                change = whole(p.detach() - old for p, old in zip(layer.parameters(), before[name], strict=True))
                updates[name].append(change / whole(before[name]))
    flow = w.flow()["players"]["model"]
    assert (flow["done"], flow["steps"], flow["modules"]) == (3, [1, 2, 3], 2)
    assert [layer["name"] for layer in flow["layers"]] == list(layers)
    for layer in flow["layers"]:
        assert layer["gradient"] == pytest.approx(gradients[layer["name"]], rel=1e-5)
        assert layer["update"] == pytest.approx(updates[layer["name"]], rel=1e-3)


def test_zeros_dead_units_and_saturation_are_those_of_the_activations():
    torch.manual_seed(0)
    model, (x, y) = perceptron(8, 16, 3), blobs(256)
    model.insert(3, nn.Tanh())
    with torch.no_grad():
        model[0].weight[:4], model[0].bias[:4] = 0, -1  # a quarter of the units is dead
        model[2].bias[:2] = torch.tensor([50.0, -50.0])  # two of three are saturated
        model[2].weight[2] *= 0
        model[2].bias[2] = 0.1
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    zeros = []
    with watch(model, optimizer, say=None) as w:
        for _ in range(3):
            optimizer.zero_grad()
            zeros.append((model[1](model[0](x)) == 0).float().mean().item())
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    relu, tanh = w.flow()["players"]["model"]["activations"]
    assert (relu["layer"], relu["kind"], tanh["layer"], tanh["kind"]) == ("0", "relu", "2", "tanh")
    assert relu["zeros"] == pytest.approx(zeros)
    assert relu["dead"] == [0.25] * 3
    assert tanh["saturated"] == pytest.approx([2 / 3] * 3)
    assert tanh["dead"] == [0] * 3


def test_what_is_not_finite_or_not_there_is_none_in_strict_json():
    model, (x, y) = perceptron(8, 16, 3), blobs(32)
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=1e-3)
    with watch(model, optimizer, say=None) as w:
        for weight in (1.0, math.inf):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            model[2].bias.grad *= weight
            optimizer.step()
    flow = w.flow()
    json.dumps(flow, allow_nan=False)
    (layer,) = flow["players"]["model"]["layers"]
    assert layer["name"] == "2"
    assert layer["update"][0] is not None
    assert layer["update"][1] is None


class Reader(nn.Module):
    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first, self.embedding = first, nn.Embedding(5, 4)
        self.cell, self.head = nn.GRU(4, 8, batch_first=first), nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor, leaves: list[torch.Tensor] | None = None) -> torch.Tensor:
        words = self.embedding(tokens)
        if leaves is not None:
            words = words.detach().requires_grad_()
            leaves.append(words)
        states = self.cell(words if self.first else words.transpose(0, 1))[0]
        return self.head(states[:, -1] if self.first else states[-1])


@pytest.mark.parametrize("first", [True, False])
def test_the_gradient_over_time_is_that_of_each_step_before_and_after(first):
    torch.manual_seed(0)
    model, tokens, y = Reader(first), torch.randint(5, (16, 12)), torch.arange(16) % 3

    def over_time():
        leaves: list[torch.Tensor] = []
        loss = F.cross_entropy(model(tokens, leaves), y)
        (gradient,) = torch.autograd.grad(loss, leaves)
        return gradient.norm(dim=2).mean(0).tolist()

    expected = {"start": over_time()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with watch(model, optimizer, say=None) as w:
        w.patient = True
        for _ in range(8):
            optimizer.zero_grad()
            F.cross_entropy(model(tokens), y).backward()
            optimizer.step()
    expected["end"] = over_time()
    found = w.flow()["players"]["model"]["over_time"]
    assert list(found) == ["start", "end"]
    for name, norms in found.items():
        assert norms == pytest.approx(expected[name], rel=1e-4)
    assert found["start"] != pytest.approx(found["end"], rel=0.01)


class Packing(nn.Module):
    def __init__(self, lengths: torch.Tensor) -> None:
        super().__init__()
        self.lengths, self.cell, self.head = lengths, nn.GRU(2, 6, batch_first=True), nn.Linear(6, 1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(values, self.lengths, batch_first=True, enforce_sorted=False)
        return self.head(self.cell(packed)[1][0])[:, 0]


def test_packed_sequences_count_for_as_long_as_they_last():
    torch.manual_seed(0)
    lengths = torch.tensor([9, 3, 5, 3])
    model, values, y = Packing(lengths), torch.randn(4, 9, 2), torch.randn(4)
    leaf = values.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.mse_loss(model(leaf), y), leaf)
    there = torch.arange(9) < lengths[:, None]
    expected = (gradient.norm(dim=2) * there).sum(0) / there.sum(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, say=None) as w:
        w.patient = True
        for _ in range(8):
            optimizer.zero_grad()
            F.mse_loss(model(values), y).backward()
            optimizer.step()
    start = w.flow()["players"]["model"]["over_time"]["start"]
    assert start == pytest.approx(expected.tolist(), rel=1e-4)


def test_a_network_without_recurrence_has_no_gradient_over_time():
    model, (x, y) = perceptron(8, 16, 3), blobs(32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, say=None) as w:
        for _ in range(5):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert w.flow()["players"]["model"]["over_time"] == {}


def test_the_rows_of_a_deep_network_are_few_and_hold_all_of_its_gradient():
    torch.manual_seed(0)
    model, (x, y) = perceptron(*[8] * 100, 3), blobs(32)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with watch(model, optimizer, say=None) as w:
        F.cross_entropy(model(x), y).backward()
        everything = whole(p.grad for p in model.parameters())
        optimizer.step()
    flow = w.flow()["players"]["model"]
    assert flow["modules"] == 100
    assert MOST_ROWS / 2 < len(flow["layers"]) <= MOST_ROWS
    assert len(flow["activations"]) <= MOST_ROWS
    assert math.hypot(*(layer["gradient"][0] for layer in flow["layers"])) == pytest.approx(everything, rel=1e-5)


@pytest.mark.parametrize(
    ("modules", "rows", "first"),
    [
        (["a", "b.c.d"], 2, "a"),
        ([f"blocks.{i}.{part}" for i in range(30) for part in "qkv"], 30, "blocks.0"),
        ([f"body.layers.{i}.{part}" for i in range(60) for part in "qkv"], 30, "body.layers.0 … 1"),
        ([str(i) for i in range(99)], 33, "0 … 2"),
        ([], 0, None),
    ],
)
def test_neighbours_share_a_row_under_the_name_of_what_holds_them(modules, rows, first):
    known = rows_of(modules, 40)
    assert list(known) == modules
    assert len(set(known.values())) == rows
    assert next(iter(known.values()), None) == first


def test_players_have_their_own_layers_under_their_own_names():
    models = {"generator": perceptron(8, 16, 3), "discriminator": perceptron(8, 4, 3)}
    optimizers = {name: torch.optim.SGD(model.parameters(), lr=0.1) for name, model in models.items()}
    x, y = blobs(32)
    with watch(models, optimizers, say=None) as w:
        for name, model in models.items():
            F.cross_entropy(model(x), y).backward()
            optimizers[name].step()
    flow = w.flow()
    assert list(flow["players"]) == ["generator", "discriminator"]
    for player in flow["players"].values():
        assert [layer["name"] for layer in player["layers"]] == ["0", "2"]
        assert [one["layer"] for one in player["activations"]] == ["0"]
    assert "gradients that explode" in flow["looked_for"]
