"""Simple answers where boxes are to be found: where they usually are, and patches of the right colour and size."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import cast

import numpy as np
from scipy import ndimage
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from sounding.kinds.boxes import NOTHING
from sounding.randomness import draw_seed, generator
from sounding.tasks import Detection
from sounding.trust.problem import Model, Problem

MOST_PICTURES, MOST_PIXELS = 300, 40_000
"""Training pictures, and pixels of them, from which colours are learned."""
SIDE = 160
"""Pixels of the longer side on which patches are looked for."""
ROUNDED = 0.85
"""Of the half axes of the ellipse in a box: what lies in it is taken for the thing, not for what is around it."""
LEVELS = (0.3, 0.5, 0.7, 0.9)
"""Probabilities at which patches are cut out."""


def usual_boxes(problem: Problem) -> tuple[np.ndarray, str]:
    """Of each class as many boxes as there are on average, where those of the training pictures lie: k-means."""
    task = cast("Detection", problem.task)
    truth = problem.target[problem.split.train]
    boxes: list[np.ndarray] = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for code in range(task.outputs):
            own = truth[truth[..., 0] == code, 1:].astype(np.float64)
            count = min(max(round(len(own) / max(len(truth), 1)), 1), len(np.unique(own, axis=0)))
            if not count:
                continue
            seed = draw_seed(problem.seed, "baseline", "boxes") % 2**32
            found = KMeans(count, n_init=1, random_state=seed).fit(own)
            share = np.bincount(found.labels_, minlength=count) / len(truth)
            boxes += [
                np.array([code, min(score, 1.0), *centre])
                for score, centre in zip(share, found.cluster_centers_, strict=True)
            ]
    return np.tile(np.stack(boxes)[None], (len(problem.target), 1, 1)), ""


def coloured_patches(problem: Problem) -> tuple[np.ndarray, str]:
    """Of each class patches of pixels whose colour, a little blurred, is its own, as large as its boxes usually are."""
    task = cast("Detection", problem.task)
    (pictures,) = (array for name, array in problem.encoded.blocks.items() if name.startswith("image:"))
    shrink = max(1, round(max(pictures.shape[2:]) / SIDE))
    rows = problem.training_rows(MOST_PICTURES)
    learned = _colours(problem, pictures, rows, shrink)
    truth = problem.target[rows]
    sizes = [_sizes(truth[truth[..., 0] == code, 1:]) for code in range(task.outputs)]
    values = np.zeros((len(pictures), task.rules.most, 6))
    values[..., 0] = NOTHING
    for row in np.concatenate([problem.split.validation, problem.split.test]):
        chances = _chances(learned, pictures[row], shrink, task.outputs)
        found = [box for code in range(task.outputs) for box in _patches(chances[code], code, sizes[code], shrink)]
        found.sort(key=lambda box: -box[1])
        for place, box in enumerate(found[: task.rules.most]):
            values[row, place] = box
    limited = len(rows) < len(problem.split.train)
    return values, f"learned on {len(rows)} of {len(problem.split.train)} pictures, drawn at random" if limited else ""


def _features(picture: np.ndarray, shrink: int) -> np.ndarray:
    """(h, w, 2 * channels): colours of every so many pixels, and the same blurred."""
    small = ndimage.uniform_filter(picture.astype(np.float32) / 255, (0, shrink, shrink))[:, ::shrink, ::shrink]
    return np.concatenate([small, ndimage.gaussian_filter(small, (0, 2, 2))]).transpose(1, 2, 0)


def _colours(problem: Problem, pictures: np.ndarray, rows: np.ndarray, shrink: int) -> LogisticRegression:
    """What tells classes and background apart by the colour of a pixel."""
    draw = generator(problem.seed, "baseline", "pixels")
    features, codes = [], []
    for row in rows:
        seen = _features(pictures[row], shrink)
        marked = _marked(problem.target[row], seen.shape[:2], shrink)
        some = draw.choice(marked.size, min(marked.size, max(MOST_PIXELS // len(rows), 50)), replace=False)
        features.append(seen.reshape(-1, seen.shape[2])[some])
        codes.append(marked.ravel()[some])
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(max_iter=200).fit(np.concatenate(features), np.concatenate(codes))


def _marked(boxes: np.ndarray, size: tuple[int, int], shrink: int) -> np.ndarray:
    """(h, w) int: the class of each pixel, -1 for background; in each box an ellipse, small boxes above large ones."""
    marked = np.full(size, -1)
    down, across = (np.arange(side)[:, None] * shrink + shrink / 2 for side in size)
    there = boxes[boxes[:, 0] > NOTHING].astype(np.float64)
    for code, left, top, right, bottom in there[np.argsort(-np.prod(there[:, 3:] - there[:, 1:3], 1))]:
        x, y = (across.T - (left + right) / 2) / (right - left), (down - (top + bottom) / 2) / (bottom - top)
        marked[x**2 + y**2 <= (ROUNDED / 2) ** 2] = int(code)
    return marked


def _chances(learned: LogisticRegression, picture: np.ndarray, shrink: int, classes: int) -> np.ndarray:
    """(classes, h, w) probabilities."""
    seen = _features(picture, shrink)
    told = learned.predict_proba(seen.reshape(-1, seen.shape[2])).reshape(*seen.shape[:2], -1)
    chances = np.zeros((classes, *seen.shape[:2]))
    for at, code in enumerate(learned.classes_):
        if code >= 0:
            chances[int(code)] = told[..., at]
    return chances


def _sizes(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The median width and height of boxes, and by how much their logarithms spread."""
    if not len(boxes):
        return np.ones(2), np.ones(2)
    logs = np.log(np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0))
    return np.exp(np.median(logs, 0)), np.maximum(logs.std(0), 0.2)


def _patches(chance: np.ndarray, code: int, size: tuple[np.ndarray, np.ndarray], shrink: int) -> list[np.ndarray]:
    """Boxes around patches at several levels; their score says how likely they are, and how usual their size is."""
    usual, spread = size
    best: list[np.ndarray] = []
    for level in LEVELS:
        patches, count = ndimage.label(ndimage.binary_fill_holes(chance >= level))
        means = ndimage.mean(chance, patches, np.arange(1, count + 1)) if count else ()
        for place, mean in zip(ndimage.find_objects(patches), means, strict=True):
            low = np.array([place[1].start, place[0].start]) * shrink
            high = np.array([place[1].stop, place[0].stop]) * shrink
            unusual = np.log((high - low) / (usual * ROUNDED)) / spread
            score = float(mean) * float(np.exp(-0.5 * np.square(unusual).mean()))
            middle, half = (low + high) / 2, (high - low) / 2 / ROUNDED
            box = np.array([code, score, *(middle - half), *(middle + half)])
            inside = [at for at, other in enumerate(best) if _nested(box, other)]
            if all(best[at][1] < score for at in inside):
                best = [other for at, other in enumerate(best) if at not in inside] + [box]
    return [box for box in best if box[1] > 1e-3]


def _nested(box: np.ndarray, other: np.ndarray) -> bool:
    """Whether the middle of one box lies in the other."""
    for first, second in ((box, other), (other, box)):
        middle = (first[2:4] + first[4:6]) / 2
        if (second[2:4] <= middle).all() and (middle <= second[4:6]).all():
            return True
    return False


DETECTORS: Mapping[str, Model] = {
    "boxes where they usually are": usual_boxes,
    "patches of the right colour and size": coloured_patches,
}
