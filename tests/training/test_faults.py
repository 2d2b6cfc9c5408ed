"""Every operation that saving does on files fails once, in each of the ways that disks and processes fail.

The operations are first counted, then each is made to fail in turn. As a program, this file does the same with the
process dying there: it forks a child for each death, which torch survives only in a process that never computed
with several threads.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from sounding.errors import DamagedError, InterruptedRunError, UserError
from sounding.recipe import TrainingRecipe
from sounding.training import StepRecord, Trainer
from sounding.training.checkpoint import Writer, load, load_newest, save, verify_manifest, write_manifest
from sounding.training.interruption import StopRequested

OPERATIONS = "open write fsync mkdir rename replace unlink rmdir listdir".split()
Fault = Callable[[], None]


class Faulty:
    """While it is entered, the operations of `os` are counted, and some of them fail.

    at:        which one fails, from 1; none for 0.
    fault:     called instead of the operation; writing first writes half of what it should.
    lasting:   whether all after it that change something fail as well.
    """

    def __init__(self, at: int, fault: Fault, *, lasting: bool = False) -> None:
        self.at, self.fault, self.lasting = at, fault, lasting
        self.done: list[str] = []
        self._real = {name: getattr(os, name) for name in OPERATIONS}

    def __enter__(self) -> Faulty:
        for name, operation in self._real.items():
            setattr(os, name, self._shim(name, operation))
        return self

    def __exit__(self, *_: object) -> None:
        for name, operation in self._real.items():
            setattr(os, name, operation)

    def _shim(self, name: str, operation):
        def shim(*arguments, **options):
            self.done.append(name)
            count = len(self.done)
            if count == self.at or (self.lasting and 0 < self.at < count and changes(name, *arguments)):
                if name == "write":
                    descriptor, content = arguments
                    operation(descriptor, content[: len(content) // 2])
                self.fault()
            return operation(*arguments, **options)

        return shim


def changes(name: str, *arguments) -> bool:
    if name == "open":
        return bool(arguments[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return name != "listdir"


def fails(number: int) -> Fault:
    def fault() -> None:
        raise OSError(number, os.strerror(number))

    return fault


def dies() -> None:
    os._exit(9)


def nothing() -> None:
    raise AssertionError


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place: thousands of flushes wait for no disk."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=where) as name:
        yield Path(name)


# What is saved, from what state of the folder on. Weights, optimizer and state all carry the number of their save.


def content(number: int):
    network = {"weight": torch.full((7, 5), float(number)), "steps": torch.tensor(number)}
    return {"network": network, "optimizer-network": {"0.exp_avg": torch.full((7, 5), -float(number))}}, {"at": number}


def number_of(place: Path) -> int:
    """Which save a checkpoint is of; all its parts are of the same."""
    tensors, state = load(place)
    expected, _ = content(state["at"])
    assert tensors.keys() == expected.keys()
    for name, group in expected.items():
        assert all(tensors[name][key].equal(tensor) for key, tensor in group.items()), "parts of two saves"
    return state["at"]


def save_directly(folder: Path, number: int) -> None:
    save(folder, *content(number), keep=1)


def save_beside(folder: Path, number: int) -> None:
    with Writer(folder, keep=1) as writer:
        writer.save(*content(number))


def save_at_the_end(folder: Path, number: int) -> None:
    with Writer(folder, keep=1) as writer:
        writer.save_now(*content(number))


def nowhere(folder: Path) -> None:
    """Neither the folder nor the one around it is there."""


def long_underway(folder: Path) -> None:
    """Checkpoints to keep and to remove, and what a killed save left behind."""
    save(folder, *content(1), keep=9, labels=["best"])
    for number in (2, 3):
        save(folder, *content(number), keep=9)
    (folder / ".unfinished-killed").mkdir()
    (folder / ".unfinished-killed" / "state.json").write_bytes(b"{")


STATES = {"nowhere": (nowhere, []), "long underway": (long_underway, ["000001-best", "000002", "000003"])}
WAYS = {"directly": save_directly, "beside": save_beside, "at the end": save_at_the_end}
FAULTS = {
    "no space": (errno.ENOSPC, False),
    "input or output": (errno.EIO, False),
    "read-only from then on": (errno.EROFS, True),
    "no permission from then on": (errno.EACCES, True),
}
SWEEPS = [(state, way) for state in STATES for way in WAYS]


def check_after(folder: Path, earlier: list[str], failed: bool) -> bool:
    """What must hold after a save that may have failed: whether the new one is there."""
    found = load_newest(folder)
    if found is None:
        assert not earlier
        return False
    assert found.findings == []
    is_new = number_of(found.folder) == 9
    assert is_new or failed
    if not is_new:
        there = {path.name for path in folder.iterdir()}
        assert there.issuperset(earlier), "an earlier checkpoint was touched"
        assert [number_of(folder / name) for name in earlier] == [1, 2, 3][: len(earlier)]
    return is_new


def check_the_next_save(folder: Path, earlier: list[str]) -> None:
    save(folder, *content(10), keep=1)
    names = sorted(path.name for path in folder.iterdir())
    assert number_of(folder / names[-1]) == 10
    assert names[:-1] == earlier[:1], "something was left behind"  # of the earlier ones, the best


@contextmanager
def prepared(folder: Path, state: str) -> Iterator[Path]:
    prepare, _ = STATES[state]
    place = folder / "run" / "checkpoints"
    prepare(place)
    yield place
    shutil.rmtree(folder / "run", ignore_errors=True)


def count_operations(folder: Path, state: str, way: str) -> int:
    with prepared(folder, state) as place, Faulty(0, nothing) as counted:
        WAYS[way](place, 9)
    assert {"open", "write", "fsync", "mkdir", "rename"}.issubset(counted.done)
    assert state == "nowhere" or {"unlink", "rmdir"}.issubset(counted.done)
    return len(counted.done)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("state", "way"), SWEEPS)
def test_any_failing_operation_is_told_and_harms_nothing(state, way, fault, folder):  # RS-02, RS-04, RS-24
    number, lasting = FAULTS[fault]
    total, there = count_operations(folder, state, way), []
    for at in range(1, total + 1):
        with prepared(folder, state) as place:
            with (
                pytest.raises(UserError, match=os.strerror(number)) as caught,
                Faulty(at, fails(number), lasting=lasting),
            ):
                WAYS[way](place, 9)
            assert "\n" not in str(caught.value)
            assert str(place) in str(caught.value)
            there.append(check_after(place, STATES[state][1], failed=True))
            check_the_next_save(place, STATES[state][1])
    assert there == sorted(there), "old until the rename, new from then on"
    assert not there[0]


@pytest.mark.parametrize("way", WAYS)
def test_contents_are_flushed_before_the_name_is_given_and_the_name_after(way, folder):  # a power cut
    save(folder, *content(1))
    with Faulty(0, nothing) as counted:
        WAYS[way](folder, 9)
    files = "open write fsync " * 4
    assert re.search(f"mkdir {files}open fsync listdir rename open fsync", " ".join(counted.done)), counted.done


def test_a_full_disk_says_to_free_space_and_a_bad_one_to_look_after_it(folder):
    for number, remedy in [(errno.ENOSPC, "free some space"), (errno.EDQUOT, "free some space"), (errno.EIO, "look")]:
        with pytest.raises(UserError, match=remedy), Faulty(3, fails(number)):
            save_directly(folder, 1)


def test_a_limit_on_the_size_of_files_is_like_a_full_disk(folder):  # RS-25
    save_directly(folder, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match="File too large; free some space"):
            save(folder, {"network": {"weight": torch.zeros(50_000)}}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in folder.iterdir()] == ["000001"]
    check_the_next_save(folder, [])


# The model folder


def model(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "card.json").write_text(text)
    (folder / "network.safetensors").write_bytes(text.encode() * 1000)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_manifest_that_cannot_be_written_is_told_and_the_next_one_is_whole(fault, folder):
    number, lasting = FAULTS[fault]
    model(folder / "model", "a")
    with Faulty(0, nothing) as counted:
        write_manifest(folder / "model")
    assert {"write", "fsync", "replace"}.issubset(counted.done)
    before = verify_manifest(folder / "model")
    for at in range(1, len(counted.done) + 1):
        with pytest.raises(UserError, match=os.strerror(number)), Faulty(at, fails(number), lasting=lasting):
            write_manifest(folder / "model")
        assert verify_manifest(folder / "model") == before
        write_manifest(folder / "model")
        assert [path.name for path in folder.iterdir()] == ["model"], "something was left behind"


# What a trainer saved


def trainer_on(folder: Path, *onlookers: Callable[[object], None]) -> Trainer:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
    recipe = TrainingRecipe(
        epochs=6, batch_size=8, averaging="ema", average_decay=0.8, clip_norm=0.0, clip_percentile=50.0, patience=2
    )
    return Trainer(network, recipe=recipe, lr=0.05, checkpoints=folder, onlookers=onlookers, progress=False)


def rows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(count))
    return x, (x[:, 0] > 0).long()


def stop_midway(record: object) -> None:
    if isinstance(record, StepRecord) and (record.epoch, record.step) == (2, 1):
        raise StopRequested


def test_a_checkpoint_without_any_one_of_its_parts_is_refused(folder):  # RS-16
    with pytest.raises(InterruptedRunError):
        trainer_on(folder / "whole", stop_midway).fit(rows(40), rows(24))
    tensors, state = load(load_newest(folder / "whole").folder)
    parts = [({key: tensors[key] for key in tensors if key != name}, state) for name in sorted(tensors)]
    needed = state.keys() - {"scalers"}  # float32 has none
    parts += [(tensors, {key: state[key] for key in state if key != name}) for name in sorted(needed)]
    for number, part in enumerate(parts):
        save(folder / str(number), *part)
        with pytest.raises(DamagedError):
            trainer_on(folder / str(number)).fit(rows(40), rows(24), resume=True)
    save(folder / "copy", tensors, state)
    trainer_on(folder / "copy").fit(rows(40), rows(24), resume=True)


# Other readers, other places


@pytest.mark.parametrize("damaged", [False, True])
def test_a_checkpoint_that_goes_while_it_is_read_is_no_damage(damaged, folder, monkeypatch):  # RS-26
    save_directly(folder, 1)
    if damaged:  # the one that is newer
        (save(folder, *content(2), keep=2) / "state.json").write_bytes(b"{}")
    read = Path.read_bytes

    def overtaken(path: Path) -> bytes:
        if path.name == "network.safetensors" and path.parent.name == "000001":
            save_directly(folder, 3)  # removes the others
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", overtaken)
    found = load_newest(folder)
    assert number_of(found.folder) == 3
    assert found.findings == []


def test_a_file_that_cannot_be_read_is_damage(folder, monkeypatch):  # a bad sector
    save(folder, *content(1))
    newest, read = save(folder, *content(2)), Path.read_bytes

    def bad_sector(path: Path) -> bytes:
        if path == newest / "network.safetensors":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", bad_sector)
    found = load_newest(folder)
    assert found.folder.name == "000001"
    assert "network.safetensors cannot be read (Input/output error)" in found.findings[0].evidence["reason"]
    with pytest.raises(DamagedError, match="cannot be read"):
        load(newest)


def test_through_an_archive_to_another_file_system(tmp_path):  # RS-21
    save(tmp_path / "here", *content(1), labels=["best"])
    save(tmp_path / "here", *content(2))
    archive = shutil.make_archive(str(tmp_path / "run"), "zip", tmp_path / "here")
    elsewhere = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=elsewhere) as name:
        zipfile.ZipFile(archive).extractall(name)
        assert number_of(load_newest(Path(name)).folder) == 2
        check_the_next_save(Path(name), ["000001-best"])


# Dying


def run_program(what: str, folder: Path) -> str:
    source = str(Path(__file__).parents[2] / "src")
    # Nothing is to be written but in the folder itself: not where temporary files go either (RS-23).
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "TMPDIR": "/nowhere"}
    command = [sys.executable, __file__, what, str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_dying_at_any_operation_harms_nothing(folder):  # RS-02, RS-04
    assert int(run_program("deaths", folder)) > 200


def deaths(folder: Path) -> int:
    total = 0
    for state, way in SWEEPS:
        there = []
        for at in range(1, count_operations(folder, state, way) + 1):
            with prepared(folder, state) as place:
                died = in_child(lambda at=at, place=place, way=way: with_faults(at, lambda: WAYS[way](place, 9)))
                assert died
                there.append(check_after(place, STATES[state][1], failed=True))
                check_the_next_save(place, STATES[state][1])
        assert there == sorted(there), "old until the rename, new from then on"
        assert not there[0]
        total += len(there)
    return total + deaths_of_manifests(folder)


def deaths_of_manifests(folder: Path) -> int:
    for at in range(1, 100):
        model(folder / "model", "a")
        write_manifest(folder / "model")
        before = verify_manifest(folder / "model")
        died = in_child(lambda at=at: with_faults(at, lambda: write_manifest(folder / "model")))
        assert verify_manifest(folder / "model") == before
        write_manifest(folder / "model")
        assert [path.name for path in folder.iterdir() if path.name != "run"] == ["model"], "something was left behind"
        if not died:
            return at - 1
    raise AssertionError


def with_faults(at: int, work: Callable[[], None]) -> None:
    with Faulty(at, dies):
        work()


def in_child(work: Callable[[], None]) -> bool:
    """Whether a child died of a fault at this work, instead of doing it to the end."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 9


