"""Results of three runs that really took place: small networks beside simple models on data of scikit-learn."""

import base64
import io
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sklearn
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sounding.finding import Finding, Remedy
from sounding.recipe import Recipe
from sounding.watching import watch

Results = dict[str, Any]


@pytest.fixture(scope="session")
def digits() -> Results:
    return digits_results()


@pytest.fixture(scope="session")
def tumours() -> Results:
    return tumours_results()


@pytest.fixture(scope="session")
def diabetes() -> Results:
    return diabetes_results()


@pytest.fixture(scope="session")
def recipe_toml() -> str:
    return Recipe(source="@digits", target=["digit"]).to_toml()


def digits_results() -> Results:
    pictures, labels = load_digits(return_X_y=True)
    names = [str(label) for label in range(10)]
    fitted = _classification(pictures, labels, names, epochs=40)
    bitmaps = [_data_uri(picture) for picture in pictures]
    for example in fitted["examples"]:
        example["cells"] = {"image": {"picture": bitmaps[example["row"]]}}
    fitted["data"] |= {
        "source": "@digits",
        "notes": ["Split at random, every digit in the same share in each part."],
        "columns": [
            {
                "name": "digit",
                "kind": "category",
                "role": "target",
                "reason": "category, because it has 10 values",
                "describe": "10 values",
                "missing": 0,
                "top": [[str(value), int(count)] for value, count in enumerate(np.bincount(labels))],
            },
            {
                "name": "image",
                "kind": "image",
                "role": "input",
                "reason": "image, because the cells are pictures",
                "describe": "8 × 8, grey",
                "missing": 0,
                "pictures": bitmaps[:6],
            },
        ],
    }
    duplicates = Finding(
        rule="duplicates",
        severity="info",
        title="No picture occurs twice",
        evidence={"pictures": len(pictures)},
        meaning="Nothing of the test part was seen while training.",
    )
    return {
        **fitted,
        "run": "runs/digits-1",
        "network": "resnet",
        "findings": [duplicates.to_json()],
        "decisions": [
            "task: classification, because digit has 10 values",
            "network: resnet, because the input is pictures",
        ],
    }


def tumours_results() -> Results:
    source = load_breast_cancer()
    names = [str(name) for name in source.target_names]
    fitted = _classification(source.data, source.target, names, epochs=60)
    columns = [_number_column(str(name), source.data[:, i]) for i, name in enumerate(source.feature_names)]
    target = {
        "name": "diagnosis",
        "kind": "category",
        "role": "target",
        "reason": "category, because it has 2 values",
        "describe": "2 values",
        "missing": 0,
        "top": [[name, int((source.target == i).sum())] for i, name in enumerate(names)],
    }
    fitted["data"] |= {"source": "tumours.csv", "columns": [*columns, target]}
    for example in fitted["examples"]:
        row = source.data[example["row"]]
        example |= {"file": "tumours.csv", "line": example["row"] + 2}
        example["cells"] = {str(name): f"{value:.6g}" for name, value in zip(source.feature_names, row, strict=True)}
    found = [
        Finding(
            rule="related-columns",
            severity="info",
            title="mean radius, mean perimeter and mean area say nearly the same",
            evidence={"columns": ["mean radius", "mean perimeter", "mean area"], "correlation": 0.9979},
            meaning="What the model makes of each of them alone cannot be told apart.",
        ),
        Finding(
            rule="few-rows",
            severity="warning",
            title="57 rows measure the result: its interval is wide",
            evidence={"rows": 57, "column": "diagnosis"},
            meaning="Two models that differ by less than four points cannot be told apart on so few rows.",
            remedy=Remedy("Measure with more rows, at the price of fewer to learn from.", {"data.test": 0.3}),
            confirmed="Ten other splits moved the accuracy between 94 and 100 %.",
        ),
        Finding(
            rule="target-leak",
            severity="error",
            title="worst perimeter alone gives diagnosis away",
            evidence={"column": "worst perimeter", "roc_auc": 0.9755, "rows": [17, 402, 951]},
            meaning="If it is only known after the diagnosis, the result will not hold for new patients.",
            remedy=Remedy("Leave it out unless it is known beforehand.", {"data.ignore": ["worst perimeter"]}),
        ),
    ]
    return {
        **fitted,
        "run": "runs/tumours-3",
        "network": "tabm",
        "findings": [finding.to_json() for finding in found],
        "decisions": ["task: classification, because diagnosis has 2 values"],
    }


