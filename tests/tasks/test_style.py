"""Pictures in the style of others: by their pixels, and by a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from sklearn.datasets import load_sample_images

from sounding import fit, load
from sounding.cli import main
from sounding.errors import DataError, RecipeError, UserError
from sounding.networks.style import LayerFeatures, RandomFeatures, content_distance, gram, style_distance
from sounding.recipe import StyleRecipe
from sounding.run import paint
from sounding.tasks.painting import optimized, read_colours
from sounding.tasks.perception import Perception

TEMPLE, FLOWER = (np.asarray(picture) for picture in load_sample_images().images)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("style")
    Pillow.fromarray(TEMPLE).save(folder / "temple.png")
    Pillow.fromarray(FLOWER).save(folder / "flower.jpg")
    (folder / "crops").mkdir()
    draw = np.random.default_rng(0)
    for number in range(120):
        top, left = draw.integers(0, 427 - 128), draw.integers(0, 640 - 128)
        crop = Pillow.fromarray(TEMPLE[top : top + 128, left : left + 128]).resize((32, 32))
        crop.save(folder / "crops" / f"{number}.png")
    return folder


def test_gram_matrices_and_distances_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [0.0, 1.0]], [[3.0, 0.0], [1.0, -1.0]]]])
    by_hand = torch.zeros(1, 2, 2)
    for i in range(2):
        for j in range(2):
            by_hand[0, i, j] = sum(maps[0, i, y, x] * maps[0, j, y, x] for y in range(2) for x in range(2)) / 4
    torch.testing.assert_close(gram(maps), by_hand)
    assert float(style_distance([maps], [gram(maps)])) == 0.0
    assert float(style_distance([maps * 0], [gram(maps)])) == pytest.approx(1.0)
    assert float(content_distance(maps * 3, maps)) == pytest.approx(4.0)


def test_style_forgets_where_things_are_and_content_does_not() -> None:
    eyes = RandomFeatures(3, hidden_size=8, scales=2)
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    moved = picture.roll((8, 8), (2, 3))
    style = [gram(one) for one in eyes.maps(picture)]
    assert float(style_distance(eyes.maps(moved), style)) < 0.01
    assert float(content_distance(eyes.maps(moved)[-1], eyes.maps(picture)[-1])) > 0.01


def test_layers_are_the_last_of_each_size() -> None:
    stages = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Conv2d(4, 5, 3, padding=1)
    )
    picture = torch.rand(2, 3, 16, 16)
    first, second = LayerFeatures(stages).maps(picture)
    assert torch.equal(first, stages[:2](picture))
    assert torch.equal(second, stages(picture))
    assert not any(parameter.requires_grad for parameter in stages.parameters())


def test_the_temple_in_the_style_of_the_flower(pictures: Path, tmp_path: Path) -> None:
    settings = {"style.size": 64, "style.steps": 30}
    painted = paint(pictures / "temple.png", pictures / "flower.jpg", settings=settings, out=tmp_path / "p.png")
    first, last = painted.losses[0], painted.losses[-1]
    assert (first["step"], last["step"], first["content"]) == (0, 30, 0.0)
    assert last["style"] < 0.3 * first["style"]
    assert last["loss"] < 0.5 * first["loss"]
    assert np.array_equal(np.asarray(Pillow.open(tmp_path / "p.png")).transpose(2, 0, 1), painted.picture)
    assert painted.picture.shape == (3, 43, 64)
    again = paint(pictures / "temple.png", pictures / "flower.jpg", settings=settings)
    assert np.array_equal(again.picture, painted.picture)
    # More weight on the content leaves more of it.
    kept = paint(pictures / "temple.png", pictures / "flower.jpg", settings={**settings, "style.content_weight": 50.0})
    assert kept.losses[-1]["content"] < last["content"]


def test_a_style_of_its_own_changes_nothing(pictures: Path) -> None:
    flower = read_colours(pictures / "flower.jpg", 48)
    painted = optimized(flower, flower, Perception.of("random"), StyleRecipe(steps=10, smoothness=0.0))
    assert np.abs(painted.picture.astype(int) - painted.content).max() <= 1


def test_a_network_learns_the_style_and_paints_any_size(pictures: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "task": "style",
        "style.picture": str(pictures / "flower.jpg"),
        "network.options": {"hidden_sizes": [8, 8, 16], "depth": 1},
        "training.epochs": 8,
        "training.plan": "reference",  # measured, it would depend on what else the machine does
        "training.batch_size": 4,
        "evaluation.bootstrap": 20,
    }
    run = fit(pictures / "crops", settings=settings, out=tmp_path / "run", say=None, progress=False)
    as_it_was = run.results["baseline"]["the picture as it is"]["test"]
    assert as_it_was["content_distance"] == 0.0
    assert run.metrics["test"]["style_distance"] < 0.5 * as_it_was["style_distance"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "The style" in page
    assert "distance to the style" in page
    painted = paint(pictures / "temple.png", tmp_path / "run", out=tmp_path / "temple.png")
    assert painted.picture.shape == (3, 427, 640)
    table, _ = load(tmp_path / "run").predict_table(pictures / "crops")
    assert table.column_names == ["content_distance", "style_distance"]
    assert load(tmp_path / "run").predict(pictures / "crops").shape == (120, 3, 32, 32)


def test_a_run_that_was_moved_paints_and_measures_without_its_files(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The style goes along with the model; a backbone that is missing, or another by now, is named."""
    settings = {"training.epochs": 1, "training.plan": "reference", "evaluation.bootstrap": 20}
    labels = np.array(["a", "b"] * 30)
    eyes = {"network.name": "convolutional", **settings}
    colours = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    fit((colours, labels), settings=eyes, out=tmp_path / "eyes", say=None, progress=False)
    Pillow.fromarray(FLOWER).save(tmp_path / "style.png")
    asked = {"task": "style", "style.picture": str(tmp_path / "style.png"), "style.backbone": str(tmp_path / "eyes")}
    fit(pictures / "crops", settings={**asked, **settings}, out=tmp_path / "run", say=None, progress=False)
    before = load(tmp_path / "run").predict_table(pictures / "crops")[0]
    shown = paint(pictures / "temple.png", tmp_path / "run").style
    (tmp_path / "style.png").unlink()
    (tmp_path / "run").rename(tmp_path / "moved")
    assert load(tmp_path / "moved").predict_table(pictures / "crops")[0].equals(before)
    assert np.array_equal(paint(pictures / "temple.png", tmp_path / "moved").style, shown)
    assert main(["fit", str(tmp_path / "moved" / "recipe.toml"), "--out", str(tmp_path / "again")]) == 2
    assert "style.png" in capsys.readouterr().err
    (tmp_path / "eyes").rename(tmp_path / "old")
    with pytest.raises(RecipeError, match=r"eyes: the backbone of the style is not here; bring its folder back"):
        load(tmp_path / "moved").predict_table(pictures / "crops")
    fit((colours, labels), settings={**eyes, "seed": 1}, out=tmp_path / "eyes", say=None, progress=False)
    with pytest.raises(RecipeError, match="another than this model was trained with"):
        load(tmp_path / "moved").predict_table(pictures / "crops")


