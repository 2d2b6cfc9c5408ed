from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from sounding.batches import Batch
from sounding.recipe import Recipe
from sounding.training import plan as module
from sounding.training.plan import choose_plan

PICTURES = Batch((torch.rand(8, 3, 8, 8),), torch.zeros(8, dtype=torch.long), None, torch.arange(8))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(), nn.Linear(144, 2)).eval()


def test_leaves_weights_modes_threads_and_the_generator_alone():
    measured = network()
    state = torch.random.get_rng_state()
    threads = torch.get_num_threads()
    choose_plan(measured, F.cross_entropy, PICTURES, threads=(1, 2), seconds=0.02)
    assert torch.random.get_rng_state().equal(state)
    assert torch.get_num_threads() == threads
    assert not any(layer.training for layer in measured)
    assert all(parameter.grad is None for parameter in measured.parameters())
    assert all(a.equal(b) for a, b in zip(measured.state_dict().values(), network().state_dict().values(), strict=True))


def test_the_table_holds_every_candidate_and_its_settings_are_recipe_keys():
    plan = choose_plan(network(), F.cross_entropy, PICTURES, seconds=0.02)
    tried = {(row["precision"], row["channels_last"], row["threads"]) for row in plan.table}
    present = torch.get_num_threads()
    assert tried == {(p, c, present) for p in ("float32", "bfloat16") for c in (False, True)}
    assert all(row["milliseconds"] > 0 for row in plan.table)
    Recipe().with_settings(plan.settings)


def test_layouts_are_tried_for_pictures_only():
    rows = Batch((torch.rand(8, 5),), torch.zeros(8, dtype=torch.long), None, torch.arange(8))
    plan = choose_plan(nn.Linear(5, 2), F.cross_entropy, rows, precisions=(), seconds=0.01)
    assert [(row["precision"], row["channels_last"]) for row in plan.table] == [("float32", False)]


def test_the_fastest_wins_only_if_it_pays(monkeypatch):
    def milliseconds(of: dict[tuple[str, bool], float]):
        def step(n, lo, b, precision, last, *rest):
            return lambda: of[precision, last] / 1e3

        monkeypatch.setattr(module, "_Step", step)
        plan = choose_plan(network(), F.cross_entropy, PICTURES, seconds=0.01)
        return plan.precision, plan.channels_last, [row["milliseconds"] for row in plan.table]

    times = {("float32", False): 10, ("float32", True): 5, ("bfloat16", False): 20, ("bfloat16", True): 4}
    assert milliseconds(times) == ("bfloat16", True, [4, 5, 10, 20])
    close = {("float32", False): 10, ("float32", True): 9.5, ("bfloat16", False): 9.8, ("bfloat16", True): 11}
    assert milliseconds(close)[:2] == ("float32", False)
