"""Detectors of the library transformers as the beginning of a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from drawn import shapes, table

from sounding.errors import RecipeError
from sounding.fitting import fit
from sounding.run import load

pytest.importorskip("transformers")
from encoders import save_bert, save_vit, save_yolos
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig, YolosForObjectDetection

QUICK = {"training.plan": "given", "training.epochs": 2, "training.watch": False, "evaluation.bootstrap": 20}
QUIET = {"say": None, "progress": False}


def save_detr(folder: Path) -> Path:
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], layer_type="basic", out_features=["stage4"]
    )
    sizes = {f"{part}_{what}": 2 for part in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    sizes |= {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "d_model": 16, "num_queries": 9}
    torch.manual_seed(0)
    DetrForObjectDetection(DetrConfig(backbone_config=backbone, **sizes)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.3], "size": {"shortest_edge": 32}}'
    )
    return folder


@pytest.mark.parametrize("save", [save_yolos, save_detr])
def test_a_run_begins_with_a_detector_and_needs_its_folder_no_more(save: object, tmp_path: Path) -> None:
    pictures, boxes = shapes(60, seed=1, size=(32, 48), most=2)
    folder = save(tmp_path / "detector")  # type: ignore[operator]
    settings = {**QUICK, "network.name": f"hf:{folder}"}
    run = fit(table(pictures, boxes), "boxes", settings=settings, out=tmp_path / "run", **QUIET)  # type: ignore[arg-type]
    assert "map50" in run.metrics["test"]
    assert run.recipe.training.optimizer.rates == {"*pretrained.*": 0.05}
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "run" / "model", tmp_path / "alone")
    again = load(tmp_path / "alone")
    new = {"image": pictures[:4]}
    for one, other in zip(again.network(torch.from_numpy(pictures[:4]).movedim(3, 1)), run.network(
        torch.from_numpy(pictures[:4]).movedim(3, 1)
    ), strict=True):  # fmt: skip
        assert torch.equal(one, other)
    assert again.predict_table(new)[0].equals(run.predict_table(new)[0])


def test_its_boxes_are_those_of_the_library(tmp_path: Path) -> None:
    from sounding.tasks.prepare import prepare

    folder = save_yolos(tmp_path / "yolos")
    pictures, boxes = shapes(60, seed=1, size=(32, 48), most=2)
    prepared = prepare(table(pictures, boxes), {**QUICK, "target": ["boxes"], "network.name": f"hf:{folder}"})
    some = torch.from_numpy(pictures[:3]).movedim(3, 1)
    theirs = YolosForObjectDetection.from_pretrained(folder).eval()
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.2, 0.3]).view(3, 1, 1)
    with torch.no_grad():
        found = prepared.network().eval()(some)
        x, y, across, down = theirs(pixel_values=(some / 255 - mean) / std).pred_boxes.unbind(2)
    assert found.logits.shape == (3, 12, 2)
    expected = torch.stack([(x - across / 2) * 48, (y - down / 2) * 32, (x + across / 2) * 48, (y + down / 2) * 32], 2)
    torch.testing.assert_close(found.boxes, expected)


def test_an_encoder_finds_no_boxes_and_a_detector_no_classes(tmp_path: Path) -> None:
    pictures, boxes = shapes(60, seed=1, size=(32, 48), most=2)
    vit, yolos, bert = save_vit(tmp_path / "vit"), save_yolos(tmp_path / "yolos"), save_bert(tmp_path / "bert")
    for folder, said in ((vit, "gives logits, and the task asks for detections"), (bert, "reads texts")):
        with pytest.raises(RecipeError, match=said):
            fit(table(pictures, boxes), "boxes", settings={**QUICK, "network.name": f"hf:{folder}"}, **QUIET)  # type: ignore[arg-type]
    source = {"image": pictures, "kind": ["full" if one else "empty" for one in boxes]}
    with pytest.raises(RecipeError, match="gives detections, and the task asks for logits"):
        fit(source, "kind", settings={**QUICK, "network.name": f"hf:{yolos}"}, **QUIET)  # type: ignore[arg-type]