def test_a_network_that_was_trained_here_compares(pictures: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    grey = draw.integers(0, 256, (60, 16, 16), dtype=np.uint8)
    settings = {"training.epochs": 1, "evaluation.bootstrap": 20, "network.name": "convolutional"}
    labels = np.array(["a", "b"] * 30)
    fit((grey, labels), settings=settings, out=tmp_path / "eyes", say=None, progress=False)
    eyes = Perception.of(str(tmp_path / "eyes"))
    assert eyes.told == "convolutional of eyes, trained on 16 x 16 pixels"
    maps = eyes.maps(read_colours(pictures / "temple.png", 64))
    assert maps[0].shape[1] % 3 == 0  # eyes for grey look at each colour by itself
    painted = optimized(
        *(read_colours(pictures / name, 48) for name in ("temple.png", "flower.jpg")), eyes, StyleRecipe(steps=10)
    )
    assert painted.losses[-1]["loss"] < painted.losses[0]["loss"]


def test_the_command(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "painted.png"
    words = ["style", str(pictures / "temple.png"), str(pictures / "flower.jpg"), "--out", str(out), "--size", "48"]
    assert main([*words, "--steps", "4", "--set", "content_weight=2"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("compared by random filters")
    assert told[-1] == f"{out}   {out.with_suffix('.html')}"
    page = out.with_suffix(".html").read_text()
    assert "In 4 steps the distance to the style went from" in page


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["gone.png", "flower.jpg"], "gone.png: there is no such picture"),
        (["notes.txt", "flower.jpg"], "notes.txt: is not a picture"),
        (["temple.png", "flower.jpg", "--backbone", "nowhere"], "nowhere"),
        (["temple.png", "flower.jpg", "--out", "painted.tga"], 'the ending of "painted.tga" is not known'),
        (["temple.png", "flower.jpg", "--set", "weight=2"], 'unknown key "style.weight"'),
        (["temple.png", "crops"], "holds no finished model"),
    ],
)
def test_mistakes_are_told_in_one_line(
    words: list[str], told: str, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(pictures)
    (pictures / "notes.txt").write_text("no picture")
    assert main(["style", *words, "--size", "32", "--steps", "1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_the_task_needs_pictures_and_a_style(pictures: Path) -> None:
    with pytest.raises(RecipeError, match=r"style\.picture=FILE"):
        fit(pictures / "crops", settings={"task": "style"}, say=None)
    table = {"x": [1.5, 2.5] * 20}
    with pytest.raises((DataError, UserError), match=r"pictures|painting"):
        fit(table, settings={"task": "style", "style.picture": "x.png"}, say=None)


def test_eyes_for_grey_look_at_grey_pictures_as_at_colours() -> None:
    eyes = Perception(
        LayerFeatures(torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU())),
        channels=1,
        standardize=torch.nn.Identity(),
        told="",
    )
    grey = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    style = eyes.style_of(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)))
    one, other = (eyes.distances(seen, seen.flip(3), style) for seen in (grey, grey.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(one.style, other.style)
    torch.testing.assert_close(one.content, other.content)


def test_a_painting_that_cannot_be_written_is_not_painted(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sounding.run.optimized", None)
    with pytest.raises(RecipeError, match=r'the ending of ".*p.gif" is not known'):
        paint(pictures / "temple.png", pictures / "flower.jpg", out=tmp_path / "p.gif")
