"""All cases."""

from __future__ import annotations

from benchmarks.watch.cases import autotrainer, forum, healthy, planted, thedeepchecker
from benchmarks.watch.cases.case import Faulty, Healthy

FAULTY: list[Faulty] = [*thedeepchecker.CASES, *autotrainer.CASES, *planted.CASES, *forum.CASES]
HEALTHY: list[Healthy] = healthy.CASES
