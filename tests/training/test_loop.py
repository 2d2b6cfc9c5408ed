from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sounding.batches import Batch, Batches
from sounding.errors import DivergedError
from sounding.randomness import draw_seed
from sounding.training.clipping import Clipping
from sounding.training.loop import EpochRecord, Player, Position, StepRecord, train

X = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([1.0, -2.0, 0.5, 0.0])


def regression(*, dropout: float = 0.0, lr: float = 0.05, clip_norm: float = 0.0, schedule=lambda p: 1.0) -> Player:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1), nn.Flatten(0))

    def loss(batch: Batch) -> torch.Tensor:
        return F.mse_loss(network(batch.inputs[0]), batch.target)

    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    return Player("network", network, loss, optimizer, schedule, Clipping(clip_norm) if clip_norm else None)


def data(batch_size: int = 16) -> Batches:
    return Batches((X,), Y, batch_size=batch_size, seed=3, shuffle=True)


def weights(player: Player) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in player.network.parameters()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(x.equal(y) for x, y in zip(a, b, strict=True))


def test_equals_a_loop_written_by_hand_bit_for_bit():
    player = regression(dropout=0.3, clip_norm=0.5, schedule=lambda progress: 1 - progress)
    twin = regression(dropout=0.3)
    records = list(train([player], data(), epochs=3, seed=7))

    losses, steps = [], 0
    for epoch in range(3):
        total = 0.0
        for step, batch in enumerate(data().epoch(epoch)):
            torch.manual_seed(draw_seed(7, epoch, step, "network", "network"))
            for group in twin.optimizer.param_groups:
                group["lr"] = 0.05 * (1 - steps / 12)
            twin.optimizer.zero_grad()
            loss = twin.loss(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(twin.network.parameters(), 0.5)
            twin.optimizer.step()
            total += loss.item() * len(batch.rows)
            steps += 1
        losses.append(total / 50)
    assert same(weights(player), weights(twin))
    assert [record.train_loss for record in records if isinstance(record, EpochRecord)] == losses


def test_records_say_what_happened():
    player = regression(clip_norm=1.0, schedule=lambda progress: 1 - progress)
    records = list(train([player], data(), epochs=2))
    steps = [record for record in records if isinstance(record, StepRecord)]
    epochs = [record for record in records if isinstance(record, EpochRecord)]
    assert [(r.epoch, r.step) for r in steps] == [(e, s) for e in range(2) for s in range(4)]
    assert [r.learning_rate for r in steps] == pytest.approx([0.05 * (1 - k / 8) for k in range(8)])
    assert [r.progress for r in steps] == pytest.approx([k / 8 for k in range(1, 9)])
    assert sorted(torch.cat([r.rows for r in steps[:4]]).tolist()) == list(range(50))
    assert all(math.isfinite(r.gradient_norm) for r in steps)
    assert epochs[0].learning_rate == steps[3].learning_rate
    sizes = [len(r.rows) for r in steps[:4]]
    assert sizes == [16, 16, 16, 2]
    by_hand = sum(r.loss * size for r, size in zip(steps[:4], sizes, strict=True)) / 50
    assert epochs[0].train_loss == pytest.approx(by_hand, abs=1e-12)
    assert epochs[0].train_loss != pytest.approx(sum(r.loss for r in steps[:4]) / 4)  # the small batch counts less


def test_gradient_norm_is_the_one_before_clipping():
    player = regression(clip_norm=1e-3)
    record = next(train([player], data(50), epochs=1))
    norm = torch.cat([p.grad.flatten() for p in player.network.parameters()]).norm()
    assert norm == pytest.approx(1e-3, rel=1e-3)
    assert record.gradient_norm > 0.1
    assert next(train([regression()], data(50), epochs=1)).gradient_norm is None


def epoch_losses(records: list[StepRecord | EpochRecord]) -> list[float]:
    return [record.train_loss for record in records if isinstance(record, EpochRecord)]


@pytest.mark.parametrize("stop", range(1, 15))
def test_going_on_from_any_record_gives_the_same_bits(stop):
    def falling(progress: float) -> float:
        return 1.0 - progress

    straight = regression(dropout=0.5, schedule=falling)
    expected = list(train([straight], data(), epochs=3))
    assert len(expected) == 15

    player, position = regression(dropout=0.5, schedule=falling), Position()
    first = list(itertools.islice(train([player], data(), epochs=3, position=position), stop))
    torch.manual_seed(12345)  # whatever the new process has drawn
    rest = list(train([player], data(), epochs=3, position=copy.deepcopy(position)))
    assert len(first) + len(rest) == 15
    assert same(weights(player), weights(straight))
    assert epoch_losses(first + rest) == epoch_losses(expected)


@pytest.mark.parametrize("every", [2, 3, 100])
def test_reading_rarely_changes_nothing_but_when_records_come(every):
    one, other = regression(dropout=0.5), regression(dropout=0.5)
    often = [r for r in train([one], data(), epochs=2) if isinstance(r, StepRecord)]
    rarely = [r for r in train([other], data(), epochs=2, read_every=every) if isinstance(r, StepRecord)]
    assert same(weights(one), weights(other))
    assert [(r.epoch, r.step, r.loss) for r in often] == [(r.epoch, r.step, r.loss) for r in rarely]


def test_a_loss_that_is_not_finite_stops_before_the_update():
    player = regression(lr=0.02)
    broken = X.clone()
    broken[27] = math.nan  # in the third batch
    before, seen = weights(player), []

    def look() -> None:
        nonlocal before
        for record in train([player], Batches((broken,), Y, batch_size=10), epochs=2):
            seen.append(record)
            if record.step == 1:
                before = weights(player)

    with pytest.raises(DivergedError) as caught:
        look()
    assert str(caught.value) == (
        "the loss became nan in epoch 1, step 3, at a learning rate of 0.02; try a learning rate of 0.002, "
        "and look for infinite or missing numbers in inputs and target"
    )
    assert [record.step for record in seen] == [0, 1, 2]  # the diverged step is shown, too
    assert math.isnan(seen[-1].loss)
    assert same(weights(player), before)


def test_a_gradient_that_is_not_finite_stops_before_the_update():
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    player = Player("root", network, lambda b: network(b.inputs[0]).sqrt().mean(), optimizer, clipping=Clipping(1.0))
    with pytest.raises(DivergedError, match='the gradient norm of "root" became inf'):
        list(train([player], Batches((torch.ones(4, 1),), batch_size=4), epochs=1))
    assert network.weight.item() == 0.0


def test_validation_comes_after_each_epoch_and_its_draws_are_its_own():
    draws = []

    def validate(epoch: int) -> dict[str, float]:
        draws.append(torch.rand(()).item())
        return {"score": float(epoch)}

    records = [r for r in train([regression()], data(), epochs=2, validate=validate) if isinstance(r, EpochRecord)]
    assert [record.validation for record in records] == [{"score": 0.0}, {"score": 1.0}]
    list(train([regression()], data(), epochs=2, validate=validate))
    assert draws[:2] == draws[2:]
    assert draws[0] != draws[1]


def test_two_players_train_in_turn_and_only_themselves():
    torch.manual_seed(0)
    forger, critic = nn.Linear(2, 4), nn.Linear(4, 1)

    def fooled(batch: Batch) -> torch.Tensor:
        return -critic(forger(batch.inputs[1])).mean()

    def caught(batch: Batch) -> torch.Tensor:
        return critic(forger(batch.inputs[1]).detach()).mean() - critic(batch.inputs[0]).mean()

    def players(forger: nn.Module, critic: nn.Module) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(network.parameters(), lr=0.1) for network in (critic, forger)]

    noise = torch.randn(50, 2)
    first, second = players(forger, critic)
    copies = copy.deepcopy((forger, critic))
    team = [Player("critic", critic, caught, first), Player("forger", forger, fooled, second)]
    records = list(train(team, Batches((X, noise), batch_size=25), epochs=2))
    assert [r.player for r in records if isinstance(r, StepRecord)] == ["critic", "forger"] * 4
    assert set(records[-1].losses) == {"critic", "forger"}

    forger2, critic2 = copies
    critic_optimizer, forger_optimizer = players(forger2, critic2)
    for _ in range(2):
        for x, z in zip(X.split(25), noise.split(25), strict=True):
            critic_optimizer.zero_grad()
            (critic2(forger2(z).detach()).mean() - critic2(x).mean()).backward()
            critic_optimizer.step()
            forger_optimizer.zero_grad()
            (-critic2(forger2(z)).mean()).backward()
            forger_optimizer.step()
    assert same(list(forger.parameters()), list(forger2.parameters()))
    assert same(list(critic.parameters()), list(critic2.parameters()))


def test_bfloat16_runs_the_forward_pass_under_autocast():
    seen = []
    network = nn.Linear(4, 1)

    def loss(batch: Batch) -> torch.Tensor:
        outputs = network(batch.inputs[0])
        seen.append(outputs.dtype)
        return outputs.float().square().mean()

    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    list(train([Player("network", network, loss, optimizer)], data(50), epochs=1, precision="bfloat16"))
    assert seen == [torch.bfloat16]
    assert network.weight.dtype == torch.float32
