"""Simple answers where a text is to be written: the source as it is, and what training has for the most similar one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from threadpoolctl import threadpool_limits

from sounding.trust.problem import Model, Problem

TOGETHER = 256
"""Rows whose neighbours are looked for at once."""


def as_it_is(problem: Problem) -> tuple[np.ndarray, str]:
    """The source: right for names and numbers."""
    return np.array([*_sources(problem), None], dtype=object)[:-1], ""


def of_the_nearest(problem: Problem) -> tuple[np.ndarray, str]:
    """What the training row says whose source is most similar, by the cosine of TF-IDF weights of words and characters.

    Training rows themselves are not asked for, and stay empty.
    """
    texts, train = _sources(problem), problem.split.train
    values = np.full(len(texts), "", dtype=object)
    learned = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, dtype=np.float32, min_df=2)
    if len(train) < 20:
        learned.set_params(min_df=1)
    with threadpool_limits(1):
        known = learned.fit_transform([texts[row] for row in train])
        for rows in (problem.split.validation, problem.split.test):
            for at in range(0, len(rows), TOGETHER):
                some = rows[at : at + TOGETHER]
                alike = learned.transform([texts[row] for row in some]) @ known.T
                values[some] = problem.target[train[np.asarray(alike.argmax(1)).ravel()]]
    return values, ""


def _sources(problem: Problem) -> list[str]:
    """The text that is read, of every row."""
    (field,) = problem.schema.inputs
    return [text or "" for text in field.column(problem.table).plain.to_pylist()]


TRANSLATIONS: Mapping[str, Model] = {
    "the source as it is": as_it_is,
    "the translation of the most similar training text": of_the_nearest,
}
