"""The command line: a thin reading of arguments, so that `--help` is quick and scripts can rely on the rest.

Exit status: 0 done; 2 the user's mistake, told in one line on standard error; 130 interrupted and saved; 1 our fault.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import sounding
from sounding.errors import RecipeError, SoundingError, UserError, printable
from sounding.recipe import parse_duration, parse_setting, settings_from_toml


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    words, rest = _scripts_own(list(sys.argv[1:] if arguments is None else arguments))
    try:
        options = _parser().parse_args(words)
        options.rest = rest
        return int(options.command(options) or 0)
    except SoundingError as error:
        if "--debug" in words:
            raise
        if error.exit_status != 130 or _speaks():  # all processes are interrupted together
            _tell(error)
        return error.exit_status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if "--debug" in words:
            raise
        what = printable(f"{error.filename or 'input or output'}: {error.strerror or error}")
        print(f"{what}; check that it exists, that you may use it and that the disk is not full", file=sys.stderr)
        return 2
    except Exception as error:  # the last line of defence: our fault, told in one line
        if "--debug" in words:
            raise
        what = printable(f"{type(error).__name__}: {error}")
        _tell(f"this is a fault of Sounding: {what}; repeat with --debug and report what it prints")
        return 1


def _scripts_own(words: list[str]) -> tuple[list[str], list[str]]:
    """Our words, and those for a script: what comes after it or after `--`, but for --json and --debug before `--`.

    >>> _scripts_own(["check", "train.py", "--epochs", "3", "--json"])
    (['check', 'train.py', '--json'], ['--epochs', '3'])
    >>> _scripts_own(["check", "train.py", "--", "--json"])
    (['check', 'train.py'], ['--json'])
    """
    script = next((at for at, word in enumerate(words) if word.endswith(".py")), None)
    if words[:1] != ["check"] or script is None:
        return words, []
    behind = words[script + 1 :]
    end = behind.index("--") if "--" in behind else len(behind)
    ours = [word for word in behind[:end] if word in {"--json", "--debug"}]
    theirs = [word for word in behind[:end] if word not in ours] + behind[end + 1 :]
    return words[: script + 1] + ours, theirs


def _speaks() -> bool:
    """Whether this is not one of several processes under torchrun, or the first of them."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK") == "0"


def _tell(what: object) -> None:
    print(what if _speaks() else f"process {os.environ['RANK']}: {what}", file=sys.stderr)


def _fit(options: argparse.Namespace) -> None:
    from sounding.fitting import fit

    settings = _settings(options)
    run = fit(
        options.source,
        settings=settings,
        out=options.out,
        say=None if options.quiet else _say,
        progress=not options.quiet,
    )
    _show_result(run, options)


def _resume(options: argparse.Namespace) -> None:
    from sounding.fitting import resume

    run = resume(options.run, say=None if options.quiet else _say, progress=not options.quiet)
    _show_result(run, options)


