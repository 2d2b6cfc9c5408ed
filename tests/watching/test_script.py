"""A user's script under the watch: found, run as Python would run it, and left as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from programs import perceptron
from torch import nn
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers

from sounding.cli import main
from sounding.errors import UserError
from sounding.watching.discovery import Discovery, called_for
from sounding.watching.script import run_script

HEALTHY = """
    import sys
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(256, 4)
    y = (x[:, 0] > 0).long()
    for _ in range(5):
        for rows in torch.randperm(256).split(32):
            {zero}
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
"""


def written(folder: Path, text: str, end: str = "", zero: str = "optimizer.zero_grad()") -> Path:
    lines = [line[4:] for line in text.replace("{zero}", zero).splitlines()]
    path = folder / "train.py"
    path.write_text("\n".join(lines) + "\n" + end)
    return path


def is_left_clean() -> bool:
    return not (
        modules._global_forward_pre_hooks or modules._global_forward_hooks or optimizers._global_optimizer_post_hooks
    )


def test_a_faulty_script_is_found_and_told_twice(tmp_path):
    said = []
    outcome = run_script(written(tmp_path, HEALTHY, zero="pass"), say=said.append)
    assert [finding.rule for finding in outcome.findings if finding.severity != "info"] == ["zero_grad_missing"]
    assert outcome.exit_status == 0
    assert said[0].startswith("watch: step 4: error zero_grad_missing")
    assert said[-1].startswith("watch: error zero_grad_missing")
    assert is_left_clean()


def test_a_healthy_script_hears_nothing_and_is_watched_from_the_second_step(tmp_path):
    said = []
    outcome = run_script(written(tmp_path, HEALTHY), say=said.append)
    assert outcome.findings == []
    assert len(said) == 1
    assert "nothing found in 39 steps" in said[0]  # of 40


def test_it_finds_itself_started_as_python_starts_it(tmp_path, capsys):
    (tmp_path / "beside.py").write_text("WORD = 'found'\n")
    script = tmp_path / "script.py"
    script.write_text("import sys, beside\nprint(__name__, sys.argv, beside.WORD)\n")
    before = list(sys.argv), list(sys.path)
    run_script(script, ["--epochs", "3"])
    assert capsys.readouterr().out == f"__main__ {[str(script), '--epochs', '3']} found\n"
    assert (sys.argv, sys.path) == before


@pytest.mark.parametrize(
    ("end", "status", "last"),
    [("sys.exit(3)", 3, ""), ("sys.exit('no data')", 1, "no data\n"), ("sys.exit()", 0, ""), ("1 / 0", 1, None)],
)
def test_exit_status_and_traceback_are_those_of_the_script(tmp_path, capsys, end, status, last):
    path = written(tmp_path, HEALTHY, end)
    outcome = run_script(path)
    plain = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    told = capsys.readouterr().err
    assert outcome.exit_status == plain.returncode == status
    assert told == plain.stderr
    assert last is None or told == last
    assert is_left_clean()


def test_what_was_seen_up_to_an_exception_is_told(tmp_path):
    outcome = run_script(written(tmp_path, HEALTHY, "1 / 0", zero="pass"))
    assert [finding.rule for finding in outcome.findings] == ["zero_grad_missing"]


def test_a_missing_script_is_one_line(tmp_path, capsys):
    with pytest.raises(UserError, match="there is no such script"):
        run_script(tmp_path / "absent.py")
    assert main(["check", str(tmp_path / "absent.py")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_gives_findings_as_json_and_arguments_to_the_script(tmp_path, capsys):
    path = written(tmp_path, HEALTHY, "print(sys.argv[1:])", zero="pass")
    assert main(["check", str(path), "--epochs", "3", "--json", "--seed", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "['--epochs', '3', '--seed', '1']"
    assert [finding["rule"] for finding in json.loads(lines[-1])["findings"]] == ["zero_grad_missing"]
    assert main(["check", str(path), "--", "--json"]) == 0
    assert capsys.readouterr().out == "['--json']\n"


def test_a_script_without_training_is_told_so(tmp_path):
    said = []
    (tmp_path / "empty.py").write_text("")
    run_script(tmp_path / "empty.py", say=said.append)
    assert said == ["watch: no optimizer of PyTorch made two steps, so there was nothing to watch"]


# Discovery.


def step(model: nn.Module, optimizer: torch.optim.Optimizer, rows: int = 16) -> None:
    optimizer.zero_grad()
    model(torch.randn(rows, 4)).square().mean().backward()
    optimizer.step()


def test_players_that_take_turns_are_watched_together():
    one, other = perceptron(4, 8, 2), nn.Linear(4, 4)
    first = torch.optim.SGD(one.parameters(), lr=0.01)
    second = torch.optim.SGD(other.parameters(), lr=0.01)
    with Discovery() as discovery:
        for _ in range(12):
            step(one, first)
            step(other, second)
    assert len(discovery.watches) == 1
    players = discovery.watches[0].players
    assert {name: seen.model for name, seen in players.items()} == {"Sequential": one, "Linear": other}
    assert [seen.done for seen in players.values()] == [11, 11]


def test_each_fold_has_a_watch_of_its_own():
    with Discovery() as discovery:
        for _ in range(3):
            model = perceptron(4, 8, 2)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
            for _ in range(20):
                step(model, optimizer)
    assert [[seen.done for seen in one.players.values()] for one in discovery.watches] == [[19], [18], [18]]


def test_listening_to_modules_ends_after_a_few_steps():
    model = perceptron(4, 8, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with Discovery():
        step(model, optimizer)
        assert modules._global_forward_pre_hooks
        for _ in range(12):
            step(model, optimizer)
        assert not modules._global_forward_pre_hooks


def test_a_part_of_the_model_that_the_loop_does_not_call_is_not_taken_for_it():
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.body(x))

    model = Whole()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.01)
    with Discovery() as discovery:
        for _ in range(3):
            step(model, optimizer)
    assert discovery.watches[0].players["Whole"].model is model


def test_an_optimizer_of_another_model_is_watched_with_the_model_that_is_called():
    model, other = nn.Linear(4, 2), nn.Linear(4, 2)
    assert called_for(torch.optim.SGD(other.parameters(), lr=0.1), [model]) is model


def test_an_error_within_a_module_does_not_confuse_what_the_loop_calls():
    broken, model = nn.Linear(3, 3), perceptron(4, 8, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with Discovery() as discovery:
        with pytest.raises(RuntimeError):
            broken(torch.randn(2, 5))
        step(model, optimizer)
        step(model, optimizer)
    assert discovery.watches[0].players["Sequential"].model is model
