"""What every task with a target promises, over every member of the registry."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from sounding.tasks import TASKS, Predictions, arrange, build_network, choose_task

TARGETS = {"classification": ["three"], "regression": ["amount"], "multilabel": ["wet", "cold"]}
"""For each task a target of the table that it fits; a new task adds its own."""
OWN = {"transcription", "translation", "detection", "segmentation"}
"""Tasks that need other inputs than a table; their own test files hold what is promised here."""


@pytest.fixture(params=sorted(name for name, task in TASKS.items() if task.needs_target and name not in OWN))
def case(request: pytest.FixtureRequest, make_case: Any, columns: Any) -> Any:
    every, target = columns(), TARGETS[request.param]
    wanted = {name: cells for name, cells in every.items() if name in ("x", "colour", *target)}
    return make_case(wanted, target)


def outputs_for(case: Any, members: int = 0) -> torch.Tensor:
    torch.manual_seed(0)
    shape = (len(case.table), members, case.task.outputs) if members else (len(case.table), case.task.outputs)
    return torch.randn(shape)


def test_it_is_chosen_for_its_target(case: Any) -> None:
    name, why = choose_task(case.schema)
    assert TASKS[name] is type(case.task)
    assert case.task.name == name
    assert why


def test_only_one_task_claims_a_target(case: Any) -> None:
    assert sum(task.claims(case.schema) is not None for task in TASKS.values() if task.needs_target) == 1


def test_the_truth_survives_the_tensor(case: Any) -> None:
    assert len(case.truth) == len(case.table)
    back = case.task.from_tensor(case.task.to_tensor(case.truth))
    np.testing.assert_allclose(back, case.truth, rtol=1e-5)


def test_loss_of_an_ensemble_is_the_mean_of_its_members(case: Any) -> None:
    target, outputs = case.task.to_tensor(case.truth), outputs_for(case, members=4)
    each = [case.task.loss(outputs[:, member], target) for member in range(4)]
    torch.testing.assert_close(case.task.loss(outputs, target), torch.stack(each).mean())


def test_loss_follows_the_weights(case: Any) -> None:
    target, outputs = case.task.to_tensor(case.truth), outputs_for(case)
    weight = torch.zeros(len(target))
    weight[:10] = len(target) / 10  # of mean 1
    torch.testing.assert_close(case.task.loss(outputs, target, weight), case.task.loss(outputs[:10], target[:10]))
    ones = torch.ones(len(target))
    torch.testing.assert_close(case.task.loss(outputs, target, ones), case.task.loss(outputs, target))


def test_loss_has_a_gradient_in_every_output(case: Any) -> None:
    outputs = outputs_for(case).requires_grad_()
    case.task.loss(outputs, case.task.to_tensor(case.truth)).backward()
    assert outputs.grad is not None
    assert (outputs.grad != 0).all()


def test_decoding_averages_members_and_keeps_rows_apart(case: Any) -> None:
    outputs = outputs_for(case, members=3)
    predictions = case.task.decode(outputs)
    assert len(predictions) == len(case.table)
    assert predictions.values.dtype == np.float64
    mean = np.mean([case.task.decode(outputs[:, member]).values for member in range(3)], axis=0)
    np.testing.assert_allclose(predictions.values, mean, rtol=1e-12)
    np.testing.assert_array_equal(case.task.decode(outputs[5:6]).values, predictions.values[5:6])


def test_metrics_hold_headline_and_monitor(case: Any) -> None:
    predictions = case.task.decode(outputs_for(case))
    metrics = case.task.metrics(predictions, case.truth)
    assert {case.task.headline, case.task.monitor} <= set(metrics)
    assert all(isinstance(value, float) and np.isfinite(value) for value in metrics.values())
    watched = case.task.validation_metrics(outputs_for(case), case.task.to_tensor(case.truth))
    assert {case.task.headline, case.task.monitor, *case.task.watched} == set(watched)
    assert watched == pytest.approx({name: metrics[name] for name in watched}, rel=1e-5)


def test_intervals_hold_their_metric(case: Any) -> None:
    predictions = case.task.decode(outputs_for(case))
    metrics = case.task.metrics(predictions, case.truth)
    intervals = case.task.intervals(predictions, case.truth, samples=200, seed=0)
    assert set(intervals) == set(metrics)
    for name in ("calibration_error", "r2", "rmse"):  # not linear in the rows, so their bootstrap is biased
        intervals.pop(name, None)
    for name, (low, high) in intervals.items():
        assert low <= metrics[name] <= high, name


def test_training_lowers_the_loss_and_helps_the_headline(case: Any) -> None:
    torch.manual_seed(0)
    options = {"members": 4, "hidden_sizes": [32], "dropout": 0.0}
    recipe = case.recipe.with_settings({"network.options": options}).network
    network = build_network(case.schema.blocks(), case.task.outputs, recipe)
    inputs, target = arrange(case.encoded.blocks), case.task.to_tensor(case.truth)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)

    def headline() -> float:
        with torch.no_grad():
            value = case.task.metrics(case.task.decode(network(*inputs)), case.truth)[case.task.headline]
        return value if case.task.higher_is_better else -value

    before, losses = headline(), []
    for _ in range(40):
        loss = case.task.loss(network(*inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    assert headline() > before


def test_columns_figures_and_examples_are_plain(case: Any) -> None:
    predictions = case.task.decode(outputs_for(case))
    for column in case.task.to_columns(predictions).values():
        assert column.shape == (len(case.table),)
    rows, losses = case.task.worst(predictions, case.truth, 5)
    assert np.all(np.diff(losses) <= 0)
    assert losses[0] == case.task.row_losses(predictions, case.truth).max()
    examples = case.task.examples(predictions, case.truth, rows)
    assert [set(example) for example in examples] == [{"truth", "prediction", "confidence"}] * 5
    json.dumps([examples, case.task.figures(predictions, case.truth)], allow_nan=False)


def test_no_rows_are_no_fault(case: Any) -> None:
    nothing = Predictions(case.task.decode(outputs_for(case)).values[:0])
    assert case.task.metrics(nothing, case.truth[:0]) == {}
    assert case.task.intervals(nothing, case.truth[:0], samples=10, seed=0) == {}
    json.dumps(case.task.figures(nothing, case.truth[:0]), allow_nan=False)


def test_knowing_the_training_rows_changes_a_copy(case: Any) -> None:
    before = vars(case.task).copy()
    case.task.knowing(case.truth[:50])
    assert vars(case.task) == before
