from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sounding.networks import (
    LESSONS,
    NETWORKS,
    MaskedColumns,
    MaskedPatches,
    PictureFeedForward,
    ResNet,
    TabularEnsemble,
    TabularFeedForward,
    TwoViews,
    nt_xent,
)

SIZE = (9, 10)
CASES = [
    (form, method, name)
    for form, lessons in LESSONS.items()
    for method in lessons
    for name, family in NETWORKS.items()
    if family.takes == form and family.answers == "logits" and name not in ("resnet18", "resnet34", "resnet50")
]


def lesson(form: str, method: str, name: str) -> nn.Module:
    torch.manual_seed(0)
    build: Any = LESSONS[form][method]
    if form == "table":
        encoder = NETWORKS[name].build(3, [4, 2], 5, hidden_sizes=[16, 16])
        return build(encoder, 3, [4, 2])
    encoder = NETWORKS[name].build(
        2, 5, picture_size=SIZE, hidden_sizes=[8, 8], **({"depths": [1, 1]} if name == "resnet" else {})
    )
    return build(encoder, **({} if method == "contrastive" else {"in_channels": 2, "picture_size": SIZE}))


def inputs(form: str, rows: int = 12) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(1)
    if form == "table":
        numbers = torch.randn(rows, 3, generator=draw)
        return numbers, torch.stack([torch.randint(4, (rows,), generator=draw), (numbers[:, 0] > 0).long()], 1)
    return (torch.randn(rows, 2, *SIZE, generator=draw),)


@pytest.mark.parametrize(("form", "method", "name"), CASES)
def test_a_lesson_teaches_every_encoder_and_answers_row_by_row(form: str, method: str, name: str) -> None:
    network, given = lesson(form, method, name), inputs(form)
    outcome = network.train()(*given)
    assert [part.shape[0] for part in outcome] == [12] * 3
    assert outcome.loss.ndim == outcome.naive.ndim == 1
    outcome.loss.mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())

    network.eval()  # what is drawn in evaluation is always the same, and features are those of the row as it is
    first, second = network(*given), network(*given)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    features = network.encoder.forward_features(*given)
    torch.testing.assert_close(first.features, features.mean(1) if hasattr(network.encoder, "members") else features)
    network.train()
    torch.manual_seed(3)
    one = network(*given).loss
    torch.manual_seed(3)
    again = network(*given).loss
    torch.testing.assert_close(one, again)
    assert not torch.equal(one, network(*given).loss)
    network.eval()(*(part[:1] for part in given))  # a row alone


def test_what_two_views_cost_is_what_the_paper_says() -> None:
    first, second = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)).double()
    every, expected = [*first, *second], []
    for i in range(5):
        both = []
        for one, other in ((i, i + 5), (i + 5, i)):
            like = [math.exp(F.cosine_similarity(every[one], every[k], dim=0).item() / 0.3) for k in range(10)]
            both.append(-math.log(like[other] / sum(like[k] for k in range(10) if k != one)))
        expected.append(sum(both) / 2)
    torch.testing.assert_close(nt_xent(first, second, temperature=0.3), torch.tensor(expected).double())