def test_no_operation_goes_around_the_sweep_and_none_leaves_the_folder(folder):  # RS-23
    assert int(run_program("audit", folder)) > 20


def audit(folder: Path) -> int:
    """Compare what Python itself reports with what is made to fail."""
    heard: list[tuple[str, str]] = []

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "open"):
            path, *_, flags = arguments
            if event != "open" or changes("open", path, flags):
                heard.append((event.removeprefix("os.").replace("remove", "unlink"), os.fspath(path)))

    for state, way in SWEEPS:
        with prepared(folder, state) as place:
            with Faulty(0, nothing) as counted:
                if not heard:
                    sys.addaudithook(hear)
                heard.clear()
                WAYS[way](place, 9)
                events = list(heard)
            ours = Counter(name for name in counted.done if name in ("mkdir", "unlink", "rmdir", "rename"))
            assert ours == Counter(name for name, _ in events if name != "open"), events
            opened = sum(name == "open" for name, _ in events)
            assert opened == 4  # two sets of tensors, state and manifest
            assert counted.done.count("write") == opened
            inside = [path for name, path in events if name in ("open", "mkdir", "rename")]
            assert all(path.startswith(str(folder)) for path in inside), events
    return len(heard) + len(SWEEPS) * 4


def test_reading_while_another_process_saves_and_removes(folder):  # RS-26
    assert int(run_program("reading", folder)) == 20


def reading(folder: Path) -> int:
    """Read while a child saves and keeps one, until so many different ones were met."""
    save_directly(folder, 1)
    child = os.fork()
    if child == 0:
        for number in range(2, 100_000):
            save_directly(folder, number)
    try:
        met: set[int] = set()
        while len(met) < 20:
            found = load_newest(folder)
            assert found is not None
            assert found.findings == []
            assert found.tensors["network"]["weight"].eq(found.state["at"]).all()
            met.add(found.state["at"])
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return len(met)


if __name__ == "__main__":
    torch.set_num_threads(1)
    program = {"deaths": deaths, "audit": audit, "reading": reading}[sys.argv[1]]
    print(program(Path(sys.argv[2])))