def diabetes_results() -> Results:
    source = load_diabetes(scaled=False)
    x, y = source.data, source.target
    parts = _parts(len(x), None)
    simple = {
        "mean": DummyRegressor(),
        "linear (ridge)": make_pipeline(StandardScaler(), Ridge()),
        "gradient-boosted trees": HistGradientBoostingRegressor(max_iter=20, random_state=0),
    }
    centre, scale = y[parts["train"]].mean(), y[parts["train"]].std()
    target = torch.tensor((y - centre) / scale, dtype=torch.float32)[:, None]
    answers, trained = _train(x, target, parts, torch.nn.MSELoss(), epochs=50, measure=None)
    for record in trained["history"]:
        record["validation"]["rmse"] = float(np.sqrt(record["validation"]["loss"]) * scale)
    predicted = answers[:, 0].astype(float) * scale + centre

    def measure(rows: NDArray[Any], said: NDArray[Any]) -> dict[str, float]:
        return {
            "rmse": float(root_mean_squared_error(y[rows], said)),
            "mae": float(mean_absolute_error(y[rows], said)),
            "r2": float(r2_score(y[rows], said)),
        }

    rows = parts["test"]
    compared = _compared(simple, x, y, parts, measure, predicted, "rmse")
    errors = predicted[rows] - y[rows]
    counts, edges = np.histogram(errors, 16)
    worst = np.argsort(-np.abs(errors))[:6]
    columns = [
        _number_column(name, x[:, i]) | ({"missing": 3} if name == "bp" else {})
        for i, name in enumerate(source.feature_names)
    ]
    return {
        **trained,
        **compared,
        "run": "runs/diabetes-1",
        "task": "regression",
        "network": "feedforward",
        "metrics": {part: measure(parts[part], predicted[parts[part]]) for part in ("validation", "test")},
        "intervals": {"test": _intervals(rows, predicted, measure)},
        "headline": {"metric": "rmse", "higher_is_better": False},
        "data": {
            "source": "diabetes.csv",
            "rows": {part: len(indices) for part, indices in parts.items()},
            "notes": ["3 missing values of bp were read as its mean."],
            "columns": [*columns, _number_column("progression", y) | {"role": "target"}],
        },
        "figures": {
            "scatter": {"truth": y[rows].tolist(), "prediction": predicted[rows].tolist(), "unit": "points"},
            "residuals": {"edges": edges.tolist(), "counts": counts.tolist()},
        },
        "examples": [
            {
                "row": int(rows[i]),
                "file": "diabetes.csv",
                "line": int(rows[i]) + 2,
                "truth": float(y[rows[i]]),
                "prediction": float(predicted[rows[i]]),
                "confidence": None,
                "loss": float(errors[i] ** 2),
                "cells": {name: float(value) for name, value in zip(source.feature_names, x[rows[i]], strict=True)},
            }
            for i in worst
        ],
        "findings": [],
        "decisions": ["task: regression, because progression is a number with 214 values"],
    }


