from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from sounding.networks import (
    Autoencoder,
    VariationalAutoencoder,
    convolutional_autoencoder,
    convolutional_variational_autoencoder,
    picture_autoencoder,
    reconstruction_errors,
    table_autoencoder,
    table_variational_autoencoder,
)

NO_CATEGORIES = torch.zeros(400, 0, dtype=torch.int64)


def trained(network: nn.Module, inputs: tuple[Tensor, ...], steps: int, cardinalities: tuple[int, ...] = ()) -> float:
    """The mean error in evaluation after some steps on all rows."""
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for _ in range(steps):
        values, _, penalty = network(*inputs)
        loss = reconstruction_errors(values, inputs, cardinalities).mean() + penalty.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        return reconstruction_errors(network(*inputs).values, inputs, cardinalities).mean().item()


def rows_on_a_plane(count: int = 400, noise: float = 0.1) -> Tensor:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(count, 2)) * [3.0, 1.0] @ draw.normal(size=(2, 8)) + noise * draw.normal(size=(count, 8))
    return torch.from_numpy(rows).float()


def test_errors_are_those_of_numpy_and_scikit_learn() -> None:
    from sklearn.metrics import log_loss

    torch.manual_seed(0)
    numbers, categories = torch.randn(5, 2), torch.tensor([[0, 3], [1, 0], [2, 2], [0, 1], [1, 1]])
    values = torch.randn(5, 2 + 3 + 4)
    errors = reconstruction_errors(values, (numbers, categories.int()), (3, 4))
    assert errors.shape == (5, 4)
    np.testing.assert_allclose(errors[:, :2], (values[:, :2] - numbers).numpy() ** 2, rtol=1e-6)
    for column, (low, high) in enumerate([(2, 5), (5, 9)]):
        probabilities = values[:, low:high].double().softmax(1).numpy()
        expected = log_loss(categories[:, column], probabilities, labels=range(high - low))
        np.testing.assert_allclose(errors[:, 2 + column].mean(), expected, rtol=1e-6)


def test_errors_of_pictures_are_those_of_their_pixels() -> None:
    values, pictures = torch.randn(2, 3, 2, 4, 5)
    torch.testing.assert_close(reconstruction_errors(values, (pictures,)), ((values - pictures) ** 2).reshape(3, -1))


def test_without_hidden_layers_it_finds_what_principal_components_find() -> None:
    """Baldi and Hornik 1989: the best linear autoencoder spans the first principal components."""
    rows = rows_on_a_plane()
    torch.manual_seed(0)
    network = table_autoencoder(8, [], 2, hidden_sizes=[])
    assert sum(parameter.numel() for parameter in network.parameters()) == (8 + 1) * 2 + (2 + 1) * 8
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        error = reconstruction_errors(network(rows, NO_CATEGORIES).values, (rows, NO_CATEGORIES)).mean()
        error.backward()
        return error

    optimizer.step(loss)
    error = loss().item()
    oracle = PCA(2).fit(rows.numpy())
    expected = np.square(oracle.inverse_transform(oracle.transform(rows.numpy())) - rows.numpy()).mean()
    assert expected <= error < 1.01 * expected


def test_hidden_layers_follow_a_curve() -> None:
    """Points on a circle: one number tells them, but not to a linear map."""
    angles = torch.linspace(0.3, 2 * math.pi - 0.3, 400)[:, None]
    rows = torch.cat([angles.cos(), angles.sin()], 1)
    errors = {}
    for sizes in ((), (32, 32)):
        torch.manual_seed(0)
        errors[sizes] = trained(table_autoencoder(2, [], 1, hidden_sizes=sizes), (rows, NO_CATEGORIES), 200)
    assert errors[32, 32] < 0.2 * errors[()]


def test_categories_are_told_from_the_code() -> None:
    torch.manual_seed(0)
    categories = torch.randint(3, (400, 1)).expand(-1, 2)  # one tells the other
    numbers = torch.randn(400, 0)
    error = trained(table_autoencoder(0, [3, 3], 1, hidden_sizes=[16]), (numbers, categories), 120, (3, 3))
    assert error < 0.1  # of log(3) = 1.1


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (8, 8), (28, 28), (33, 47), (64, 66), (70, 130)])
@pytest.mark.parametrize("build", [convolutional_autoencoder, convolutional_variational_autoencoder])
def test_pictures_of_any_size_come_back_in_their_size(build: type[nn.Module], size: tuple[int, int]) -> None:
    network = build(3, 5, picture_size=size, hidden_sizes=[4, 4, 4]).eval()
    pictures = torch.randn(2, 3, *size)
    values, code, _ = network(pictures)
    assert values.shape == pictures.shape
    assert torch.equal(network.decode(code), values)
    assert torch.equal(network.encode(pictures), code)


