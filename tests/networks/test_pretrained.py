from __future__ import annotations

import pytest
import torch
from torch import nn

from sounding.networks import PretrainedPictures, PretrainedText, pretrained

pytest.importorskip("transformers")
from encoders import save_bert, save_vit
from transformers import AutoConfig, AutoModel, BertConfig, BertModel, ConvNextConfig, ConvNextModel

OUT = 3
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
BERT = BertConfig(vocab_size=40, max_position_embeddings=20, pad_token_id=7, **SIZES)
LOOK = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "size": (12, 12)}


def text_network(**options):
    torch.manual_seed(0)
    return PretrainedText(BertModel(BERT), OUT, padding=7, **options).eval()


@pytest.fixture
def tokens():
    torch.manual_seed(1)
    lengths = torch.randint(1, 13, (50, 1))
    lengths[0] = 12
    return torch.randint(1, 41, (50, 12)) * (torch.arange(12) < lengths)


def alone(network, row):
    """The slow way: one text without padding."""
    identifiers = row[row != 0][None].long() - 1
    return network.pretrained(input_ids=identifiers)


@pytest.mark.parametrize(
    ("pooling", "pooled"),
    [
        ("mean", lambda out: out.last_hidden_state[0].mean(0)),
        ("max", lambda out: out.last_hidden_state[0].max(0).values),
        ("first", lambda out: out.last_hidden_state[0, 0]),
        ("own", lambda out: out.pooler_output[0]),
    ],
)
def test_each_text_is_read_as_if_it_were_alone(tokens, pooling, pooled):
    network = text_network(pooling=pooling)
    with torch.no_grad():
        features = network.forward_features(tokens)
        slow = torch.stack([pooled(alone(network, row)) for row in tokens])
        assert network.num_features == 16
        torch.testing.assert_close(features, slow, rtol=1e-4, atol=1e-5)
        assert torch.equal(network.head(features), network(tokens))


def test_texts_of_one_length_pass_together(tokens, monkeypatch):
    network, seen = text_network(), []
    network.pretrained.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    with torch.no_grad():
        grouped = network(tokens)
        spent = sum(rows * length for rows, length in seen)
        assert {rows for rows, _ in seen} <= {pretrained.GROUP, len(tokens) % pretrained.GROUP}
        monkeypatch.setattr(pretrained, "GROUP", len(tokens))
        together = network(tokens)
    torch.testing.assert_close(grouped, together, rtol=1e-4, atol=1e-5)
    assert spent < 0.75 * tokens.numel()
    assert seen[-1] == (50, 12)


def test_an_empty_text_is_a_row_like_others(tokens):
    tokens[3] = 0
    assert text_network()(tokens).isfinite().all()


@pytest.mark.parametrize("pooling", ["mean", "own"])
def test_every_parameter_is_trained_and_what_is_not_asked_is_not_there(tokens, pooling):
    network = text_network(pooling=pooling).train()
    network(tokens).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert any("pooler" in name for name, _ in network.named_parameters()) == (pooling == "own")


def test_an_unknown_pooling_is_named():
    with pytest.raises(ValueError, match='unknown pooling "man"; did you mean "mean"'):
        text_network(pooling="man")


def built(**options):
    torch.manual_seed(0)
    return pretrained.pretrained_text(41, OUT, config=BERT.to_json_string(), **options).eval()


def test_a_network_by_its_configuration_takes_the_weights_of_another(tokens):
    network, source = built(), BertModel(BERT)
    network.load(source.state_dict())
    with torch.no_grad():
        expected = PretrainedText(source.eval(), OUT, padding=7).eval().forward_features(tokens)
        assert torch.equal(network.forward_features(tokens), expected)


def test_words_stay_as_they_are_unless_it_is_said():
    for train_words in (False, True):
        network = built(train_words=train_words)
        frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
        assert frozen == ([] if train_words else ["pretrained.embeddings.word_embeddings.weight"])


def test_more_tokens_than_the_encoder_knows_are_refused():
    with pytest.raises(ValueError, match="the tokenizer has 41 tokens, and the encoder knows 40"):
        pretrained.pretrained_text(42, OUT, config=BERT.to_json_string())


def test_adapters_are_trained_instead_of_the_encoder_and_change_nothing_at_first(tokens):
    pytest.importorskip("peft")
    plain, adapted = built(), built(lora=2)
    weights = BertModel(BERT).state_dict()
    plain.load(weights)
    adapted.load(weights)
    with torch.no_grad():
        assert torch.equal(adapted.forward_features(tokens), plain.forward_features(tokens))
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert all(".lora_" in name or name.startswith("head.") for name in trained)
    layer = 2 * 4 * (16 + 16) + 2 * 2 * (16 + 32)  # attention, then up and down
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == 2 * layer + OUT * 17
    adapted.train()(tokens).square().sum().backward()
    assert all(p.grad is not None for p in adapted.parameters() if p.requires_grad)


def test_pictures_are_standardised_and_enlarged(tmp_path):
    module = AutoModel.from_pretrained(save_vit(tmp_path / "vit")).eval()
    network = PretrainedPictures(module, OUT, **LOOK).eval()
    grey = torch.randint(0, 256, (4, 1, 12, 12), dtype=torch.uint8)
    mean, std = torch.tensor(LOOK["mean"]).view(3, 1, 1), torch.tensor(LOOK["std"]).view(3, 1, 1)
    with torch.no_grad():
        features = network.forward_features(grey)
        slow = module(pixel_values=(grey.expand(-1, 3, -1, -1) / 255 - mean) / std).pooler_output
        torch.testing.assert_close(features, slow)
        assert torch.equal(network(grey), network(grey / 255))
        assert torch.equal(network(grey), network(grey.expand(-1, 3, -1, -1)))
        flat = torch.full((1, 3, 6, 6), 200, dtype=torch.uint8)
        torch.testing.assert_close(network(flat), network(torch.full((1, 3, 12, 12), 200, dtype=torch.uint8)))


def test_maps_are_averaged_over_places():
    config = ConvNextConfig(num_stages=2, hidden_sizes=[8, 12], depths=[1, 1], image_size=12)
    network = PretrainedPictures(ConvNextModel(config), OUT, pooling="mean", **LOOK).eval()
    pictures = torch.rand(2, 3, 12, 12)
    with torch.no_grad():
        maps = network.pretrained(pixel_values=network.standardize(pictures)).last_hidden_state
        assert maps.ndim == 4
        torch.testing.assert_close(network.forward_features(pictures), maps.mean((2, 3)))


def test_the_example_networks_are_built_from_their_files_alone(tmp_path):
    config = (save_bert(tmp_path / "bert") / "config.json").read_text()
    network = pretrained.pretrained_text(21, OUT, config=config)
    assert isinstance(network.head, nn.Linear)
    assert isinstance(AutoConfig.for_model("bert"), BertConfig)