def _classification(x: NDArray[Any], y: NDArray[Any], names: list[str], epochs: int) -> Results:
    parts = _parts(len(x), y)
    simple = {
        "majority class": DummyClassifier(),
        "linear (logistic regression)": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        "gradient-boosted trees": HistGradientBoostingClassifier(max_iter=10, random_state=0),
    }

    def measure(rows: NDArray[Any], said: NDArray[Any]) -> dict[str, float]:
        if said.ndim == 1:
            said = np.eye(len(names))[said]
        best = said.argmax(1)
        return {
            "accuracy": float(accuracy_score(y[rows], best)),
            "balanced_accuracy": float(balanced_accuracy_score(y[rows], best)),
            "f1": float(f1_score(y[rows], best, average="macro", zero_division=0.0)),
            "log_loss": float(log_loss(y[rows], said, labels=range(len(names)))),
        }

    answers, trained = _train(
        x,
        torch.tensor(y),
        parts,
        torch.nn.CrossEntropyLoss(),
        epochs=epochs,
        outputs=len(names),
        measure="accuracy",
    )
    probabilities = torch.softmax(torch.tensor(answers, dtype=torch.float64), 1).numpy()
    rows = parts["test"]
    best, sure = probabilities[rows].argmax(1), probabilities[rows].max(1)
    losses = -np.log(np.maximum(probabilities[rows, y[rows]], 1e-12))
    counts = confusion_matrix(y[rows], best, labels=range(len(names)))
    bins = []
    for low in np.arange(0, 1, 0.1):
        here = (sure > low) & (sure <= low + 0.1)
        if here.any():
            right = (best == y[rows])[here]
            bins.append(
                {
                    "confidence": float(sure[here].mean()),
                    "accuracy": float(right.mean()),
                    "count": int(here.sum()),
                }
            )
    wrong = [i for i in np.argsort(-losses) if best[i] != y[rows[i]]][:8]
    return {
        **trained,
        **_compared(simple, x, y, parts, measure, probabilities, "accuracy"),
        "task": "classification",
        "metrics": {part: measure(parts[part], probabilities[parts[part]]) for part in ("validation", "test")},
        "intervals": {"test": _intervals(rows, probabilities, measure)},
        "headline": {"metric": "accuracy", "higher_is_better": True},
        "data": {"rows": {part: len(indices) for part, indices in parts.items()}, "notes": []},
        "figures": {
            "confusion": {"labels": names, "counts": counts.tolist()},
            "calibration": {
                "bins": bins,
                "error": sum(b["count"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / len(rows),
            },
        },
        "examples": [
            {
                "row": int(rows[i]),
                "truth": names[y[rows[i]]],
                "prediction": names[best[i]],
                "confidence": float(sure[i]),
                "loss": float(losses[i]),
            }
            for i in wrong
        ],
    }


def _parts(count: int, labels: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
    rest, test = train_test_split(np.arange(count), test_size=0.2, random_state=0, stratify=labels)
    kept = None if labels is None else labels[rest]
    train, validation = train_test_split(rest, test_size=0.12, random_state=0, stratify=kept)
    return {"train": train, "validation": validation, "test": test}


def _train(
    x: NDArray[Any],
    target: torch.Tensor,
    parts: dict[str, NDArray[Any]],
    loss: torch.nn.Module,
    *,
    epochs: int,
    measure: str | None,
    outputs: int = 1,
) -> tuple[NDArray[Any], Results]:
    torch.manual_seed(0)
    inputs = torch.tensor((x - x[parts["train"]].mean(0)) / (x[parts["train"]].std(0) + 1e-6), dtype=torch.float32)
    network = torch.nn.Sequential(
        torch.nn.Linear(x.shape[1], 48), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(48, outputs)
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, total_steps=epochs)
    history, best, started = [], (float("inf"), 0, {}), time.perf_counter()
    watched = watch(network, optimizer, say=None, sparing=True).__enter__()
    for epoch in range(1, epochs + 1):
        network.train()
        losses = []
        for rows in np.array_split(np.random.default_rng(epoch).permutation(parts["train"]), 12):
            value = loss(network(inputs[rows]), target[rows])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
        network.eval()
        with torch.no_grad():
            said = network(inputs[parts["validation"]])
            truth = target[parts["validation"]]
            measured = {"loss": loss(said, truth).item()}
        if measure:
            measured[measure] = (said.argmax(1) == truth).double().mean().item()
        if measured["loss"] < best[0]:
            best = (
                measured["loss"],
                epoch,
                {name: value.clone() for name, value in network.state_dict().items()},
            )
        history.append(
            {
                "epoch": epoch,
                "train_loss": float(np.mean(losses)),
                "validation": measured,
                "learning_rate": schedule.get_last_lr()[0],
                "seconds": time.perf_counter() - started,
            }
        )
        schedule.step()
    watched.__exit__(None, None, None)
    network.load_state_dict(best[2])
    with torch.no_grad():
        answers = network(inputs).numpy()
    layers = [
        {
            "name": f"backbone.{i}",
            "type": type(layer).__name__,
            "parameters": sum(p.numel() for p in layer.parameters()),
            "output": f"(B, {48 if i < 3 else outputs})",
        }
        for i, layer in enumerate(network)
    ]
    return answers, {
        "parameters": sum(p.numel() for p in network.parameters()),
        "seconds": time.perf_counter() - started,
        "epochs": epochs,
        "history": history,
        "flow": {"began": 0, **watched.flow()},
        "best_epoch": best[1],
        "network_summary": layers,
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "scikit_learn": sklearn.__version__,
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
        },
        "sounding": "0.1.0",
        "finished": "2026-11-20T12:00:00Z",
        "seed": 0,
    }


def _intervals(
    rows: NDArray[Any], answers: NDArray[Any], measure: Callable[..., dict[str, float]]
) -> dict[str, list[float]]:
    draws = np.random.default_rng(0).integers(len(rows), size=(20, len(rows)))
    measured = [measure(rows[draw], answers[rows[draw]]) for draw in draws]
    return {name: np.quantile([values[name] for values in measured], [0.025, 0.975]).tolist() for name in measured[0]}


def _compared(
    simple: dict[str, Any],
    x: NDArray[Any],
    y: NDArray[Any],
    parts: dict[str, NDArray[Any]],
    measure: Callable[..., dict[str, float]],
    answers: NDArray[Any],
    metric: str,
) -> Results:
    rows, comparison = parts["test"], []
    baseline: dict[str, Any] = {}
    higher = metric == "accuracy"
    for name, model in simple.items():
        started = time.perf_counter()
        model.fit(x[parts["train"]], y[parts["train"]])
        said = model.predict_proba(x) if higher else model.predict(x)
        baseline[name] = {
            **{part: measure(parts[part], said[parts[part]]) for part in ("validation", "test")},
            "seconds": time.perf_counter() - started,
        }
        draws = np.random.default_rng(0).integers(len(rows), size=(20, len(rows)))
        differences = [
            measure(rows[draw], answers[rows[draw]])[metric] - measure(rows[draw], said[rows[draw]])[metric]
            for draw in draws
        ]
        comparison.append(
            {
                "name": name,
                "metric": metric,
                "difference": measure(rows, answers[rows])[metric] - baseline[name]["test"][metric],
                "interval": np.quantile(differences, [0.025, 0.975]).tolist(),
            }
        )
    closest = min(comparison, key=lambda row: row["difference"] if higher else -row["difference"])
    low, high = closest["interval"]
    wins = low > 0 if higher else high < 0
    headline = (
        "The network is worth it: it beats every simple model on this data"
        if wins
        else f"You may not need a network here: {closest['name']} does as well"
    )
    return {
        "baseline": baseline,
        "comparison": comparison,
        "verdict": {
            "headline": headline,
            "winner": "network" if wins else closest["name"],
            "metric": metric,
            "difference": closest["difference"],
            "interval": closest["interval"],
            "advice": "" if wins else "It is smaller, quicker and easier to explain: take it.",
        },
    }


def _number_column(name: str, cells: NDArray[Any]) -> Results:
    counts, edges = np.histogram(cells, 24)
    return {
        "name": name,
        "kind": "number",
        "role": "input",
        "reason": "number, because every cell is one",
        "describe": f"{cells.min():.4g} to {cells.max():.4g}",
        "missing": 0,
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _data_uri(picture: NDArray[Any]) -> str:
    sink = io.BytesIO()
    Image.fromarray((picture.reshape(8, 8) * 15).astype(np.uint8)).save(sink, format="PNG")
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode("ascii")