def test_large_pictures_are_made_small_at_once() -> None:
    network = convolutional_autoencoder(1, 2, picture_size=(200, 150), hidden_sizes=[4, 4]).eval()
    seen = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, inputs, output: seen.append(min(output.shape[2:])))
    network(torch.zeros(1, 1, 200, 150))
    assert max(seen) == 19  # 150 / 8: no convolution gives more than 32 pixels on the shorter side


def test_a_sparse_code_keeps_its_largest_entries() -> None:
    torch.manual_seed(0)
    dense = Autoencoder(nn.Linear(6, 5), nn.Linear(5, 6), 5)
    sparse = Autoencoder(dense.encoder, dense.head, 5, nonzero=2)
    rows = torch.randn(7, 6)
    full, code = dense.encode(rows), sparse.encode(rows)
    for whole, kept in zip(full.tolist(), code.tolist(), strict=True):
        largest = sorted(whole, key=abs)[-2:]
        assert kept == [value if value in largest else 0.0 for value in whole]
    assert torch.equal(sparse(rows).code, code)
    with pytest.raises(ValueError, match="nonzero is 6"):
        Autoencoder(nn.Linear(6, 5), nn.Linear(5, 6), 5, nonzero=6)


class Seen(nn.Module):
    """Remembers what it was shown."""

    def forward(self, *inputs: Tensor) -> Tensor:
        self.inputs = inputs
        return inputs[0]


def test_only_while_training_inputs_are_noisy_and_masked() -> None:
    torch.manual_seed(0)
    numbers, categories = torch.ones(4000, 5), torch.full((4000, 2), 3)
    seen = Seen()
    network = Autoencoder(seen, nn.Identity(), 5, noise=0.5, masked=0.25)
    network.eval()(numbers, categories)
    assert torch.equal(seen.inputs[0], numbers)
    assert torch.equal(seen.inputs[1], categories)
    network.train()(numbers, categories)
    noisy, hidden = seen.inputs
    shown = noisy[noisy != 0]
    assert abs(len(shown) / noisy.numel() - 0.75) < 0.01
    assert abs(shown.mean() - 1.0) < 0.02
    assert abs(shown.std() - 0.5) < 0.02
    assert set(hidden.unique().tolist()) == {0, 3}
    assert abs((hidden == 0).float().mean() - 0.25) < 0.02
    assert torch.equal(network.encode(numbers, categories), numbers)  # what is asked for is not changed


def gaussian(encoded: Tensor, **options: float) -> VariationalAutoencoder:
    """A variational autoencoder whose encoder always says the same: means and logarithms of variances (B, 2 k)."""
    code_size = encoded.shape[1] // 2
    network = VariationalAutoencoder(Seen(), nn.Linear(code_size, 6), code_size, **{"warmup": 0, **options})
    network.encoder.forward = lambda rows: encoded  # type: ignore[method-assign]
    return network


def test_the_penalty_is_the_divergence_in_units_of_the_error() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(2, 7, 3)
    network = gaussian(torch.cat([mean, log_variance], 1), beta=2.5).eval()
    network.error.fill_(0.3)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    divergence = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(1)
    values, code, penalty = network(torch.randn(7, 6))
    torch.testing.assert_close(penalty, 2.5 * 2 * 0.3 / 6 * divergence)
    assert torch.equal(code, mean)
    assert torch.equal(values, network.decode(mean))