class Seeing(nn.Module):
    """An encoder that remembers what it saw, and answers with what it was told."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features, self.head = num_features, nn.Identity()
        self.scale = nn.Parameter(torch.ones(1))

    def forward_features(self, *inputs: torch.Tensor) -> torch.Tensor:
        self.seen = inputs
        return self.scale * torch.cat([part.flatten(1).float() for part in inputs], 1)


def test_hidden_cells_come_from_other_rows_and_only_they_count() -> None:
    encoder = Seeing(4)
    network = MaskedColumns(encoder, 2, [3, 2], masked=0.4)
    numbers = torch.arange(40.0).view(20, 2)
    categories = torch.stack([torch.arange(20) % 3, torch.arange(20) % 2], 1)
    outcome = network(numbers, categories)
    seen, codes = encoder.seen
    assert all(set(seen[:, at].tolist()) <= set(numbers[:, at].tolist()) for at in (0, 1))
    changed = torch.cat([seen != numbers, codes != categories], 1)
    assert changed.any()
    assert not changed.all()

    # an answer that is right about every cell costs nothing: only what a linear layer cannot know
    with torch.no_grad():
        guessed = network.decoder(encoder.forward_features(seen, codes))
    errors = torch.cat(
        [
            (guessed[:, :2] - numbers).square(),
            F.cross_entropy(guessed[:, 2:5], categories[:, 0], reduction="none")[:, None],
            F.cross_entropy(guessed[:, 5:], categories[:, 1], reduction="none")[:, None],
        ],
        1,
    )
    low, high = errors.min(1).values, errors.max(1).values
    assert ((outcome.loss >= low - 1e-3) & (outcome.loss <= high + 1e-3)).all()
    alone = (changed.sum(1) == 1).nonzero().flatten()
    exact = [row for row in alone.tolist() if torch.isclose(errors[row][changed[row]][0], outcome.loss[row], rtol=1e-4)]
    assert exact  # rows in which nothing was exchanged for the same value


def _after_masks(rows: int, columns: int) -> torch.Generator:
    """The generator of evaluation, after the draws of which cells are exchanged, and for which others."""
    generator = torch.Generator().manual_seed(0)
    torch.rand(rows, columns, generator=generator)
    torch.randint(rows, (rows, columns), generator=generator)
    return generator


def test_noise_is_added_to_numbers_and_every_cell_is_told() -> None:
    encoder = Seeing(2)
    network = MaskedColumns(encoder, 2, [], masked=0.0, noise=0.1).eval()
    numbers, none = torch.zeros(500, 2), torch.zeros(500, 0, dtype=torch.int64)
    outcome = network(numbers, none)
    network.train()(numbers, none)
    assert encoder.seen[0].std().item() == pytest.approx(0.1, rel=0.1)
    assert outcome.naive.tolist() == [0.0] * 500
    with torch.no_grad():  # in evaluation the noise is always the same
        noise = torch.randn(500, 2, generator=_after_masks(500, 2))
        expected = network.decoder(torch.cat([0.1 * noise, none], 1)).square().mean(1)
    torch.testing.assert_close(outcome.loss, expected)


def test_squares_are_hidden_and_painted_in_their_place() -> None:
    network = MaskedPatches(ResNet(1, 1, picture_size=(16, 16)), 1, picture_size=(16, 16), masked=0.5, patch=4)
    hidden = network._hidden(3, 16, 16, None)
    assert hidden.shape == (3, 1, 16, 16)
    assert hidden.sum((1, 2, 3)).tolist() == [8 * 16] * 3
    squares = hidden.view(3, 4, 4, 4, 4).transpose(2, 3).flatten(3)
    assert (squares.all(3) | ~squares.any(3)).all()
    assert network.stride == 8  # the encoder halves a picture of 16 pixels three times

    # painting what was there costs nothing, whatever is painted elsewhere
    encoder = Seeing(16 * 16)
    network = MaskedPatches(encoder, 1, picture_size=(16, 16), masked=0.5, patch=4).eval()
    pictures = torch.randn(3, 1, 16, 16)
    hidden = network._hidden(3, 16, 16, network._generator())
    network.decoder = nn.Identity()
    loss = network(pictures).loss  # an encoder that gives back what it saw: zeros where it was hidden
    expected = torch.stack([(p[h] ** 2).mean() for p, h in zip(pictures, hidden, strict=True)])
    torch.testing.assert_close(loss, expected)


def test_views_show_the_same_picture_and_differ() -> None:
    network = TwoViews(PictureFeedForward(1, 1, picture_size=(12, 12)), crop=1.0, turn=0.0, colour=0.0)
    pictures = torch.randn(4, 1, 12, 12)
    torch.testing.assert_close(network.view(pictures), pictures)  # nothing is varied
    varied = TwoViews(PictureFeedForward(1, 1, picture_size=(12, 12)))
    assert not torch.allclose(varied.view(pictures), varied.view(pictures))
    mirrored = TwoViews(PictureFeedForward(1, 1, picture_size=(12, 12)), crop=1.0, turn=0.0, colour=0.0, flip=True)
    views = mirrored.view(pictures.repeat(20, 1, 1, 1))
    flipped = [
        torch.allclose(view, picture.flip(2), atol=1e-5)
        for view, picture in zip(views, pictures.repeat(20, 1, 1, 1), strict=True)
    ]
    assert 20 < sum(flipped) < 60


def test_an_encoder_learns_what_columns_have_in_common() -> None:
    torch.manual_seed(0)
    base = torch.randn(400, 1)
    numbers = torch.cat([base, base + 0.1 * torch.randn(400, 1), -base], 1)
    categories = (base > 0).long()
    network = MaskedColumns(TabularFeedForward(3, [2], 1, hidden_sizes=[32], dropout=0.0), 3, [2])
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        network(numbers, categories).loss.mean().backward()
        optimizer.step()
    outcome = network.eval()(numbers, categories)
    assert outcome.loss.mean() < 0.4 * outcome.naive.mean()


@pytest.mark.parametrize(
    "build",
    [
        lambda: MaskedColumns(TabularEnsemble(1, [], 1), 1, [], masked=0.0),
        lambda: MaskedColumns(TabularFeedForward(0, [3], 1), 0, [3], masked=0.0, noise=0.1),
        lambda: MaskedPatches(ResNet(1, 1, picture_size=(8, 8)), 1, picture_size=(8, 8), masked=1.0),
        lambda: TwoViews(ResNet(1, 1, picture_size=(8, 8)), temperature=0.0),
    ],
)
def test_options_that_mean_nothing_are_refused(build: Any) -> None:
    with pytest.raises(ValueError, match="give"):
        build()
