from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sounding.training.gradients import clip_by_norm, clip_by_percentile, clip_by_value

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