def test_the_gradient_is_that_of_the_evidence_bound_with_the_best_variance() -> None:
    """-log N(x; values, v) + divergence with v = mean error, by autograd, against the mean error plus the penalty."""
    torch.manual_seed(0)
    rows = torch.randn(50, 6)
    network = VariationalAutoencoder(nn.Linear(6, 4), nn.Linear(2, 6), 2, warmup=0).double().train()
    rows = rows.double()
    with torch.no_grad():
        network.error.copy_(reconstruction_errors(_same_draw(network, rows)[0], (rows,)).mean())
    best = network.error.item()

    values, mean, log_variance = _same_draw(network, rows)
    likelihood = torch.distributions.Normal(values, math.sqrt(best)).log_prob(rows).sum(1)
    divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
    expected = torch.autograd.grad((divergence - likelihood).mean() * 2 * best / 6, list(network.parameters()))

    torch.manual_seed(1)
    values, _, penalty = network(rows)
    loss = reconstruction_errors(values, (rows,)).mean() + penalty.mean()
    for ours, theirs in zip(torch.autograd.grad(loss, list(network.parameters())), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def _same_draw(network: VariationalAutoencoder, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    mean, log_variance = network.posterior(rows)
    return network.decode(mean + (log_variance / 2).exp() * torch.randn_like(mean)), mean, log_variance


def test_the_error_is_a_running_mean_over_training_passes() -> None:
    torch.manual_seed(0)
    network = VariationalAutoencoder(nn.Linear(6, 4), nn.Linear(2, 6), 2)
    expected = 1.0
    for _ in range(5):
        rows = torch.randn(9, 6)
        values = network.train()(rows).values
        expected = 0.99 * expected + 0.01 * (values - rows).square().mean().item()
        network.eval()(rows)
    assert network.error.item() == pytest.approx(expected)
    assert network.passes.item() == 5


def test_the_divergence_warms_up_with_training_passes_and_goes_on_after_a_restart() -> None:
    torch.manual_seed(0)
    encoded = torch.randn(7, 6)
    network = gaussian(encoded, warmup=4)
    rows = torch.randn(7, 6)
    ratios = []
    for step in range(6):
        if step == 2:
            after = gaussian(encoded, warmup=4)
            after.load_state_dict(network.state_dict())
            network = after
        whole = network.eval()(rows).penalty
        ratios.append((network.train()(rows).penalty / whole).mean().item())
    assert ratios == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])


def test_free_bits_cost_nothing() -> None:
    encoded = torch.tensor([[0.1, 2.0, 0.0, 0.0], [0.1, 0.2, 0.0, 0.0]])  # divergences .005, 2; .005, .02
    network = gaussian(encoded, free_bits=0.5).eval()
    torch.testing.assert_close(network(torch.zeros(2, 6)).penalty, torch.tensor([2.5, 1.0]) * 2 / 6)


def test_draws_are_the_generators() -> None:
    network = table_variational_autoencoder(3, [4], 2, hidden_sizes=[8]).eval()
    torch.manual_seed(0)
    first = network.sample(5, torch.Generator().manual_seed(7))
    torch.manual_seed(1)
    assert torch.equal(network.sample(5, torch.Generator().manual_seed(7)), first)
    assert not torch.equal(network.sample(5, torch.Generator().manual_seed(8)), first)
    assert first.shape == (5, 3 + 4)


def test_it_uses_as_many_entries_as_help_and_draws_rows_like_those_it_saw() -> None:
    """Rows on a plane in 8 dimensions, with little noise: two of four entries say it all, the others stay standard."""
    rows = rows_on_a_plane()
    rows = rows / rows.std()
    torch.manual_seed(0)
    network = table_variational_autoencoder(8, [], 4, hidden_sizes=[32], warmup=100)
    trained(network, (rows, NO_CATEGORIES), 350)
    with torch.no_grad():
        spread = network.encode(rows, NO_CATEGORIES).var(0)
        drawn = network.sample(4000, torch.Generator().manual_seed(0))
    assert sorted((spread > 0.01).tolist()) == [False, False, True, True]
    torch.testing.assert_close(torch.cov(drawn.T), torch.cov(rows.T), atol=0.4, rtol=0.0)


def test_a_picture_is_learnt_through_convolutions() -> None:
    """A bright square anywhere: two numbers tell it."""
    places = torch.cartesian_prod(torch.arange(6), torch.arange(6))
    pictures = torch.zeros(36, 1, 8, 8)
    for picture, (down, right) in zip(pictures, places, strict=True):
        picture[0, down : down + 3, right : right + 3] = 1.0
    pictures = (pictures - pictures.mean()) / pictures.std()
    torch.manual_seed(0)
    error = trained(convolutional_autoencoder(1, 2, picture_size=(8, 8), hidden_sizes=[8, 16]), (pictures,), 100)
    oracle = PCA(2).fit(pictures.flatten(1).numpy())
    linear = np.square(
        oracle.inverse_transform(oracle.transform(pictures.flatten(1).numpy())) - pictures.flatten(1).numpy()
    )
    assert error < linear.mean() / 2


def test_dense_pictures_are_rows_of_pixels() -> None:
    torch.manual_seed(0)
    network = picture_autoencoder(2, 3, picture_size=(4, 5), hidden_sizes=[]).eval()
    pictures = torch.randn(6, 2, 4, 5)
    encoder, decoder = (layer for layer in network.modules() if isinstance(layer, nn.Linear))
    code = pictures.flatten(1) @ encoder.weight.T + encoder.bias
    torch.testing.assert_close(network(pictures).code, code)
    torch.testing.assert_close(network(pictures).values.flatten(1), code @ decoder.weight.T + decoder.bias)
