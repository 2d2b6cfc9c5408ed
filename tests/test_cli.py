"""The command line as a contract: exit status, one line of error, one object of JSON, files that others can read."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sounding.cli import main
from sounding.recipe import Recipe
from sounding.report.words import number
from sounding.run import Events
from sounding.training import EpochRecord, StepRecord

QUICK = ["--epochs", "2", "--set", "evaluation.bootstrap=50"]


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small table: the kind follows from the petal, and a column of noise."""
    folder = tmp_path_factory.mktemp("flowers")
    generator = np.random.default_rng(0)
    with (folder / "flowers.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["petal", "colour", "noise", "kind"])
        for _ in range(240):
            kind = generator.integers(2)
            petal = round(float(generator.normal(2 + 3 * kind, 0.5)), 3)
            rows.writerow(
                [petal, ["red", "blue"][generator.integers(2)], generator.integers(99), ["rose", "iris"][kind]]
            )
    return folder / "flowers.csv"


@pytest.fixture(scope="module")
def run(flowers: Path) -> Path:
    """A finished run on it."""
    out = flowers.parent / "run"
    assert main(["fit", str(flowers), "--target", "kind", "--out", str(out), "--quiet", *QUICK]) == 0
    return out


def test_help_is_quick_to_load_and_knows_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for command in ("fit", "predict", "evaluate", "resume", "check", "report", "data"):
        assert command in shown


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys, sounding.cli as c\n"
        "try: c.main(['fit', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pyarrow', 'sklearn', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_json_is_the_last_line_and_keeps_its_promise(
    flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["fit", str(flowers), "--target", "kind", "--out", str(out), "--json", "--seed", "3", *QUICK]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(result) == set("run task network parameters seconds epochs metrics intervals baseline findings".split())
    assert result["task"] == "classification"
    assert result["epochs"] == 2
    assert set(result["metrics"]) == {"validation", "test"}
    low, high = result["intervals"]["test"]["accuracy"]
    assert low <= result["metrics"]["test"]["accuracy"] <= high
    assert {"a linear model", "gradient-boosted trees"} <= set(result["baseline"])
    assert Path(result["run"]) == out


def test_a_run_leaves_the_folder_that_the_design_names(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "recipe.toml",
        "environment.json",
        "schema.json",
        "events.jsonl",
        "checkpoints",
        "model",
        "report.html",
    }
    shipped = {path.name for path in (run / "model").iterdir()}
    assert shipped == {"network.safetensors", "schema.json", "recipe.toml", "card.json", "manifest.json"}
    kinds = [json.loads(line)["kind"] for line in (run / "events.jsonl").read_text().splitlines()]
    assert kinds.count("epoch") == 2
    assert kinds[-1] == "finished"


def test_the_recipe_of_a_run_repeats_it_bit_for_bit(run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert main(["fit", str(run / "recipe.toml"), "--out", str(again), "--quiet"]) == 0
    name = "model/network.safetensors"
    assert (again / name).read_bytes() == (run / name).read_bytes()


def test_predictions_as_csv_and_as_parquet_agree(run: Path, flowers: Path, tmp_path: Path) -> None:
    assert main(["predict", str(run), str(flowers), "--out", str(tmp_path / "a.csv"), "--quiet"]) == 0
    assert main(["predict", str(run), str(flowers), "--out", str(tmp_path / "a.parquet"), "--quiet"]) == 0
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert len(rows) == len(table) == 240
    assert [row["prediction"] for row in rows] == [row["prediction"] for row in table]
    for row in table:
        assert row["probability_iris"] + row["probability_rose"] == pytest.approx(1)
        assert row["prediction"] == max(("iris", "rose"), key=lambda label: row[f"probability_{label}"])


def test_evaluate_agrees_with_predictions(
    run: Path, flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), str(flowers), "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert main(["predict", str(run), str(flowers), "--out", str(tmp_path / "a.csv"), "--quiet"]) == 0
    with (tmp_path / "a.csv").open(newline="") as file, flowers.open(newline="") as truth:
        pairs = list(zip(csv.DictReader(file), csv.DictReader(truth), strict=True))
    right = sum(said["prediction"] == true["kind"] for said, true in pairs)
    assert metrics["accuracy"] == pytest.approx(right / len(pairs))


def test_a_run_never_writes_over_another(run: Path, flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "results.json").read_bytes()
    assert main(["fit", str(flowers), "--target", "kind", "--out", str(run), *QUICK]) == 2
    assert "not empty" in capsys.readouterr().err
    assert (run / "results.json").read_bytes() == before


def test_a_recipe_that_is_edited_trains_the_edited_run(run: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text((run / "recipe.toml").read_text().replace("epochs = 2", "epochs = 1"))
    assert main(["fit", str(recipe), "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert json.loads((tmp_path / "run" / "results.json").read_text())["epochs"] == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fit"], "SOURCE"),
        (["fitt", "x.csv"], "invalid choice"),
        (["fit", "no-such-file.csv", "--target", "x"], "no-such-file.csv"),
        (["fit", "FLOWERS"], "--target and one of: petal, colour, noise, kind"),
        (["fit", "FLOWERS", "--target", "kinds"], 'did you mean "kind"?'),
        (["fit", "FLOWERS", "--target", "kind", "--set", "training.epoch=3"], 'did you mean "epochs"?'),
        (["fit", "FLOWERS", "--target", "kind", "--set", "training.epochs=many"], "give a whole number"),
        (["fit", "FLOWERS", "--target", "kind", "--set", "training.epochs"], 'has no "="'),
        (["fit", "FLOWERS", "--target", "kind", "--time", "soon"], "not a duration"),
        (["fit", "FLOWERS", "--target", "kind", "--task", "clasification"], 'did you mean "classification"?'),
        (["fit", "FLOWERS", "--target", "kind", "--network", "resnett"], "there is no network"),
        (["fit", "FLOWERS", "--target", "kind", "--network", "resnet"], "takes pictures"),
        (["fit", "FLOWERS", "--target", "kind", "--set", "network.options.dropuot=0.1"], 'did you mean "dropout"?'),
        (["fit", "FLOWERS", "--target", "kind", "--set", "training.optimizer.name=adamm"], "adam"),
        (["predict", "no-such-run", "FLOWERS"], "no-such-run"),
        (["evaluate", "RUN", "no-such-file.csv"], "no-such-file.csv"),
        (["resume", "no-such-run"], "there is no run here"),
        (["data", "irises"], "iris"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    words: list[str],
    expected: str,
    flowers: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([{"FLOWERS": str(flowers), "RUN": str(run)}.get(word, word) for word in words]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert expected in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir()), "a mistake leaves no folder behind"


@pytest.mark.slow
def test_the_reference_plan_is_plain_float32_and_the_measured_one_is_written_down(
    flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOUNDING_CACHE", str(tmp_path / "cache"))
    for plan in ("reference", "measure"):
        out = tmp_path / plan
        command = ["fit", str(flowers), "--target", "kind", *QUICK, "--plan", plan, "--out", str(out), "--quiet"]
        assert main(command) == 0
        kinds = [event["kind"] for event in Events(out)]
        recipe = Recipe.from_toml((out / "recipe.toml").read_text()).training
        if plan == "reference":
            assert (recipe.plan, recipe.precision, recipe.float32_matmul) == ("reference", "float32", "highest")
            assert "plan" not in kinds
        else:
            assert recipe.plan == "given"
            assert recipe.threads >= 1
            assert "plan" in kinds


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_tr24_a_full_log_does_not_stop_a_run(flowers: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "sounding", "fit", str(flowers), "--target", "kind", *QUICK, "--out", str(out)]
    with open("/dev/full", "w") as full:
        subprocess.run(command, stdout=full, stderr=full, check=False)
    assert (out / "results.json").is_file()
    assert (out / "report.html").is_file()


def test_sigterm_saves_and_resume_ends_in_the_same_bits(flowers: Path, tmp_path: Path) -> None:
    words = [
        "fit",
        str(flowers),
        "--target",
        "kind",
        "--quiet",
        "--set",
        "evaluation.bootstrap=20",
        "--set",
        "training.batch_size=8",
        "--epochs",
        "40",
        "--set",
        "training.patience=0",
        "--plan",
        "reference",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    alone = subprocess.run(
        [sys.executable, "-m", "sounding", *words, "--out", str(tmp_path / "alone")], env=environment
    )
    assert alone.returncode == 0

    stopped = subprocess.Popen(
        [sys.executable, "-m", "sounding", *words, "--out", str(tmp_path / "stopped")],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    events = tmp_path / "stopped" / "events.jsonl"
    while not (events.exists() and '"epoch"' in events.read_text()):
        assert stopped.poll() is None, stopped.communicate()
        time.sleep(0.02)
    stopped.send_signal(signal.SIGTERM)
    _, error = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, error
    assert f"sounding resume {tmp_path / 'stopped'}" in error

    resumed = subprocess.run(
        [sys.executable, "-m", "sounding", "resume", str(tmp_path / "stopped"), "--quiet"], env=environment
    )
    assert resumed.returncode == 0
    name = "model/network.safetensors"
    assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_resume_refuses_changed_data(
    tmp_path: Path, flowers: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "data.csv"
    copy.write_bytes(flowers.read_bytes())
    out = tmp_path / "run"
    assert main(["fit", str(copy), "--target", "kind", "--out", str(out), "--quiet", *QUICK]) == 0
    copy.write_text(copy.read_text().replace("red", "green", 1))
    assert main(["resume", str(out), "--quiet"]) == 2
    assert "data have changed" in capsys.readouterr().err


WRONG = {"rule": "numerics", "severity": "error", "title": "no number", "evidence": {"step": 7}, "meaning": "It broke."}
WRONG |= {"remedy": {"text": "lower the rate", "set": {}}, "confirmed": ""}


@pytest.fixture
def stopped(run: Path, tmp_path: Path) -> Path:
    """What a run leaves that was stopped, resumed and killed: findings told twice, and a torn last line."""
    folder = tmp_path / "stopped"
    folder.mkdir()
    shutil.copy(run / "recipe.toml", folder)
    with (folder / "events.jsonl").open("w") as file:
        for event in ({"kind": "finding", **WRONG}, {"kind": "epoch", "epoch": 0}, {"kind": "epoch", "epoch": 1}):
            file.write(json.dumps(event) + "\n")
        file.write(json.dumps({"kind": "finding", **WRONG}) + '\n{"kind": "fin')
    return folder


def test_check_shows_the_findings_of_a_run(flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = flowers.read_text().splitlines()
    odd = tmp_path / "odd.csv"
    odd.write_text("\n".join([f"unit,{rows[0]}", *(f"kg,{row}" for row in rows[1:])]))
    out = tmp_path / "run"
    assert main(["fit", str(odd), "--target", "kind", "--out", str(out), "--json", "--quiet", *QUICK]) == 0
    fitted = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert any("unit" in finding["title"] for finding in fitted["findings"])

    assert main(["check", str(out), "--json"]) == 0
    checked = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert checked["findings"] == fitted["findings"]
    batches = -(-192 // Recipe.from_toml((out / "recipe.toml").read_text()).training.batch_size)
    assert (checked["run"], checked["finished"], checked["epochs"]) == (str(out), True, 2)
    assert checked["steps"] == 2 * batches
    assert 0 < checked["looked_at"] <= checked["steps"]

    assert main(["check", str(out)]) == 0
    first, *told, last = capsys.readouterr().out.splitlines()
    assert first == "finished after 2 epochs"
    assert [line.partition(": ")[0] for line in told] == [f"{f['severity']} {f['rule']}" for f in fitted["findings"]]
    assert all(f["title"] in line for f, line in zip(fitted["findings"], told, strict=True))
    assert last == f"the watch saw {checked['steps']} steps, {checked['looked_at']} of them closely"


def test_check_puts_errors_first_and_says_when_nothing_was_found(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    results = json.loads((run / "results.json").read_text())
    for findings, expected in (
        ([], ["nothing found"]),
        ([{**WRONG, "severity": "info", "title": "noted", "remedy": None}, WRONG],
         ["error numerics: no number; lower the rate", "info numerics: noted"]),
    ):  # fmt: skip
        (copy / "results.json").write_text(json.dumps({**results, "findings": findings, "flow": {}}))
        assert main(["check", str(copy)]) == 0
        assert capsys.readouterr().out.splitlines() == ["finished after 2 epochs", *expected]
    del results["flow"]  # as of runs before there was one
    (copy / "results.json").write_text(json.dumps(results))
    assert main(["check", str(copy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] is None


def test_check_of_a_run_that_is_not_finished_shows_what_was_found_so_far(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(stopped)]) == 0
    first, *told = capsys.readouterr().out.splitlines()
    assert first.startswith("not finished, 2 epochs so far")
    assert first.endswith(f"sounding resume {stopped}")
    assert told == ["error numerics: no number; lower the rate"]
    assert main(["check", str(stopped), "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    assert checked == {
        "run": str(stopped), "finished": False, "epochs": 2, "steps": None, "looked_at": None, "findings": [WRONG],
    }  # fmt: skip


def test_check_of_a_run_takes_no_settings(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(run), "--seed", "3"]) == 2
    assert "a run is checked as it is" in capsys.readouterr().err


def test_a_run_keeps_what_the_watch_saw_of_each_layer_and_draws_it(run: Path) -> None:
    flow = json.loads((run / "results.json").read_text())["flow"]
    (player,) = flow["players"].values()
    assert flow["began"] == 0
    assert player["steps"][0] == 1
    assert player["steps"][-1] <= player["done"]
    assert {"head"} <= {layer["name"] for layer in player["layers"]}
    page = (run / "report.html").read_text()
    assert 'id="layers"' in page
    assert f"head, step 1: {number(player['layers'][-1]['gradient'][0])}" in page


def test_steps_after_resuming_are_counted_from_where_it_began(flowers: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["fit", str(flowers), "--target", "kind", "--out", str(out), "--quiet", *QUICK, "--epochs", "4"]

    record = Events.record

    def stopping(self: Events, one: StepRecord | EpochRecord) -> None:
        record(self, one)
        if isinstance(one, EpochRecord) and one.epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Events, "record", stopping)
        assert main(words) == 130
    assert main(["resume", str(out), "--quiet"]) == 0
    flow = json.loads((out / "results.json").read_text())["flow"]
    (player,) = flow["players"].values()
    assert flow["began"] == 3
    batches = -(-192 // Recipe.from_toml((out / "recipe.toml").read_text()).training.batch_size)
    assert player["done"] == batches


HEALED = ["--heal", "--epochs", "4", "--network", "feedforward", "--set", "evaluation.bootstrap=20"]
HEALED += [word for key in ("optimizer.lr=30.0", "plan=given", "threads=1") for word in ("--set", f"training.{key}")]


def weights(run: Path) -> bytes:
    return (run / "model" / "network.safetensors").read_bytes()


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table that asks for more than a straight line."""
    path = tmp_path_factory.mktemp("products") / "products.csv"
    lines = ["a,b,c,kind"]
    for a, b, c in np.random.default_rng(0).normal(size=(400, 3)).round(3):
        lines.append(f"{a},{b},{c},{('rose', 'iris')[int(a + b * c > 0)]}")
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def healed(products: Path) -> Path:
    out = products.parent / "healed"
    assert main(["fit", str(products), "--target", "kind", "--out", str(out), "--quiet", *HEALED]) == 0
    return out


def test_heal_mends_the_rate_and_leaves_the_recipe_that_repeats_the_run(healed: Path, tmp_path: Path) -> None:
    recipe = Recipe.from_toml((healed / "recipe.toml").read_text())
    assert (recipe.training.heal, recipe.training.optimizer.lr < 3) == (False, True)
    findings = json.loads((healed / "results.json").read_text())["findings"]
    outcomes = [finding["evidence"] for finding in findings if finding["rule"] == "healed"]
    assert outcomes[0]["instead_of"] == {"training.optimizer.lr": 30.0}
    assert outcomes[-1]["changes"] == {"training.optimizer.lr": recipe.training.optimizer.lr}
    assert outcomes[-1]["after"] < outcomes[0]["before"]
    assert any(finding["title"].startswith("mended: ") for finding in findings)
    assert "against lr_too_high" in (healed / "report.html").read_text()

    assert main(["fit", str(healed / "recipe.toml"), "--out", str(tmp_path / "again"), "--quiet"]) == 0
    assert weights(tmp_path / "again") == weights(healed)


def test_a_healing_run_that_is_killed_ends_in_the_same_bits(
    products: Path, healed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, epochs = tmp_path / "run", 0
    record = Events.record

    def killed(events: Events, one: object) -> None:
        nonlocal epochs
        record(events, one)
        epochs += isinstance(one, EpochRecord)
        if epochs == 6:  # in the second training
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Events, "record", killed)
        assert main(["fit", str(products), "--target", "kind", "--out", str(out), "--quiet", *HEALED]) == 130
    for _ in range(2):  # the second time there is nothing left to do
        assert main(["resume", str(out), "--quiet"]) == 0
        assert weights(out) == weights(healed)
        assert (out / "recipe.toml").read_text() == (healed / "recipe.toml").read_text()
        found, expected = (json.loads((run / "results.json").read_text())["findings"] for run in (out, healed))
        assert [one for one in found if one["rule"] != "stale-lock"] == expected


def test_heal_needs_validation_rows(products: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", str(products), "--target", "kind", "--out", str(tmp_path / "run"), "--quiet", *HEALED]
    assert main([*words, "--set", "data.validation=0.0"]) == 2
    assert "healing needs validation rows" in capsys.readouterr().err


def test_heal_builds_another_network_where_that_is_the_remedy(products: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["fit", str(products), "--target", "kind", "--out", str(out), "--quiet", *HEALED, "--epochs", "20"]
    settings = ("training.optimizer.lr=0.01", "network.options.dropout=0.95", "training.heal_attempts=1")
    words += [word for text in settings for word in ("--set", text)]
    assert main(words) == 0
    recipe = Recipe.from_toml((out / "recipe.toml").read_text())
    assert recipe.network.options["dropout"] == 0.2
    assert main(["evaluate", str(out), str(products)]) == 0


@pytest.mark.parametrize("more", [["--out", "x.json"], ["--counts", "--out", "counts"]])
def test_a_table_that_could_not_be_written_is_refused_before_the_work(more, capsys):
    """Before the run is even opened: there is none."""
    assert main(["predict", "nowhere", "new.csv", *more]) == 2
    assert f'the ending of "{more[-1]}" is not known' in capsys.readouterr().err
