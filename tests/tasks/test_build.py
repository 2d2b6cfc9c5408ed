from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sounding.errors import RecipeError
from sounding.kinds import Block
from sounding.networks import NETWORKS, CompositeNetwork, LogMel, TabularEnsemble
from sounding.recipe import NetworkRecipe
from sounding.tasks import arrange, build_network, choose_network, measure_on

NUMBERS = Block("numbers", "numbers", ("a", "b"), features=("a", "b"), bins=((-1.0, 0.0, 1.0), (0.0, 1.0)))
CATEGORIES = Block("categories", "categories", ("c",), cardinalities=(4,))
PICTURE = Block("image:p", "pictures", ("p",), channels=3, height=8, width=9, mean=(51.0,) * 3, std=(25.5,) * 3)
TEXT = Block("text:t", "tokens", ("t",), vocabulary_size=50, length=6)
PIECES = Block("text:q", "tokens", ("q",), vocabulary_size=50, length=6, piece_buckets=30)
SERIES = Block("series:s", "series", ("s",), channels=2, length=9, mean=(0.0, 1.0), std=(1.0, 2.0))
SOUND = Block("audio:a", "sound", ("a",), length=900, rate=1000)
OTHER_TEXT = Block("text:s", "tokens", ("s",), vocabulary_size=20, length=4)


def encoded(blocks: list[Block], rows: int = 5) -> dict[str, np.ndarray]:
    """Random arrays as the blocks describe them, in the reverse order to make sure that order does not matter."""
    draw, arrays = np.random.default_rng(0), {}
    for block in reversed(blocks):
        if block.form == "numbers":
            arrays[block.name] = draw.normal(size=(rows, len(block.features))).astype(np.float32)
        elif block.form == "categories":
            arrays[block.name] = draw.integers(block.cardinalities, size=(rows, len(block.cardinalities))).astype(
                np.int32
            )
        elif block.form == "series":
            arrays[block.name] = draw.normal(size=(rows, block.channels, block.length)).astype(np.float32)
        elif block.form == "sound":
            arrays[block.name] = draw.integers(-9000, 9000, size=(rows, block.length)).astype(np.int16)
        elif block.form == "pictures":
            shape = (rows, block.channels, block.height, block.width)
            arrays[block.name] = draw.integers(256, size=shape, dtype=np.uint8)
        else:
            tokens = draw.integers(1, block.vocabulary_size, size=(rows, block.length)).astype(np.int32)
            pieces = draw.integers(block.piece_buckets or 1, size=(rows, block.length, 4)).astype(np.int32)
            arrays[block.name] = np.append(tokens[..., None], pieces, axis=2) if block.piece_buckets else tokens
    return arrays


@pytest.mark.parametrize(
    "blocks",
    [
        [NUMBERS],
        [CATEGORIES],
        [NUMBERS, CATEGORIES],
        [PICTURE],
        [TEXT],
        [TEXT, OTHER_TEXT],
        [PIECES],
        [PIECES, NUMBERS],
        [PICTURE, NUMBERS],
        [TEXT, CATEGORIES, PICTURE, NUMBERS, OTHER_TEXT],
    ],
    ids=lambda blocks: "+".join(block.name for block in blocks),
)
def test_every_combination_of_inputs(blocks: list[Block]) -> None:
    network = build_network(blocks, 3, NetworkRecipe()).eval()
    inputs = arrange(encoded(blocks))
    logits = network(*inputs)
    assert logits.shape[0] == 5
    assert logits.shape[-1] == 3
    assert logits.ndim == (3 if hasattr(network, "members") else 2)
    # each input matters
    for at, tensor in enumerate(inputs):
        if tensor.numel():
            other = [*inputs]
            other[at] = tensor.roll(1, 0)
            assert not torch.equal(network(*other), logits)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_can_be_asked_for(name: str) -> None:
    family = NETWORKS[name]
    of_form = {"pictures": PICTURE, "tokens": TEXT, "series": SERIES, "sound": SOUND}
    of_user, of_item = (replace(CATEGORIES, name=f"{side}:categories", side=side) for side in ("user", "item"))
    several = {"table": [NUMBERS, CATEGORIES], "interactions": [of_user, of_item]}
    blocks = several.get(family.takes) or [of_form[family.takes]]
    if family.answers == "forecasts":
        blocks = [replace(SERIES, targets=1, horizon=4)]
    answers = ("strangeness", "reconstruction", "distances") if family.answers == "distances" else family.answers
    count = TEXT.vocabulary_size if family.answers == "next_codes" else 2
    network = build_network(blocks, count, NetworkRecipe(name=name), answers).eval()
    if family.answers == "maps":
        assert network(*arrange(encoded(blocks))).shape == (5, count, PICTURE.height, PICTURE.width)
        return
    if family.answers == "painting":
        pictures = arrange(encoded(blocks))[0]
        torch.testing.assert_close(network(pictures), pictures / 255)  # the first painting is the picture itself
        return
    if family.answers == "next_codes":
        written = torch.ones(5, 3, dtype=torch.int32)
        assert network(*arrange(encoded(blocks)), written).shape == (5, 3, count)
        return
    if family.answers == "samples":
        made = getattr(network, "network", network).sample(5, classes=torch.tensor([0, 1, 0, 1, 0]))
        assert made.shape == ((5, 3, 8, 9) if family.takes == "pictures" else (5, 2 + 4))
        return
    outputs = network(*arrange(encoded(blocks)))
    if family.answers in ("scores", "next_items"):
        assert outputs.shape == (5, network.members)
    elif family.answers in ("distances", "strangeness"):
        assert outputs.shape[0] == 5
        assert (outputs >= 0).all()
    else:
        main = (
            outputs
            if family.answers in ("logits", "forecasts")
            else outputs[1 if family.answers == "reconstruction" else 0]
        )
        assert main.shape[-1] == 2


