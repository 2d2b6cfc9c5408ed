from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from torch import nn

from sounding.cli import main
from sounding.errors import DataError, RecipeError
from sounding.fitting import fit
from sounding.kinds.mask import UNLABELLED
from sounding.run import Run, load
from sounding.tasks import TASKS, Predictions, Segmentation
from sounding.tasks.map_losses import dice_losses, pixel_losses
from sounding.tasks.prepare import Prepared, prepare

SETTINGS: dict[str, Any] = {
    "task": "segmentation",
    "target": ["mask"],
    "training.epochs": 5,
    "training.batch_size": 4,
    "training.optimizer.lr": 1e-2,
    "training.plan": "given",
    "training.watch": False,
    "network.name": "unet",
    "segmentation.crop": 24,
    "segmentation.scale": 1.0,
    "segmentation.turn": 0.0,
    "network.options": {"hidden_size": 4, "levels": 2},
    "evaluation.bootstrap": 50,
}


def squares(count: int = 24, seed: int = 0, size: tuple[int, int] = (32, 40)) -> dict[str, np.ndarray]:
    """Dark and light noise with grey squares; a square is of the class that its texture, not its brightness, tells."""
    draws = np.random.default_rng(seed)
    pictures = draws.integers(100, 130, (count, *size), dtype=np.uint8)
    masks = np.zeros((count, *size), dtype=np.uint8)
    for picture, mask in zip(pictures, masks, strict=True):
        for code in (1, 2):
            side, top, left = draws.integers(8, 14), draws.integers(0, size[0] - 14), draws.integers(0, size[1] - 14)
            place = (slice(top, top + side), slice(left, left + side))
            mask[place] = code * 10
            stripes = np.indices((side, side))[code - 1] % 2
            picture[place] = 60 + 120 * stripes
    return {"image": pictures, "mask": masks}


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(squares(), SETTINGS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(squares(), settings=SETTINGS, out=tmp_path_factory.mktemp("squares") / "run", say=None, progress=False)


def test_it_is_chosen_for_a_target_of_pictures(prepared: Prepared) -> None:
    assert TASKS["segmentation"] is Segmentation
    assert isinstance(prepared.task, Segmentation)
    alone = prepare(squares(), {"target": ["mask"], "training.plan": "given"})
    assert isinstance(alone.task, Segmentation)
    assert alone.recipe.network.name == "encoder_decoder"
    assert prepared.task.classes == ("0", "10", "20")


def test_the_truth_is_as_large_as_the_pictures_and_survives_the_tensor(prepared: Prepared) -> None:
    assert prepared.target.shape == (24, 32, 40)
    assert np.array_equal(prepared.target * 10, squares()["mask"])
    task = prepared.task
    assert np.array_equal(task.from_tensor(task.to_tensor(prepared.target)), prepared.target)


def test_batches_that_are_trained_on_are_pieces(prepared: Prepared) -> None:
    batch = next(prepared.batches(prepared.split.train, training=True).epoch(0))
    assert batch.target is not None
    assert (batch.inputs[0].shape, batch.target.shape) == ((4, 1, 24, 24), (4, 24, 24))
    again = next(prepared.batches(prepared.split.train, training=True).epoch(0))
    assert torch.equal(batch.inputs[0], again.inputs[0])
    whole = next(prepared.batches(prepared.split.validation).epoch(0))
    assert whole.inputs[0].shape[2:] == (32, 40)


def test_few_pictures_make_an_epoch_of_many_pieces(prepared: Prepared) -> None:
    train = prepared.split.train
    assert prepared.batches(train, training=True).rows == 3 * len(train) == 60
    assert prepared.batches(train).rows == len(train)
    once = prepare(squares(), {**SETTINGS, "segmentation.pieces": 1})
    assert once.batches(train, training=True).rows == len(train)
    batches = list(prepared.batches(train, training=True).epoch(0))
    assert sum(len(batch.rows) for batch in batches) == 60


@pytest.mark.parametrize(("key", "value"), [("augment", "strong"), ("erase", 0.5), ("cutmix", 1.0)])
def test_what_it_has_no_use_for_is_refused(key: str, value: object) -> None:
    with pytest.raises(RecipeError, match="segmentation"):
        prepare(squares(), {**SETTINGS, f"training.{key}": value})


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "dice", "cross_entropy+dice", "focal+dice"])
def test_losses_are_added_up_and_follow_the_weights_of_rows(prepared: Prepared, loss: str) -> None:
    recipe = prepared.recipe.with_settings({"segmentation.loss": loss, "segmentation.focus": 1.0})
    task = Segmentation.for_schema(prepared.schema, recipe)
    goals, logits = task.to_tensor(prepared.target[:6]), torch.randn(6, 3, 32, 40)
    expected = torch.zeros(6)
    if "dice" in loss:
        expected += dice_losses(logits, goals)
    if loss != "dice":
        expected += pixel_losses(logits, goals, focus=1.0 if "focal" in loss else 0.0)
    torch.testing.assert_close(task.loss(logits, goals), expected.mean())
    weight = torch.tensor([3.0, 3.0, 0, 0, 0, 0])
    torch.testing.assert_close(task.loss(logits, goals, weight), expected[:2].mean())