def _predict(options: argparse.Namespace) -> None:
    from sounding.run import load, refuse_no_table, write_files, write_samples, write_table

    if sum(one is not None for one in (options.source, options.count, options.prompt)) != 1:
        raise UserError(
            "predict takes rows, makes some up, or writes a text on",
            "give a SOURCE, --count N for so many samples, or --prompt TEXT",
        )
    if options.out and (options.counts or Path(options.out).suffix):
        refuse_no_table(options.out)
    if options.prompt is not None:
        how = {name: getattr(options, name) for name in ("length", "temperature", "top_k", "top_p")}
        pieces = load(options.run).write(options.prompt, seed=options.seed, **how)
        print(options.prompt, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
        return
    if options.count is not None:
        run = load(options.run)
        samples = run.sample(options.count, seed=options.seed, label=options.label)
        write_samples(run, samples, options.out)
        if options.out and not options.quiet:
            print(f"{len(samples)} samples: {options.out}", file=sys.stderr)
        return
    run = load(options.run)
    if options.counts:
        predictions, findings = run.count_table(options.source)
        write_table(predictions, options.out)
        count = len(predictions)
    elif options.out and not Path(options.out).suffix:
        files, findings = run.predict_files(options.source)
        count = write_files(files, options.out)
    else:
        predictions, findings = run.predict_table(options.source)
        write_table(predictions, options.out)
        count = len(predictions)
    for finding in findings:
        print(printable(f"{finding.severity}: {finding.title}"), file=sys.stderr)
    if options.out and not options.quiet:
        print(f"{count} {'counts' if options.counts else 'predictions'}: {options.out}", file=sys.stderr)


def _evaluate(options: argparse.Namespace) -> None:
    from sounding.run import load

    result = load(options.run).evaluate(options.source)
    if options.json:
        print(json.dumps({"metrics": result.metrics, "intervals": result.intervals, "rows": result.rows}))
        return
    for name, value in result.metrics.items():
        low, high = result.intervals.get(name, (float("nan"), float("nan")))
        print(f"{name:>20}  {value:.4f}  [{low:.4f}, {high:.4f}]")


def _report(options: argparse.Namespace) -> None:
    from sounding.report import open_in_browser, write_report

    page = write_report(Path(options.run))
    print(page)
    if not options.no_open:
        open_in_browser(page)


def _check(options: argparse.Namespace) -> int:
    if options.source.endswith(".py"):
        return _check_script(options)
    from sounding.fitting import check, is_run

    if is_run(options.source):
        return _check_run(options)
    settings = _settings(options)
    result = check(options.source, settings=settings)
    page = _write_varied(result) if options.augment else None
    if options.json:
        print(json.dumps({**result.to_json(), **({"augmented": page} if options.augment else {})}))
        return 0
    for line in result.lines(everything=True):
        print(printable(line))
    if options.augment:
        print(f"what the network would see: {page}" if page else "examples are not varied: see training.augment")
    return 0


def _write_varied(result: Any) -> str | None:
    """The page that shows what the network would see, or none where that is the examples as they are."""
    from sounding.report import plain, varied_examples, write_varied

    shown = varied_examples(result)
    return None if shown is None else str(write_varied(result.table.name, plain(shown)))


def _check_run(options: argparse.Namespace) -> int:
    from sounding.finding import Finding
    from sounding.fitting import check_run
    from sounding.watching.watcher import told

    if _settings(options) or options.augment:
        raise UserError("a run is checked as it is", "leave out all options but --json", file=options.source)
    checked = check_run(options.source)
    if options.json:
        print(json.dumps(checked))
        return 0
    findings = [Finding.from_json(values) for values in checked["findings"]]
    findings.sort(key=lambda finding: ("error", "warning", "info").index(finding.severity))
    epochs = f"{checked['epochs']} epoch{'' if checked['epochs'] == 1 else 's'}"
    so_far = f"not finished, {epochs} so far; if it was stopped, go on with: sounding resume {checked['run']}"
    lines = [f"finished after {epochs}" if checked["finished"] else so_far, *map(told, findings)]
    if not findings:
        lines.append("nothing found" if checked["finished"] else "nothing found so far")
    if checked["steps"]:
        lines.append(f"the watch saw {checked['steps']} steps, {checked['looked_at']} of them closely")
    for line in lines:
        print(printable(line))
    return 0


def _check_script(options: argparse.Namespace) -> int:
    from sounding.watching.script import run_script

    outcome = run_script(options.source, options.rest, say=_say)
    if options.json:
        findings = [finding.to_json() for finding in outcome.findings]
        print(json.dumps({"script": options.source, "exit_status": outcome.exit_status, "findings": findings}))
    return outcome.exit_status


def _style(options: argparse.Namespace) -> None:
    from sounding.report import write_painted
    from sounding.run import paint

    settings = dict(parse_setting(f"style.{text}") for text in options.set)
    named = {"style.backbone": options.backbone, "style.steps": options.steps, "style.size": options.size}
    settings |= {key: value for key, value in named.items() if value is not None}
    out = Path(options.out)
    painted = paint(options.content, options.style, settings=settings, out=out)
    if options.quiet:
        return
    if painted.losses:
        first, last = painted.losses[0], painted.losses[-1]
        print(f"compared by {painted.told}")
        print(f"distance to the style {first['style']:.3g}, after {last['step']} steps {last['style']:.3g}")
        print(f"distance to the content {last['content']:.3g}")
    print(f"{out}   {write_painted(painted, out)}")


def _data(options: argparse.Namespace) -> None:
    from sounding.data.catalogue import catalogue_entries, catalogue_entry

    if options.name:
        entry = catalogue_entry(options.name)
        print(f"@{entry.name}: {entry.what}\nlicence: {entry.licence}\nfrom: {entry.source}")
        for file in entry.files:
            print(f"{file.path}  {file.url}  SHA-256 {file.sha256}")
    else:
        for entry in catalogue_entries():
            print(f"{'@' + entry.name:24} {entry.what}")


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What the user set: a recipe file, if the source is one, then the named options, then --set; the last wins.

    A recipe file names its own source, which takes its place.
    """
    settings: dict[str, Any] = {}
    if str(options.source).endswith(".toml"):
        path = Path(options.source)
        if not path.is_file():
            raise RecipeError("there is no such recipe", "give the recipe.toml of a run", file=path)
        settings |= settings_from_toml(path.read_text(encoding="utf-8"), file=path)
        options.source = settings.pop("source", "")
        kept = path.parent / "transfer"
        if settings.get("transfer.source") and kept.is_dir():  # the weights that it began with, as they were
            settings["transfer.source"] = str(kept)
        if not options.source:
            raise RecipeError("this recipe names no source", "give the data themselves", file=path)
    named = {
        "target": options.target,
        "task": options.task,
        "network.name": options.network,
        "test": options.test,
        "seed": options.seed,
        "transfer.source": getattr(options, "origin", None),
        "training.epochs": options.epochs,
        "training.time": None if options.time is None else parse_duration(options.time),
        "training.plan": options.plan,
        "training.heal": getattr(options, "heal", None),
        "data.encoding": options.encoding,
    }
    settings |= {key: value for key, value in named.items() if value is not None}
    return settings | dict(parse_setting(text) for text in options.set)


def _show_result(run: Any, options: argparse.Namespace) -> None:
    if not _speaks():
        return
    if not options.quiet:
        for line in run.summary():
            print(printable(line))
    if options.json:
        print(json.dumps(run.to_json()))


def _say(line: str) -> None:
    with suppress(OSError):  # a full disk under the log, a closed terminal: the run matters more
        print(printable(line), file=sys.stderr, flush=True)


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, like everything else."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message, f"see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sounding",
        description="Train the right deep network for your data, and hear honestly what it is worth.",
    )
    parser.add_argument("--version", action="version", version=f"sounding {sounding.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, action: Any, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(command=action)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return sub

    fit = command("fit", _fit, "train a network on a source and say how good it is")
    _add_source(fit)
    fit.add_argument("--out", metavar="DIR", help="the folder of the run (default: runs/NAME-NUMBER)")
    fit.add_argument(
        "--from", metavar="RUN", dest="origin", help="a run whose encoder is carried over: only the head is new"
    )
    fit.add_argument(
        "--heal",
        action="store_true",
        default=None,
        help="train again with remedies of what the watch finds, and keep those that help",
    )
    check = command(
        "check",
        _check,
        "look a source over before training, show what was found in a run, or run a script.py under the watch",
    )
    _add_source(check)
    check.add_argument(
        "--augment", action="store_true", help="write a page with examples as the network would see them in training"
    )

    resume = command("resume", _resume, "go on with an interrupted run")
    resume.add_argument("run", metavar="RUN")

    predict = command("predict", _predict, "predictions for new rows, or samples, as CSV or Parquet")
    predict.add_argument("run", metavar="RUN")
    predict.add_argument("source", metavar="SOURCE", nargs="?")
    predict.add_argument(
        "--out", metavar="FILE", help=".csv or .parquet (default: CSV on standard output); a folder for masks"
    )
    predict.add_argument(
        "--count",
        metavar="N",
        type=int,
        help="instead of SOURCE: so many samples of a model that makes some up; pictures go into the folder --out",
    )
    predict.add_argument(
        "--counts", action="store_true", help="how many things of each class are in each picture, with an interval"
    )
    predict.add_argument("--seed", metavar="N", type=int, default=0, help="of the samples, or of the text")
    predict.add_argument("--prompt", metavar="TEXT", help="instead of SOURCE: a text that a language model writes on")
    predict.add_argument("--length", metavar="N", type=int, help="tokens to write")
    predict.add_argument(
        "--temperature", metavar="T", type=float, help="below 1 is safer, above is bolder; 0 draws none"
    )
    predict.add_argument("--top-k", metavar="K", type=int, help="draw from the K likeliest tokens alone")
    predict.add_argument(
        "--top-p", metavar="P", type=float, help="draw from the likeliest that together have this share"
    )
    predict.add_argument("--class", metavar="NAME", dest="label", help="which all samples are to have")

    evaluate = command("evaluate", _evaluate, "metrics on labelled rows")
    evaluate.add_argument("run", metavar="RUN")
    evaluate.add_argument("source", metavar="SOURCE")

    report = command("report", _report, "write and open the page of a run")
    report.add_argument("run", metavar="RUN")
    report.add_argument("--no-open", action="store_true", help="only write it")

    style = command("style", _style, "paint a picture in the style of another, or of a run of --task style")
    style.add_argument("content", metavar="PICTURE")
    style.add_argument("style", metavar="STYLE", help="a picture, or the folder of a run that learned one style")
    style.add_argument("--out", metavar="FILE", default="painted.png", help=".png or .jpg (default: painted.png)")
    style.add_argument(
        "--backbone",
        metavar="RUN",
        help="whose features are compared: a run that tells pictures apart, hf:NAME_OR_FOLDER, or random (default)",
    )
    style.add_argument("--steps", metavar="N", type=int)
    style.add_argument("--size", metavar="PIXELS", type=int, help="of the longer side, at most")
    style.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="such as content_weight=3")

    data = command("data", _data, "the catalogue of data sets")
    data.add_argument("name", metavar="NAME", nargs="?", help="tell about one")

    for sub in (fit, resume, evaluate, check):
        sub.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    for sub in (fit, resume, predict, style):
        sub.add_argument("--quiet", action="store_true", help="print nothing but what was asked for")
    return parser


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="a file, a folder, @NAME of the catalogue, or a recipe.toml")
    parser.add_argument("--target", metavar="COLUMN", action="append", help="what to predict (repeat for several)")
    parser.add_argument("--task", metavar="NAME", help="classification, regression, ... (default: by the target)")
    parser.add_argument("--network", metavar="NAME", help="default: the one that measured best for the kind of data")
    parser.add_argument("--test", metavar="SOURCE", help="rows to measure the result on")
    parser.add_argument("--seed", metavar="N", type=int)
    parser.add_argument("--encoding", metavar="NAME", help="of text files that are not UTF-8, such as cp1252")
    parser.add_argument(
        "--plan",
        metavar="NAME",
        choices=("measure", "given", "reference"),
        help="how the machine is used: measured (default), as given in the recipe, or the plain float32 way: reference",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", metavar="N", type=int)
    length.add_argument("--time", metavar="TIME", help="how long training may take, such as 90s, 5m or 1h")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="set any value of the recipe")


if __name__ == "__main__":
    sys.exit(main())
