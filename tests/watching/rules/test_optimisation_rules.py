"""Rates, scales, initialisation and signals: the fault is named first, and healthy neighbours hear nothing."""

from __future__ import annotations

import pytest
import torch
from programs import alarms, blobs, perceptron, train
from torch import nn
from torch.nn import functional as F

import sounding
from sounding.watching.relation import linear_agreement
from sounding.watching.rules.dead_relu import dead_shares
from sounding.watching.seen import Activation, Seen, Step


def deep(activation, depth: int = 10) -> nn.Sequential:
    torch.manual_seed(0)
    return perceptron(8, *[32] * depth, 3, activation=activation)


def shallow(*, activation=nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    return perceptron(8, 32, 32, 3, activation=activation)


def regression(scale: float = 1.0, offset: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(256, 8, generator=draws)
    y = torch.tanh(x[:, :1] + x[:, 1:2]) + 0.1 * torch.randn(256, 1, generator=draws)
    return x, scale * y + offset


@pytest.mark.parametrize(
    ("optimizer", "rate"), [(torch.optim.SGD, 100.0), (torch.optim.Adam, 1.0), (torch.optim.SGD, 20.0)]
)
def test_a_rate_that_is_too_high(optimizer, rate):
    w = train(shallow(), blobs(), optimizer=optimizer, rate=rate)
    assert alarms(w)[0] == "lr_too_high"
    assert w.findings[0].evidence["factor"] < 1
    assert "from the same start" in w.findings[0].confirmed


@pytest.mark.parametrize(("optimizer", "rate"), [(torch.optim.SGD, 1e-6), (torch.optim.Adam, 1e-7)])
def test_a_rate_that_is_too_low(optimizer, rate):
    w = train(shallow(), blobs(), optimizer=optimizer, rate=rate, epochs=10)
    assert alarms(w)[0] == "lr_too_low"
    assert w.findings[0].evidence["factor"] >= 10


def test_inputs_in_raw_units():
    x, y = blobs()
    w = train(shallow(activation=nn.Tanh), (1000 * x + 5000, y), optimizer=torch.optim.SGD, rate=0.1, epochs=10)
    assert alarms(w)[0] == "inputs_not_normalised"


def test_inputs_normalised_twice():
    x, y = blobs()
    w = train(shallow(), (x / 2000, y), optimizer=torch.optim.SGD, rate=0.1, epochs=10)
    assert alarms(w)[0] == "inputs_not_normalised"


def test_targets_in_raw_units():
    torch.manual_seed(0)
    w = train(perceptron(8, 32, 1), regression(200.0, 1000.0), loss=F.mse_loss, rate=1e-3, epochs=10)
    assert alarms(w)[0] == "targets_not_normalised"


def test_units_that_begin_alike():
    model = shallow()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.01)
    w = train(model, blobs(), optimizer=torch.optim.SGD, rate=0.1, epochs=10)
    assert alarms(w)[0] == "bad_init"


def test_weights_that_are_drawn_far_too_small():
    model = deep(nn.ReLU, depth=6)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.01, 0.01)
    w = train(model, blobs(), optimizer=torch.optim.SGD, rate=0.1, epochs=10)
    assert alarms(w)[0] in {"bad_init", "vanishing_gradient"}


def test_stacked_sigmoids_let_no_gradient_through():
    w = train(deep(nn.Sigmoid), blobs(), rate=1e-3, epochs=10)
    assert alarms(w)[0] == "vanishing_gradient"


def test_dead_units():
    model = shallow()
    with torch.no_grad():
        model[2].bias.fill_(-20.0)
        model[0].bias.fill_(-20.0)
    w = train(model, blobs(rows=512), rate=1e-3, epochs=10)
    assert alarms(w)[0] in {"dead_relu", "bad_init"}


def test_saturated_units():
    model = shallow(activation=nn.Tanh)
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.mul_(100)
    w = train(model, blobs(), optimizer=torch.optim.SGD, rate=1e-3, epochs=10)
    assert alarms(w)[0] in {"saturation", "bad_init"}


def test_labels_in_another_order():
    x, y = blobs(rows=512)
    w = train(shallow(), (x, y[torch.randperm(len(y), generator=torch.Generator().manual_seed(2))]), epochs=10)
    assert alarms(w)[0] == "labels_shuffled"


def test_labels_that_are_learned_by_heart_and_foretell_nothing():
    x, _ = blobs(rows=320)
    y = torch.randint(3, (320,), generator=torch.Generator().manual_seed(5))
    model = shallow()
    with sounding.watch(model, optimizer := torch.optim.Adam(model.parameters(), lr=1e-2), say=None) as w:
        for _ in range(12):
            model.train()
            for rows in torch.arange(256).split(32):
                optimizer.zero_grad()
                F.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                F.cross_entropy(model(x[256:]), y[256:])
    found = next(one for one in w.findings if one.rule == "labels_shuffled")
    assert "validation rows" in found.confirmed
    assert alarms(w)[0] == "labels_shuffled"


