"""Networks that read a sequence and write another, and how sequences are searched for with them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from sounding.networks import NETWORKS, Seq2SeqRecurrent, Seq2SeqTransformer
from sounding.networks.decoding import BEGIN, END, State, beam_search, greedy, length_penalty

CODES, LENGTHS = 20, (7, 4, 1, 6)

SMALL: dict[str, dict[str, Any]] = {
    "seq2seq_transformer": {"hidden_size": 32, "encoder_depth": 2, "decoder_depth": 2},
    "seq2seq_recurrent": {"embedding_size": 16, "hidden_size": 16, "attention_size": 8},
    "lstm": {"embedding_size": 16, "hidden_size": 16, "attention_size": 8, "cell": "lstm"},
}


def make(name: str, seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    build = NETWORKS[{"lstm": "seq2seq_recurrent"}.get(name, name)].build
    return build(CODES, CODES, **{**SMALL[name], **options})


@pytest.fixture(params=sorted(SMALL))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def network(name: str) -> Any:
    return make(name).eval()


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    source = torch.randint(3, CODES, (len(LENGTHS), max(LENGTHS)))
    source[torch.arange(max(LENGTHS)) >= torch.tensor(LENGTHS)[:, None]] = 0
    written = torch.randint(3, CODES, (len(LENGTHS), 5))
    written[:, 0] = BEGIN
    return source, written


def test_every_such_network_is_tested_here() -> None:
    assert {name for name, family in NETWORKS.items() if family.answers == "next_codes"} == set(SMALL) - {"lstm"}


def test_the_head_of_the_features_is_the_output(network: Any, pair: tuple[Tensor, Tensor]) -> None:
    features = network.forward_features(*pair)
    assert features.shape == (*pair[1].shape, network.num_features)
    assert torch.equal(network.head(features), network(*pair))
    assert network(*pair).shape == (*pair[1].shape, CODES)


def test_padding_of_the_source_changes_nothing(network: Any, pair: tuple[Tensor, Tensor]) -> None:
    source, written = pair
    expected = network(source, written)
    torch.testing.assert_close(network(nn.functional.pad(source, (0, 4)), written), expected)
    for row, length in enumerate(LENGTHS):
        alone = network(source[row : row + 1, :length], written[row : row + 1])
        torch.testing.assert_close(alone, expected[row : row + 1], rtol=1e-4, atol=1e-5)


def test_no_place_sees_what_is_written_after_it(network: Any, pair: tuple[Tensor, Tensor]) -> None:
    source, written = pair
    other = written.clone()
    other[:, 3:] = 5
    torch.testing.assert_close(network(source, other)[:, :3], network(source, written)[:, :3])
    assert not torch.allclose(network(source, other)[:, 3:], network(source, written)[:, 3:])


def test_every_place_depends_on_the_whole_source(name: str, pair: tuple[Tensor, Tensor]) -> None:
    network = make(name).eval()
    embedded: list[Tensor] = []
    network.embedding.register_forward_hook(lambda module, args, out: embedded.append(out.requires_grad_()))
    outputs = network(*pair)
    for place in range(pair[1].shape[1]):
        (slope,) = torch.autograd.grad(outputs[0, place].sum(), embedded[0], retain_graph=True)
        assert (slope[0].abs().sum(1) > 0).all()
        assert not slope[1:].any()  # nor on other rows


def test_step_by_step_is_the_same_as_at_once(network: Any, pair: tuple[Tensor, Tensor]) -> None:
    source, written = pair
    expected, state = network(source, written), network.begin(source)
    for place in range(written.shape[1]):
        logits, state = network.step(written[:, place], state)
        torch.testing.assert_close(logits, expected[:, place], rtol=1e-4, atol=1e-5)
        assert all(len(tensor) == len(source) for tensor in state)


def test_attention_is_on_real_places_and_sums_to_one(network: Any, pair: tuple[Tensor, Tensor]) -> None:
    weights = network.attention(*pair)
    assert weights.shape == (*pair[1].shape, max(LENGTHS))
    torch.testing.assert_close(weights.sum(2), torch.ones(pair[1].shape))
    behind = torch.arange(max(LENGTHS)) >= torch.tensor(LENGTHS)[:, None]
    assert not weights.transpose(1, 2)[behind].any()


def test_every_parameter_gets_a_gradient(name: str, pair: tuple[Tensor, Tensor]) -> None:
    network = make(name).train()
    nn.functional.cross_entropy(network(*pair).flatten(0, 1), pair[1].flatten()).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_the_state_holds_the_shared_matrix_once_and_loads_bit_for_bit(name: str, pair: tuple[Tensor, Tensor]) -> None:
    network, other = make(name).eval(), make(name, seed=7).eval()
    shapes = [tuple(tensor.shape) for tensor in network.state_dict().values()]
    assert sum(CODES in shape and len(shape) == 2 for shape in shapes) == 1
    assert not torch.equal(other(*pair), network(*pair))
    other.load_state_dict(load(save(network.state_dict())))
    assert torch.equal(other(*pair), network(*pair))


def test_sequences_are_learnt_by_heart(name: str, pair: tuple[Tensor, Tensor]) -> None:
    network, (source, written) = make(name, dropout=0.0), pair
    goals = torch.cat([written[:, 1:], torch.full((len(written), 1), END)], 1)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(60):
        loss = nn.functional.cross_entropy(network(source, written).flatten(0, 1), goals.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(greedy(network.eval(), source, 9), written[:, 1:])
    assert torch.equal(beam_search(network, source, 9, beam=3)[0], written[:, 1:])


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="give that of the vocabulary, 20"):
        Seq2SeqTransformer(20, 3)
    with pytest.raises(ValueError, match="give that of the vocabulary, 20"):
        Seq2SeqRecurrent(20, 3)
    with pytest.raises(ValueError, match="multiple of twice the 4 heads"):
        Seq2SeqTransformer(20, 20, hidden_size=20)


class Table:
    """A writer whose next code depends on the row and the last two codes alone, by a table of logits."""

    def __init__(self, codes: int, seed: int, spread: float = 2.0) -> None:
        draws = torch.Generator().manual_seed(seed)
        self.logits = spread * torch.randn(3, codes, codes, codes, generator=draws)

    def begin(self, source: Tensor) -> State:
        return source[:, 0], torch.zeros(len(source), dtype=torch.long)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        row, before = state
        return self.logits[row, before, tokens].clone(), (row, tokens)

    def score(self, row: int, codes: tuple[int, ...]) -> float:
        """log-probability of a sequence and its end, with begin and padding never said."""
        total, before, last = 0.0, 0, BEGIN
        for code in (*codes, END):
            logits = self.logits[row, before, last].clone()
            logits[:END] = -torch.inf
            total += float(logits.log_softmax(0)[code])
            before, last = last, code
        return total


def said(codes: Tensor) -> list[tuple[int, ...]]:
    return [tuple(code for code in row if code) for row in codes.tolist()]


def exhaustive(table: Table, row: int, codes: int, longest: int, alpha: float) -> tuple[tuple[int, ...], float]:
    """The best of all sequences there are."""
    every = (s for n in range(longest + 1) for s in itertools.product(range(3, codes), repeat=n))
    scores = {s: table.score(row, s) / (((5 + len(s) + 1) / 6) ** alpha) for s in every}
    best = max(scores, key=lambda s: scores[s])
    return best, scores[best]


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("seed", range(6))
def test_a_beam_that_holds_everything_finds_the_best_of_all_sequences(seed: int, alpha: float) -> None:
    codes, longest = 6, 4
    table, source = Table(codes, seed), torch.tensor([[0], [1], [2]])
    found, scores = beam_search(table, source, longest, beam=3**longest, alpha=alpha)
    for row, sequence in enumerate(said(found)):
        best, score = exhaustive(table, row, codes, longest, alpha)
        assert sequence == best
        assert float(scores[row]) == pytest.approx(score, abs=1e-4)


def slow_beam(table: Table, row: int, codes: int, longest: int, beam: int, alpha: float) -> tuple[int, ...]:
    """The search of one row with lists, which never stops early."""
    open_ones: list[tuple[int, ...]] = [()]
    finished: dict[tuple[int, ...], float] = {}

    def begun(sequence: tuple[int, ...]) -> float:
        total, before, last = 0.0, 0, BEGIN
        for code in sequence:
            logits = table.logits[row, before, last].clone()
            logits[:END] = -torch.inf
            total += float(logits.log_softmax(0)[code])
            before, last = last, code
        return total

    for _ in range(longest + 1):
        for sequence in open_ones:
            finished[sequence] = table.score(row, sequence) / (((6 + len(sequence)) / 6) ** alpha)
        longer = [(*sequence, code) for sequence in open_ones for code in range(3, codes)]
        open_ones = sorted(longer, key=begun, reverse=True)[:beam]
    return max((s for s in finished if len(s) <= longest), key=lambda s: finished[s])


@pytest.mark.parametrize("beam", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_a_narrow_beam_keeps_what_a_slow_search_keeps(seed: int, beam: int) -> None:
    table, source = Table(8, seed), torch.tensor([[0], [1], [2]])
    found, _ = beam_search(table, source, 6, beam=beam, alpha=0.8)
    assert said(found) == [slow_beam(table, row, 8, 6, beam, 0.8) for row in range(3)]


@pytest.mark.parametrize("seed", range(5))
def test_greedy_takes_the_likeliest_code_of_each_place(seed: int) -> None:
    table, expected = Table(8, seed), []
    for row in range(3):
        sequence, before, last = list[int](), 0, BEGIN
        while len(sequence) < 6:
            code = END + int(table.logits[row, before, last, END:].argmax())
            if code == END:
                break
            sequence.append(code)
            before, last = last, code
        expected.append(tuple(sequence))
    assert said(greedy(table, torch.tensor([[0], [1], [2]]), 6)) == expected


def test_rows_of_a_batch_do_not_depend_on_each_other(network: Any, pair: tuple[Tensor, Tensor]) -> None:
    source, _ = pair
    together, scores = beam_search(network, source, 8, beam=3)
    for row in range(len(source)):
        alone, score = beam_search(network, source[row : row + 1], 8, beam=3)
        assert said(alone) == said(together[row : row + 1])
        torch.testing.assert_close(score, scores[row : row + 1], rtol=1e-4, atol=1e-4)
        assert said(greedy(network, source[row : row + 1], 8)) == said(greedy(network, source, 8)[row : row + 1])


def test_each_row_may_have_its_own_limit() -> None:
    source, limits = torch.tensor([[0], [1], [2]]), torch.tensor([1, 4, 2])
    for seed in range(5):
        table = Table(8, seed, spread=1.0)
        each = [said(greedy(table, source[row : row + 1], int(limits[row])))[0] for row in range(3)]
        assert said(greedy(table, source, limits)) == each
        each = [said(beam_search(table, source[row : row + 1], int(limits[row]))[0])[0] for row in range(3)]
        assert said(beam_search(table, source, limits)[0]) == each


def test_a_larger_penalty_writes_longer_sequences() -> None:
    source = torch.tensor([[0], [1], [2]])
    lengths = [
        sum(len(s) for seed in range(10) for s in said(beam_search(Table(8, seed), source, 8, beam=8, alpha=alpha)[0]))
        for alpha in (0.0, 1.0, 3.0)
    ]
    assert lengths[0] < lengths[1] < lengths[2]


def test_the_penalty_is_that_of_the_paper() -> None:
    assert float(length_penalty(7.0, 0.5)) == pytest.approx((12 / 6) ** 0.5)


def test_no_rows_give_no_sequences(network: Any) -> None:
    nothing = torch.zeros(0, 3, dtype=torch.long)
    assert greedy(network, nothing, 4).shape[0] == 0
    assert beam_search(network, nothing, 4)[0].shape[0] == 0
