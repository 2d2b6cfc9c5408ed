from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from sounding.training import Trainer, progress
from sounding.training.loop import EpochRecord, StepRecord
from sounding.training.progress import ProgressBar

ROWS = torch.arange(4)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def epoch(number: int) -> EpochRecord:
    return EpochRecord(number, {"network": 0.5}, {"loss": 0.25, "accuracy": 0.9}, 1e-3, 2.0, (number + 1) / 3)


def test_plain_lines_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    stream = io.StringIO()
    with ProgressBar(3, stream=stream) as bar:
        bar(StepRecord(0, 0, "network", 0.7, None, 1e-3, ROWS, 0.1))
        bar(epoch(0))
    assert stream.getvalue() == ("epoch 1/3  train loss 0.5  validation  loss 0.25  accuracy 0.9  lr 0.001  2.0 s\n")


def test_quick_epochs_do_not_fill_a_log_and_the_last_is_always_there():
    stream = io.StringIO()
    with ProgressBar(3, stream=stream) as bar:
        for number in range(3):
            bar(epoch(number))
    lines = stream.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/3", "epoch 3/3"]


def test_a_live_bar_on_a_terminal(monkeypatch):
    monkeypatch.setattr(progress, "REFRESH", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    stream = Terminal()
    with ProgressBar(3, stream=stream) as bar:
        bar(StepRecord(0, 0, "network", 0.7, None, 1e-3, ROWS, 0.1))
        bar(epoch(0))
        bar(StepRecord(1, 0, "network", 0.6, None, 1e-3, ROWS, 0.4))
    shown = stream.getvalue()
    for part in ("loss 0.7", "accuracy 0.9", "epoch 2/3  loss 0.6", "lr 0.001", "40 %"):
        assert part in shown, part


def test_a_stream_that_breaks_does_not_stop_training():
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    reached = 0
    with ProgressBar(3, stream=Full()) as bar:
        for number in range(2):
            bar(epoch(number))
            reached += 1
    assert reached == 2


@pytest.mark.parametrize("shown", [True, False])
def test_goes_to_standard_error_or_nowhere(shown, capsys):
    x = torch.randn(8, 2)
    Trainer(nn.Linear(2, 2), epochs=1, progress=shown).fit((x, torch.zeros(8, dtype=torch.long)))
    out, err = capsys.readouterr()
    assert out == ""
    assert bool(err) is shown