def test_classes_that_are_rare_weigh_more_and_the_mean_weight_is_one(prepared: Prepared) -> None:
    weighted, plain = (
        Segmentation(prepared.schema, prepared.recipe.with_settings({"training.class_weights": asked}))
        for asked in (True, False)
    )
    weighted = weighted.knowing(prepared.target)
    assert weighted.weights is not None
    share = np.bincount(prepared.target.ravel()) / prepared.target.size
    assert float(weighted.weights.double() @ torch.from_numpy(share)) == pytest.approx(1)
    np.testing.assert_allclose(weighted.weights[0] / weighted.weights[1], (share[1] / share[0]) ** 0.5, rtol=1e-5)
    assert plain.knowing(prepared.target) is plain


def test_squares_are_learned_and_beat_simple_answers(run: Run) -> None:
    assert run.metrics["test"]["iou"] > 0.6
    assert run.results["headline"] == {"metric": "iou", "higher_is_better": True}
    assert next(iter(run.results["baseline"])) == "always the most frequent class"
    assert len(run.results["baseline"]) == 3
    chance = run.results["baseline"]["always the most frequent class"]["test"]
    assert chance["iou"] == pytest.approx(chance["pixel_accuracy"] / 3)
    assert set(run.results["history"][0]["validation"]) == {"loss", "iou", "pixel_accuracy"}
    low, high = run.results["intervals"]["test"]["iou"]
    assert low <= run.metrics["test"]["iou"] <= high


def test_validation_keeps_classes_alone(prepared: Prepared) -> None:
    logits = torch.randn(24, 3, 32, 40)
    task, goals = prepared.task, prepared.task.to_tensor(prepared.target)
    kept = task.compact(logits)
    assert (kept.dtype, kept.shape) == (torch.uint8, (24, 32, 40))
    assert task.validation_metrics(kept, goals) == task.validation_metrics(logits, goals)
    values = logits.argmax(1).numpy()
    assert task.validation_metrics(kept, goals)["pixel_accuracy"] == pytest.approx((values == prepared.target).mean())


