"""From scores of strangeness to alarms whose rate is known: split conformal p-values.

Sources: Vovk et al. 2005 (conformal prediction); Bates, Candes, Lei, Romano and Sesia 2023, "Testing for outliers with
conformal p-values", Annals of Statistics 51(1), arXiv:2104.08279, equation 1.

calibration:  (n,) scores of normal rows that played no part in training, higher for stranger ones.

Whatever the scores are, a normal row that is drawn as these were has a p-value of at most a with a probability of at
most a. It speaks of the average over calibrations: `realised_rates` says how far a single one may be off.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import beta


def p_values(scores: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    """(N,) how usual scores as high are: the share of the calibration with scores as high, the row itself counted in.

    The smallest is 1 / (n + 1). Equal scores count as as high, which makes alarms rarer, never more frequent.

    >>> p_values(np.array([0.0, 2.0, 9.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    array([1. , 0.8, 0.2])
    """
    ordered = np.sort(calibration)
    as_high = len(ordered) - np.searchsorted(ordered, scores, side="left")
    values: np.ndarray = (1 + as_high) / (len(ordered) + 1)
    return values


def threshold(calibration: np.ndarray, false_alarms: float) -> float:
    """The score above which, and not at which, a row's p-value is at most `false_alarms`.

    Infinite where the calibration is too small to say so of any row: it takes 1 / false_alarms - 1 rows.

    >>> threshold(np.arange(1.0, 20.0), 0.05), threshold(np.arange(1.0, 20.0), 0.04)
    (19.0, inf)
    """
    allowed = _allowed(len(calibration), false_alarms)
    return float(np.sort(calibration)[-allowed]) if allowed else math.inf


def fewest(false_alarms: float) -> int:
    """The rows that a calibration needs for alarms at this rate.

    >>> fewest(0.05), fewest(0.001)
    (19, 999)
    """
    return math.ceil(round(1 / false_alarms, 9)) - 1


def realised_rates(rows: int, false_alarms: float, share: float = 0.95) -> tuple[float, float]:
    """Between which rates the false alarms of one calibration of so many rows lie, with a probability of `share`.

    Given the calibration, the rate follows a beta distribution (for scores without ties): Vovk 2012, arXiv:1209.2673,
    proposition 2a; Bates et al. 2023, section 3.

    >>> low, high = realised_rates(199, 0.05)
    >>> round(low, 3), round(high, 3)
    (0.024, 0.084)
    """
    allowed = _allowed(rows, false_alarms)
    if not allowed:
        return 0.0, 0.0
    low, high = (float(beta.ppf(at, allowed, rows + 1 - allowed)) for at in ((1 - share) / 2, (1 + share) / 2))
    return low, high


def _allowed(rows: int, false_alarms: float) -> int:
    """The largest k with k / (rows + 1) <= false_alarms; 1e-9 keeps 0.05 * 20 from falling below 1."""
    return min(math.floor(false_alarms * (rows + 1) + 1e-9), rows)