def test_inputs_of_all_forms_meet_their_own_parts() -> None:
    blocks = [TEXT, SERIES, PICTURE, SOUND, NUMBERS]
    network = build_network(blocks, 2, NetworkRecipe()).eval()
    inputs = arrange(encoded(blocks))
    assert network(*inputs).shape == (5, 2)
    measure_on(network, inputs)
    assert all(layer.mean.any() for layer in network.modules() if isinstance(layer, LogMel))


def test_an_autoencoder_of_pictures_gives_pictures_back() -> None:
    network = build_network([PICTURE], 2, NetworkRecipe(name="auto"), "reconstruction").eval()
    (pictures,) = arrange(encoded([PICTURE]))
    outputs = network(pictures)
    assert torch.equal(network.encode(pictures), outputs.code)
    given = network.decode(outputs.code)
    mean, std = (torch.tensor(known)[:, None, None] / 255 for known in (PICTURE.mean, PICTURE.std))
    torch.testing.assert_close(given, (outputs.values * std + mean).clamp(0, 1))


def test_the_named_network_stands_among_defaults() -> None:
    network = build_network([TEXT, NUMBERS], 2, NetworkRecipe(name="recurrent", options={"hidden_sizes": [7]}))
    assert isinstance(network, CompositeNetwork)
    kinds = [type(part).__name__ for part in network.parts]
    assert kinds == ["TabularEnsemble", "RecurrentNetwork"]


def test_options_reach_the_network() -> None:
    network = build_network([NUMBERS], 2, NetworkRecipe(options={"members": 3, "hidden_sizes": [5]}))
    assert isinstance(network, TabularEnsemble)
    assert (network.members, network.num_features) == (3, 5)
    composite = build_network([NUMBERS, TEXT], 2, NetworkRecipe(options={"dropout": 0.4}))
    assert isinstance(composite, CompositeNetwork)
    assert composite.dropout.p == 0.4


def test_numbers_can_enter_as_they_are() -> None:
    plain = build_network([NUMBERS], 2, NetworkRecipe(name="feedforward", options={"number_embedding_size": 0}))
    assert plain.columns.sizes == [1, 1]  # type: ignore[union-attr]
    embedded = build_network([NUMBERS], 2, NetworkRecipe(name="feedforward"))
    assert embedded.columns.sizes == [16, 16]  # type: ignore[union-attr]


def test_pictures_are_standardised() -> None:
    network = build_network([PICTURE], 2, NetworkRecipe())
    pictures = torch.full((1, 3, 8, 9), 102, dtype=torch.uint8)
    torch.testing.assert_close(network.standardize(pictures), torch.full((1, 3, 8, 9), 2.0))  # type: ignore[operator]


def test_the_same_schema_builds_a_network_that_loads_the_weights() -> None:
    blocks = [TEXT, CATEGORIES, PICTURE, NUMBERS]
    one, other = build_network(blocks, 2, NetworkRecipe()), build_network(blocks[::-1], 2, NetworkRecipe())
    other.load_state_dict(one.state_dict())
    inputs = arrange(encoded(blocks))
    assert torch.equal(one.eval()(*inputs), other.eval()(*inputs))


def test_arrange_keeps_compact_types_and_shares_memory() -> None:
    arrays = encoded([NUMBERS, CATEGORIES, PICTURE])
    numbers, categories, pictures = arrange(arrays)
    assert (numbers.dtype, categories.dtype, pictures.dtype) == (torch.float32, torch.int32, torch.uint8)
    assert pictures.data_ptr() == arrays["image:p"].ctypes.data


def test_arrange_takes_memory_mapped_arrays(tmp_path: Any) -> None:
    np.save(tmp_path / "numbers.npy", np.ones((3, 2), np.float32))
    mapped = np.load(tmp_path / "numbers.npy", mmap_mode="r")
    numbers, categories = arrange({"numbers": mapped})
    assert numbers.sum() == 6
    assert categories.shape == (3, 0)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (NetworkRecipe(name="ensembel"), 'no network "ensembel"; did you mean "ensemble"'),
        (
            NetworkRecipe(name="resnet"),
            '"resnet" takes pictures, and the inputs are table; take feedforward, ensemble',
        ),
        (NetworkRecipe(name="composite"), '"composite" takes several inputs, and the inputs are table'),
        (NetworkRecipe(options={"memebrs": 3}), '"ensemble" has no option "memebrs"; did you mean "members"'),
        (NetworkRecipe(options={"bins": []}), 'has no option "bins"'),
        (NetworkRecipe(options={"hidden_sizes": []}), 'network "ensemble" cannot be built'),
        (NetworkRecipe(options={"activation": "rleu"}), 'network "ensemble" cannot be built'),
    ],
)
def test_mistakes_are_told_in_a_line(recipe: NetworkRecipe, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        build_network([NUMBERS], 2, recipe)
    assert message in str(caught.value)


def test_reasons_are_a_sentence() -> None:
    assert choose_network([PICTURE])[0] == "resnet"
    assert choose_network([TEXT])[0] == "text_ensemble"
    name, why = choose_network([TEXT, NUMBERS])
    assert name == "composite"
    assert "table, text:t" in why
    assert choose_network([NUMBERS], "feedforward") == ("feedforward", "as the settings say")