def test_large_pictures_are_predicted_in_tiles(run: Run) -> None:
    class Seen(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network, self.sizes = network, set[tuple[int, ...]]()

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            self.sizes.add(tuple(pictures.shape))
            answer: torch.Tensor = self.network(pictures)
            return answer

    inputs = (torch.from_numpy(squares(2, seed=3)["image"])[:, None],)
    tiled = Segmentation(run.schema, run.recipe.with_settings({"segmentation.tile": 24}))
    network = Seen(run.network)
    values = tiled.predict(network, inputs).values
    assert network.sizes == {(1, 1, 24, 24)}
    assert (values == run.task.predict(run.network, inputs).values).mean() > 0.9


def as_files(folder: Path, count: int = 4, seed: int = 7) -> dict[str, np.ndarray]:
    data = squares(count, seed)
    for name, key in (("images", "image"), ("masks", "mask")):
        (folder / name).mkdir(parents=True)
        for row, pixels in enumerate(data[key]):
            Picture.fromarray(pixels).save(folder / name / f"s{row}.png")
    return data


def test_masks_are_written_and_measured(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = as_files(tmp_path / "new")
    assert main(["predict", str(run.path), str(tmp_path / "new" / "images"), "--out", str(tmp_path / "said")]) == 0
    said = [Picture.open(tmp_path / "said" / f"s{row}.png") for row in range(4)]
    assert {picture.mode for picture in said} == {"P"}
    written = np.stack([np.asarray(picture) for picture in said])
    assert set(np.unique(written)) <= {0, 10, 20}
    assert np.array_equal(written, load(run.model_folder).predict({"image": data["image"]}) * 10)
    assert main(["evaluate", str(run.path), str(tmp_path / "new"), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert measured["metrics"]["pixel_accuracy"] == pytest.approx((written == data["mask"]).mean())
    assert main(["predict", str(run.path), str(tmp_path / "new" / "images"), "--out", str(tmp_path / "said")]) == 2
    assert "not empty" in capsys.readouterr().err
    table, _ = run.predict_table(tmp_path / "new")
    shares = np.stack([table.column(f"share_{name}").to_numpy() for name in ("0", "10", "20")], 1)
    np.testing.assert_allclose(shares.sum(1), 1)
    np.testing.assert_allclose(shares[:, 1], (written == 10).mean((1, 2)))


def test_masks_are_as_large_as_the_pictures_were(run: Run) -> None:
    large = np.kron(squares(1, seed=9)["image"], np.ones((1, 3, 3), np.uint8))
    files, _ = run.predict_files({"image": large})
    (_, content), *_ = files
    assert Picture.open(io.BytesIO(content)).size == (120, 96)


def test_a_task_whose_answers_are_cells_writes_no_files(tmp_path: Path) -> None:
    rows = {"x": np.arange(40.0), "y": np.arange(40) % 2}
    settings = {"training.epochs": 1, "training.plan": "given", "evaluation.bootstrap": 10}
    done = fit(rows, "y", settings=settings, out=tmp_path / "run", say=None, progress=False)
    with pytest.raises(RecipeError, match="the predictions are a table"):
        done.predict_files({"x": np.arange(3.0)})


def test_pixels_without_a_class_are_neither_learned_nor_measured() -> None:
    data = squares()
    data["mask"][:, :4] = 255
    known = prepare(data, SETTINGS)
    assert (known.target[:, :4] == UNLABELLED).all()
    right = known.target.copy()
    right[:, :4] = 2
    assert known.task.metrics(Predictions(right), known.target)["iou"] == 1.0
    assert known.task.row_losses(Predictions(right), known.target).max() == 0
    assert "void-pixels" in {finding.rule for finding in known.findings}


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    as_files(tmp_path, 12)
    Picture.fromarray(np.zeros((10, 12), np.uint8)).save(tmp_path / "masks" / "s3.png")
    with pytest.raises(DataError, match=r'the mask "masks/s3.png" is 12 x 10 pixels, its picture 40 x 32'):
        prepare(tmp_path, SETTINGS)


def test_masks_of_pictures_that_are_resized_follow_them(tmp_path: Path) -> None:
    as_files(tmp_path, 12)
    known = prepare(tmp_path, {**SETTINGS, "data.picture_size": 20})
    assert known.inputs[0].shape[2:] == (20, 20)
    assert known.target.shape[1:] == (20, 20)


def test_large_pictures_keep_their_size_and_ways_to_ask_agree(tmp_path: Path) -> None:
    large = {key: np.kron(values, np.ones((1, 20, 16), np.uint8)) for key, values in squares(8).items()}
    known = prepare(large, {"target": ["mask"], "training.plan": "given"})
    assert known.target.shape[1:] == (640, 640)
    assert known.recipe == prepare(large, {**known.recipe.settings()}).recipe
    as_files(tmp_path, 8)
    assert prepare(tmp_path, {}).recipe.data.picture_longest == 1024
    smaller = prepare(large, {"target": ["mask"], "data.picture_longest": 100})
    assert smaller.target.shape[1:] == smaller.inputs[0].shape[2:] == (100, 100)


def test_the_page_gets_pictures_truth_prediction_and_mistakes(run: Run) -> None:
    drawn = run.results["figures"]["segmented"]
    assert drawn["classes"] == ["0", "10", "20"]
    for one in drawn["pictures"]:
        assert all(one[key].startswith("data:image/png") for key in ("picture", "truth", "prediction", "mistakes"))
    rights = [one["right"] for one in drawn["pictures"]]
    assert rights == sorted(rights, reverse=True)
    shares = np.array(run.results["figures"]["confusion"]["counts"])
    np.testing.assert_allclose(shares.sum(1), 100, atol=1)
    recalls = [run.metrics["test"][f"iou_{name}"] for name in ("0", "10", "20")]
    assert (shares.diagonal() / 100 >= np.array(recalls) - 0.01).all()
    assert "red where these differ" in (run.path / "report.html").read_text()


def test_no_rows_are_no_fault(prepared: Prepared) -> None:
    nothing = Predictions(prepared.target[:0])
    task = prepared.task
    assert task.metrics(nothing, prepared.target[:0]) == {}
    assert task.intervals(nothing, prepared.target[:0], samples=10, seed=0) == {}
    assert task.predict(prepared.network(), (torch.zeros(0, 1, 32, 40, dtype=torch.uint8),)).values.shape == (0, 32, 40)


def test_a_resumed_run_ends_in_the_same_bits(run: Run, tmp_path: Path) -> None:
    again = fit(squares(), settings=SETTINGS, out=tmp_path / "run", say=None, progress=False)
    ours, theirs = (one.network.state_dict() for one in (run, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    shutil.rmtree(tmp_path)


def test_the_encoder_decoder_learns_too(tmp_path: Path) -> None:
    options = {"stem_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "decoder_size": 8}
    settings = {**SETTINGS, "network.name": "encoder_decoder", "network.options": options}
    done = fit(squares(), settings=settings, out=tmp_path / "run", say=None, progress=False)
    assert done.metrics["test"]["iou"] > 0.45


def test_a_classifier_gives_its_encoder(tmp_path: Path) -> None:
    data = squares(40)
    options = {"stem_size": 4, "hidden_sizes": [8, 8], "depths": [1, 1]}
    quick = {"training.epochs": 2, "training.plan": "given", "training.watch": False, "evaluation.bootstrap": 10}
    labels = (data["mask"] == 10).sum((1, 2)) > (data["mask"] == 20).sum((1, 2))
    classified = {"image": data["image"], "more": labels.astype(str)}
    settings = {**quick, "network.name": "resnet", "network.options": options}
    fit(classified, "more", settings=settings, out=tmp_path / "old", say=None, progress=False)
    old = load(tmp_path / "old").network
    begun = prepare(
        squares(), {**SETTINGS, "network.name": "auto", "network.options": {}, "transfer.source": str(tmp_path / "old")}
    )
    assert (begun.recipe.network.name, begun.recipe.network.options["hidden_sizes"]) == ("encoder_decoder", [8, 8])
    network = begun.network().state_dict()
    for name, tensor in old.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(network[name.replace("network.", "network.encoder.")], tensor), name
    slowed = begun.recipe.training.optimizer.rates
    assert slowed
    assert all(pattern.startswith("network.encoder.") for pattern in slowed)
    done = fit(
        squares(),
        settings={
            **SETTINGS,
            **quick,
            "network.name": "auto",
            "network.options": {},
            "transfer.source": str(tmp_path / "old"),
        },
        out=tmp_path / "new",
        say=None,
        progress=False,
    )
    again = prepare(
        squares(), {**SETTINGS, "network.name": "auto", "network.options": {}, "transfer.source": str(done.path)}
    )
    assert again.recipe.network == done.recipe.network
    other = {**quick, "network.name": "convolutional"}
    fit(classified, "more", settings=other, out=tmp_path / "other", say=None, progress=False)
    said = (
        r'is "convolutional", and none that gives maps has it as its encoder; give --from a run of "resnet" '
        r"\(for encoder_decoder\)"
    )
    with pytest.raises(RecipeError, match=said):
        prepare(
            squares(),
            {**SETTINGS, "network.name": "auto", "network.options": {}, "transfer.source": str(tmp_path / "other")},
        )
    assert not torch.equal(again.network().state_dict()["head.weight"], done.network.state_dict()["head.weight"])


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "rows", "classes"), [("isbi2012-membrane", (24, 6), 2), ("camvid-mini", (37, 13), 11)]
)
def test_public_sets_are_read(name: str, rows: tuple[int, int], classes: int) -> None:
    known = prepare(f"@{name}", {"data.validation": 0.1})
    sizes = known.split.sizes()
    assert (sizes["train"] + sizes["validation"], sizes["test"]) == rows
    assert known.task.outputs == classes
    assert isinstance(known.task, Segmentation)