@pytest.mark.parametrize("seed", range(5))
def test_a_linear_fit_foretells_those_left_out_like_a_loop_that_leaves_them_out(seed):
    random = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(40, 6, generator=random), torch.randn(40, generator=random)
    classes = (x[:, 0] + noise > 0).long()
    found, chance, _ = linear_agreement(x, classes)
    scaled = ((x - x.mean(0)) / x.std(0)).double()
    goals = F.one_hot(classes).double() - F.one_hot(classes).double().mean(0)
    right = 0
    for row in range(40):
        others = torch.arange(40) != row
        penalty = 6.0 * torch.eye(6, dtype=torch.float64)
        weights = torch.linalg.solve(scaled[others].T @ scaled[others] + penalty, scaled[others].T @ goals[others])
        right += int((scaled[row] @ weights + F.one_hot(classes).double().mean(0)).argmax() == classes[row])
    assert found == pytest.approx(right / 40)
    assert chance == pytest.approx(float(classes.bincount().max()) / 40)


class Recurrent(nn.Module):
    """Says after 24 steps what the first one was."""

    def __init__(self, cell: type[nn.RNNBase], **options: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head = cell(3, 16, batch_first=True, **options), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(x)[0][:, -1])


def first_words() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    words = torch.randint(3, (512, 24), generator=draws)
    return F.one_hot(words, 3).float(), words[:, 0]


def test_gradients_that_die_over_time():
    model = Recurrent(nn.RNN, nonlinearity="relu")
    with torch.no_grad():
        model.cell.weight_hh_l0.mul_(0.3)
    w = train(model, first_words(), rate=1e-3, epochs=5)
    found = next(one for one in w.findings if one.rule == "vanishing_gradient")
    assert "first 6 of 24 steps" in found.title
    gradient = found.evidence["gradient_over_time"]
    assert len(gradient) == 24
    assert gradient[0] < 1e-3 * gradient[-1]
    assert "a linear fit" in found.confirmed


def test_where_the_end_matters_no_gradient_need_come_to_the_beginning():
    model = Recurrent(nn.RNN, nonlinearity="relu")
    with torch.no_grad():
        model.cell.weight_hh_l0.mul_(0.3)
    x, y = first_words()
    assert alarms(train(model, (x.flip(1), y), rate=1e-2, epochs=10)) == []


HEALTHY = {
    "a small network": lambda: train(shallow(), blobs(), epochs=10),
    "sgd": lambda: train(shallow(), blobs(), optimizer=torch.optim.SGD, rate=0.1, epochs=10),
    "a low rate that gets there": lambda: train(shallow(), blobs(), rate=1e-3, epochs=20),
    "classes that overlap": lambda: train(shallow(), blobs(spread=4.0), rate=1e-3, epochs=10),
    "a deep network with He initialisation": lambda: train(deep_he(), blobs(), rate=1e-3, epochs=10),
    "a regression": lambda: train(perceptron(8, 32, 1), regression(), loss=F.mse_loss, rate=1e-2, epochs=10),
    "targets a little off": lambda: train(perceptron(8, 32, 1), regression(2.0, 3.0), loss=F.mse_loss, epochs=20),
    "inputs between 0 and 1": lambda: train(shallow(), between_0_and_1(), rate=1e-2, epochs=20),
    "warm-up": lambda: train(shallow(), blobs(), rate=1e-2, epochs=10, scheduler=warm_up),
    "sparse units": lambda: train(sparse(), blobs(), rate=1e-2, epochs=10),
    "tanh": lambda: train(shallow(activation=nn.Tanh), blobs(), rate=1e-2, epochs=10),
    "no relation, few steps": lambda: train(shallow(), (torch.randn(64, 8), torch.randint(0, 3, (64,))), epochs=5),
}


def deep_he() -> nn.Sequential:
    model = deep(nn.ReLU, depth=8)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)
    return model


def sparse() -> nn.Sequential:
    torch.manual_seed(0)
    model = perceptron(8, 256, 3)
    nn.init.constant_(model[0].bias, -1.0)
    return model


def between_0_and_1() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = blobs()
    return (x - x.min()) / (x.max() - x.min()), y


def warm_up(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 40))


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_runs_hear_nothing(name):
    torch.manual_seed(0)
    assert alarms(HEALTHY[name]()) == []


def test_units_that_died_of_late_are_dead_however_long_they_lived():
    def looked_at(number, alive):
        activation = Activation("0", "relu", torch.tensor(alive), 64, 0.5, 0.0, 1.0)
        return Step(number, 1.0, [0.1], activations=[activation])

    seen = Seen("model", nn.Linear(2, 4), None, losses=[1.0] * 127)
    seen.steps = [looked_at(number, [True] * 4) for number in (0, 1, 2, 6, 14, 30)]
    seen.steps += [looked_at(62, [False, False, False, True]), looked_at(126, [False, False, True, False])]
    assert dead_shares(seen) == {"0": 0.75}  # of the last step alone: the one before is more than half of the run ago
    seen.losses = [1.0] * 124
    assert dead_shares(seen) == {"0": 0.5}


@pytest.mark.parametrize("activation", [lambda: nn.Softmax(1), nn.Sigmoid])
def test_a_signal_that_is_lost_on_its_way(activation):
    torch.manual_seed(0)
    model = perceptron(8, 32, 32, 32, 3, activation=activation)
    w = train(model, blobs(), optimizer=torch.optim.SGD, rate=0.1, epochs=12)
    assert alarms(w)[0] == "vanishing_gradient"
    assert "a copy with the remedy" in w.findings[0].confirmed
