"""What is certain by looking: updates, zeroed gradients, modes, shapes, schedules."""

from __future__ import annotations

import pytest
import torch
from programs import alarms, blobs, perceptron, train
from torch import nn
from torch.nn import functional as F

from sounding.watching import watch


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


def held_out() -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    x, y = blobs(384)
    return (x[:256], y[:256]), (x[256:], y[256:])


def test_an_optimizer_of_another_model():
    other = network()
    w = train(network(), blobs(), parameters=lambda model: other.parameters())
    assert alarms(w)[0] == "no_update"
    assert "none of the model's parameters" in w.findings[0].title


def test_a_head_that_was_left_out():
    w = train(network(), blobs(), parameters=lambda model: model[0].parameters())
    assert alarms(w)[0] == "no_update"
    assert w.findings[0].evidence["parameters"] == ["1.weight", "1.bias", "4.weight", "4.bias"]


def test_a_beginning_that_was_left_out_is_a_note():
    w = train(network(), blobs(), parameters=lambda model: model[4].parameters(), epochs=2)
    assert "no_update" not in alarms(w)
    assert [finding.severity for finding in w.findings if finding.rule == "no_update"] == ["info"]


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.encoder(x).relu().detach())


def test_a_part_that_is_cut_off():
    w = train(Detached(), blobs())
    assert alarms(w)[0] == "no_update"
    assert w.findings[0].evidence["parameters"] == ["encoder.weight", "encoder.bias"]


def test_gradients_that_are_lost_before_the_step():
    w = train(network(), blobs(), before_step=lambda model, optimizer: optimizer.zero_grad())
    assert alarms(w)[0] == "no_update"
    assert "gone" in w.findings[0].title


def test_updates_that_are_lost_in_rounding():
    torch.manual_seed(0)
    model = perceptron(8, 16, 3).bfloat16()
    x, y = blobs()
    w = train(model, (x.bfloat16(), y), optimizer=torch.optim.SGD, rate=1e-7)
    assert alarms(w)[0] == "no_update"
    assert "no weight has changed" in w.findings[0].title


def test_a_frozen_backbone_is_as_it_should_be():
    model = network()
    model[0].requires_grad_(False)
    assert "no_update" not in alarms(
        train(model, blobs(), parameters=lambda m: [p for p in m.parameters() if p.requires_grad])
    )


def test_two_optimizers_for_one_model():
    model, (x, y) = perceptron(8, 16, 3), blobs()
    optimizers = [torch.optim.SGD(model[0].parameters(), lr=0.1), torch.optim.SGD(model[2].parameters(), lr=0.1)]
    with watch({"a": model, "b": model}, dict(zip("ab", optimizers, strict=True)), say=None) as w:
        for _ in range(10):
            for optimizer in optimizers:
                optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            for optimizer in optimizers:
                optimizer.step()
    assert alarms(w) == []


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_gradients_that_are_never_zeroed(optimizer):
    w = train(network(), blobs(), optimizer=optimizer, zero_grad=False)
    assert alarms(w)[0] == "zero_grad_missing"
    assert w.findings[0].evidence["step"] <= 4


def test_validation_in_training_mode():
    data, validation = held_out()
    w = train(network(), data, validation=validation, evaluate=False)
    assert alarms(w)[0] == "eval_mode_forgotten"
    assert w.findings[0].evidence["modules"] == ["1", "3"]


def test_a_network_that_knows_no_modes_needs_none():
    data, validation = held_out()
    torch.manual_seed(0)
    assert "eval_mode_forgotten" not in alarms(train(perceptron(8, 16, 3), data, validation=validation, evaluate=False))


def test_training_in_evaluation_mode():
    data, validation = held_out()
    w = train(network(), data, validation=validation, restore=False)
    assert "train_mode_not_restored" in alarms(w)


def test_frozen_batch_norms_are_as_they_should_be():
    class Frozen(nn.Sequential):
        def train(self, mode: bool = True):
            super().train(mode)
            self[1].eval()
            return self

    w = train(Frozen(*network()), blobs())
    assert "train_mode_not_restored" not in alarms(w)


def regression() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
    return x, x[:, 0] - x[:, 1]


@pytest.mark.parametrize(
    "loss",
    [lambda out, y: (out - y).square().mean(), lambda out, y: (y - out).abs().mean()],
    ids=["square", "absolute"],
)
def test_every_output_is_compared_with_every_target(loss):
    torch.manual_seed(0)
    w = train(perceptron(8, 16, 1), regression(), loss=loss)
    assert alarms(w)[0] == "shape_broadcast"
    assert w.findings[0].evidence["outputs"] == [32, 1]


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_the_same_in_pytorchs_own_loss():
    torch.manual_seed(0)
    assert alarms(train(perceptron(8, 16, 1), regression(), loss=F.mse_loss))[0] == "shape_broadcast"


def test_outputs_and_targets_of_one_shape():
    x, y = regression()
    torch.manual_seed(0)
    assert "shape_broadcast" not in alarms(train(perceptron(8, 16, 1), (x, y[:, None]), loss=F.mse_loss))


def test_a_schedule_that_advances_with_every_batch():
    w = train(
        network(), blobs(), optimizer=torch.optim.SGD, rate=0.05, epochs=20,
        scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7),
    )  # fmt: skip
    assert alarms(w)[0] == "scheduler_per_step"


def test_a_schedule_that_ends_with_the_run():
    w = train(
        network(), blobs(), optimizer=torch.optim.SGD, rate=0.1, epochs=10,
        scheduler=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 80),
    )  # fmt: skip
    assert alarms(w) == []


def test_a_beginning_that_was_left_out_is_a_fault_where_the_rest_learns_nothing():
    def deaf() -> nn.Module:
        torch.manual_seed(0)
        model = perceptron(8, 32, 32, 3)
        with torch.no_grad():
            for parameter in list(model.parameters())[:4]:
                parameter.mul_(1e-3)
        return model

    w = train(deaf(), blobs(), parameters=lambda model: model[4].parameters(), epochs=12)
    (finding,) = [finding for finding in w.findings if finding.rule == "no_update"]
    assert finding.severity == "warning"
    assert "a copy with the remedy" in finding.confirmed


def test_a_loss_that_is_computed_from_copies_of_the_weights_is_out_of_the_graph():
    torch.manual_seed(0)
    model, (x, y) = perceptron(8, 32, 3), blobs()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scale = torch.ones((), requires_grad=True)
    with watch(model, optimizer, say=None) as w:
        for _ in range(8):
            optimizer.zero_grad()
            weights = [parameter.detach().clone() for parameter in model.parameters()]
            hidden = F.relu(F.linear(x, weights[0], weights[1]))
            (scale * F.cross_entropy(F.linear(hidden, weights[2], weights[3]), y)).backward()
            optimizer.step()
    assert (w.findings[0].rule, w.findings[0].severity) == ("no_update", "error")
    assert "no gradient reaches any parameter" in w.findings[0].title


def test_where_nothing_can_be_tried_a_beginning_that_was_left_out_stays_a_note():
    model, (x, _) = perceptron(8, 16, 3), blobs(64)
    y = torch.arange(64) % 3
    optimizer = torch.optim.LBFGS(model[-1].parameters(), lr=1e-4, max_iter=1)  # steps on the closures of the user

    def closure():
        model.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    with watch(model, optimizer, say=None) as w:
        for _ in range(70):
            optimizer.step(closure)
    (finding,) = [finding for finding in w.findings if finding.rule == "no_update"]
    assert finding.severity == "info"
    assert finding.evidence["step"] == 70


def test_gradients_that_no_backward_pass_shows_are_none_that_are_missing():
    model, (x, y) = perceptron(8, 16, 3), blobs(64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, say=None) as w:
        for _ in range(10):
            loss = F.cross_entropy(model(x), y)
            for parameter, gradient in zip(
                model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
            ):
                parameter.grad = gradient
            w.loss(loss)
            optimizer.step()
    assert "no_update" not in alarms(w)


def test_sparse_gradients_are_gradients():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(50, 4, sparse=True), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, say=None) as w:
        for _ in range(10):
            words = torch.randint(50, (16,))
            optimizer.zero_grad()
            F.cross_entropy(model(words), words % 2).backward()
            expected = model[0].weight.grad.to_dense().norm().item()
            optimizer.step()
            w_step = w.players["model"].last
            if w_step.number == w.players["model"].done - 1:
                assert w_step.gradients["0.weight"] == pytest.approx(expected)
    assert "no_update" not in alarms(w)
