from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from sounding.errors import DamagedError, UserError
from sounding.training.checkpoint import (
    DTYPES,
    Writer,
    check_tensors,
    load,
    load_newest,
    optimizer_from_tensors,
    optimizer_to_tensors,
    save,
    verify_manifest,
    write_manifest,
)

STRANGE = {
    "odd": torch.tensor([float("nan"), float("inf"), -0.0]),
    "half": torch.tensor([1.5, float("-inf")], dtype=torch.bfloat16),
    "codes": torch.tensor([[1, 2]], dtype=torch.int32),
    "flag": torch.tensor(True),
    "empty": torch.empty(0, 3),
    "across": torch.arange(6.0).reshape(2, 3).t(),
}


def bits(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().view(-1).view(torch.uint8).tolist()) if tensor.numel() else b""


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    place = save(tmp_path / "checkpoints", {"network": STRANGE}, {"epoch": 3, "loss": float("inf")})
    found = load_newest(tmp_path / "checkpoints")
    assert found.folder == place
    assert found.state == {"epoch": 3, "loss": float("inf")}
    assert found.findings == []
    for name, tensor in STRANGE.items():
        back = found.tensors["network"][name]
        assert (back.dtype, back.shape, bits(back)) == (tensor.dtype, tensor.shape, bits(tensor))


def test_the_files_are_byte_for_byte_those_of_the_library(tmp_path):
    sets = {str(dtype): {"b": torch.ones(3).to(dtype), "a": torch.zeros(()).to(dtype)} for dtype in DTYPES}
    sets |= {"nothing": {}, "mixed": STRANGE | {'é"\n': torch.zeros(2), "wide": torch.ones(1, dtype=torch.int64)}}
    place = save(tmp_path, sets, {})
    for name, group in sets.items():
        reference = {key: tensor.contiguous() for key, tensor in group.items()}
        assert (place / f"{name}.safetensors").read_bytes() == safetensors.torch.save(reference)


def test_a_dtype_that_no_file_can_hold(tmp_path):
    with pytest.raises(UserError, match=r'"w" is of torch\.complex128'):
        save(tmp_path, {"network": {"w": torch.zeros(1, dtype=torch.complex128)}}, {})
    assert list(tmp_path.iterdir()) == []


def test_tied_weights_can_be_saved(tmp_path):
    weight = torch.ones(2)
    save(tmp_path, {"network": {"a": weight, "b": weight}}, {})
    assert set(load_newest(tmp_path).tensors["network"]) == {"a", "b"}


def test_nothing_saved_is_nothing_found(tmp_path):
    assert load_newest(tmp_path / "never") is None
    assert load_newest(tmp_path) is None


def test_only_the_newest_are_kept_and_no_leftovers(tmp_path):
    (tmp_path / ".unfinished-killed").mkdir()
    (tmp_path / ".unfinished-killed" / "half").write_bytes(b"x")
    for number in range(5):
        save(tmp_path, {}, {"number": number}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000004", "000005"]
    assert load_newest(tmp_path).state == {"number": 4}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_of_each_label_is_kept_as_well(tmp_path):
    for epoch, labels in enumerate([["best"], [], ["best", "epoch3"], [], [], ["epoch6"], []], start=1):
        save(tmp_path, {}, {"epoch": epoch}, keep=1, labels=labels)
        if epoch == 2:
            assert names_in(tmp_path) == ["000001-best", "000002"]
    assert names_in(tmp_path) == ["000003-best-epoch3", "000006-epoch6", "000007"]
    save(tmp_path, {}, {"epoch": 8}, keep=2, labels=["best"])  # as whoever goes on with the run would
    assert names_in(tmp_path) == ["000003-best-epoch3", "000006-epoch6", "000007", "000008-best"]
    save(tmp_path, {}, {"epoch": 9}, keep=1)
    assert names_in(tmp_path) == ["000003-best-epoch3", "000006-epoch6", "000008-best", "000009"]
    assert load_newest(tmp_path).state == {"epoch": 9}


@pytest.mark.parametrize("label", ["", "a-b", "../x", "Best", "é"])
def test_a_label_that_would_not_be_read_back(label, tmp_path):
    with pytest.raises(ValueError, match="small letters and digits"):
        save(tmp_path, {}, {}, labels=[label])


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(content)


def a_checkpoint(folder: Path) -> Path:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.randn(8, 6)).square().mean().backward()
    optimizer.step()
    tensors = {"network": network.state_dict(), "optimizer-network": optimizer_to_tensors(optimizer)[0]}
    return save(folder, tensors, {"epoch": 1, "losses": [0.5, 0.25]})


@pytest.mark.parametrize("damage", ["a flipped bit", "a truncation"])
def test_a_thousand_damages_of_any_file_are_all_found_and_the_file_is_named(damage, tmp_path):  # RS-19
    place = a_checkpoint(tmp_path)
    names = sorted(path.name for path in place.iterdir())
    assert names == ["manifest.json", "network.safetensors", "optimizer-network.safetensors", "state.json"]
    good = {name: (place / name).read_bytes() for name in names}
    draws = random.Random(damage)
    for trial in range(1000):
        name = names[trial % len(names)]
        if damage == "a flipped bit":
            flip(place / name, draws.randrange(8 * len(good[name])))
        else:
            (place / name).write_bytes(good[name][: draws.randrange(len(good[name]))])
        with pytest.raises(DamagedError) as caught:
            load(place)
        assert re.fullmatch(
            f"{re.escape(name)} (has changed since it was written|is missing or changed)", caught.value.what
        )
        (place / name).write_bytes(good[name])
    load(place)


def test_every_bit_of_the_manifest_matters(tmp_path):
    place = save(tmp_path, {}, {})
    manifest = place / "manifest.json"
    good = manifest.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(good)), 300):
        flip(manifest, bit)
        with pytest.raises(DamagedError):
            verify_manifest(place)
        manifest.write_bytes(good)


def test_a_damaged_one_is_passed_over_with_a_finding(tmp_path):  # RS-17
    save(tmp_path, {}, {"number": 0})
    newest = save(tmp_path, {}, {"number": 1})
    flip(newest / "state.json", 5)
    found = load_newest(tmp_path)
    assert found.state == {"number": 0}
    (finding,) = found.findings
    assert finding.rule == "damaged-checkpoint"
    assert "state.json has changed" in finding.evidence["reason"]
    assert save(tmp_path, {}, {"number": 2}).name == "000003"  # never into the damaged one's place


def test_all_damaged_lists_each_and_deletes_nothing(tmp_path):  # RS-18
    for _ in range(2):
        flip(save(tmp_path, {}, {}) / "state.json", 0)
    with pytest.raises(DamagedError, match=r"000002.*000001"):
        load_newest(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_foreign_missing_and_linked_files(tmp_path):
    place = save(tmp_path, {"network": {"w": torch.zeros(1)}}, {})
    (place / "extra.py").write_text("print()")
    with pytest.raises(DamagedError, match=r"extra\.py does not belong here"):
        verify_manifest(place)
    (place / "extra.py").unlink()
    (place / "state.json").rename(tmp_path / "state.json")
    with pytest.raises(DamagedError, match=r"state\.json is missing"):
        verify_manifest(place)
    (place / "state.json").symlink_to(tmp_path / "state.json")
    with pytest.raises(DamagedError, match="not a plain file"):
        verify_manifest(place)


def test_links_are_never_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    save(elsewhere, {}, {"precious": True})
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "000001").symlink_to(elsewhere / "000001")
    assert load_newest(runs) is None
    with pytest.raises(DamagedError, match="is a link"):
        verify_manifest(runs / "000001")
    (tmp_path / "link").symlink_to(elsewhere)
    with pytest.raises(UserError, match="is a link"):
        save(tmp_path / "link", {}, {})
    for _ in range(3):
        save(runs / "deeper", {}, {}, keep=1)
    assert load_newest(elsewhere).state == {"precious": True}


def test_a_copy_loads(tmp_path):  # RS-21
    save(tmp_path / "a", {}, {"x": 1})
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert load_newest(tmp_path / "b").state == {"x": 1}


def test_manifest_of_any_folder_can_be_written_again(tmp_path):
    (tmp_path / "card.json").write_text("{}")
    write_manifest(tmp_path)
    (tmp_path / "card.json").write_text('{"a": 1}')
    with pytest.raises(DamagedError):
        verify_manifest(tmp_path)
    write_manifest(tmp_path)
    assert verify_manifest(tmp_path) == {"card.json": b'{"a": 1}'}


def test_a_full_disk_is_one_line_and_leaves_the_earlier_one(tmp_path, monkeypatch):
    save(tmp_path, {}, {"number": 0})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device; free some space"):
        save(tmp_path, {}, {"number": 1})
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["000001"]
    assert load_newest(tmp_path).state == {"number": 0}


KILLS = """
import os, random, signal, sys, time, torch
from pathlib import Path
from sounding.training.checkpoint import load_newest, save

folder, draws, told = Path(sys.argv[1]), random.Random(0), 0
for _ in range(10):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        for number in range(told + 1, told + 100_000):
            save(folder, {"network": {"w": torch.full((2000,), float(number))}}, {"number": number})
            os.write(writer, b"%d " % number)
    os.close(writer)
    time.sleep(draws.uniform(0.02, 0.4))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told = int((os.read(reader, 1_000_000).split() or [told])[-1])
    os.close(reader)
    found = load_newest(folder)
    if told:
        assert found.findings == [], found.findings
        assert found.state["number"] >= told, "what was reported is gone"
        assert (found.tensors["network"]["w"] == found.state["number"]).all(), "a mix of two"
print(told)
"""


def test_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):  # RS-02
    source = str(Path(__file__).parents[2] / "src")
    run = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 1  # saves went through between the kills


def test_keys_and_shapes_are_compared_up_to_ten():
    wanted = {f"layer{i}.weight": torch.zeros(2) for i in range(12)}
    with pytest.raises(DamagedError, match=r"layer9\.weight is missing, and 3 more; it belongs to another network"):
        check_tensors({"other": torch.zeros(1)}, wanted)
    with pytest.raises(DamagedError, match=r"w has shape \(3,\), not \(2,\)"):
        check_tensors({"w": torch.zeros(3)}, {"w": torch.zeros(2)})


def test_optimizer_state_keeps_the_memory_layout():
    network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    tensors, values = optimizer_to_tensors(optimizer)
    assert json.loads(json.dumps(values)) == values
    fresh = torch.optim.AdamW(network.parameters())
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    optimizer_from_tensors(fresh, tensors, values)
    for parameter in network.parameters():
        for name, value in optimizer.state[parameter].items():
            assert fresh.state[parameter][name].equal(value)
            assert fresh.state[parameter][name].stride() == value.stride()


def test_optimizer_state_of_another_network():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(DamagedError, match="belongs to no parameter"):
        optimizer_from_tensors(optimizer, {"7.momentum_buffer": torch.zeros(1)}, {})


# Writing beside the training


class Gate:
    """Holds the background thread at its first flush until it is opened."""

    def __init__(self, monkeypatch) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        flush = os.fsync

        def wait(descriptor):
            if threading.current_thread() is not threading.main_thread():
                self.reached.set()
                assert self.opened.wait(20)
            flush(descriptor)

        monkeypatch.setattr(os, "fsync", wait)


def test_what_is_written_is_the_moment_of_the_save_while_training_goes_on(tmp_path, monkeypatch):
    gate = Gate(monkeypatch)
    network = nn.Linear(3, 2)
    moment = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    losses = [0.5]
    with Writer(tmp_path) as writer:
        writer.save({"network": network.state_dict()}, {"losses": losses})
        assert gate.reached.wait(20)
        assert writer.busy
        assert load_newest(tmp_path) is None
        with torch.no_grad():
            network.weight.fill_(7.0)
        losses.append(0.25)
        gate.opened.set()
        assert writer.wait() == tmp_path / "000001"
        assert not writer.busy
        found = load_newest(tmp_path)
        assert found.state == {"losses": [0.5]}
        assert all(tensor.equal(moment[name]) for name, tensor in found.tensors["network"].items())

        addresses = [place.data_ptr() for place in writer._images["network"].places.values()]
        writer.save({"network": network.state_dict()}, {"losses": losses})
        assert addresses == [place.data_ptr() for place in writer._images["network"].places.values()]  # taken again
        writer.save({"network": {"other": torch.ones(4)}}, {})  # of another shape
    assert load(tmp_path / "000002")[0]["network"]["weight"].eq(7.0).all()
    assert load(tmp_path / "000003")[0]["network"]["other"].tolist() == [1.0] * 4


def test_a_second_save_waits_for_the_first(tmp_path, monkeypatch):
    gate = Gate(monkeypatch)
    with Writer(tmp_path, keep=9) as writer:
        writer.save({}, {"number": 1})
        assert gate.reached.wait(20)
        threading.Timer(0.05, gate.opened.set).start()
        writer.save({}, {"number": 2})
        assert load(tmp_path / "000001")[1] == {"number": 1}
    assert load_newest(tmp_path).state == {"number": 2}


def test_saving_now_is_on_the_disk_on_return_and_after_what_was_on_its_way(tmp_path):
    with Writer(tmp_path) as writer:
        writer.save({"network": {"w": torch.zeros(2)}}, {"number": 1})
        place = writer.save_now({"network": {"w": torch.ones(2)}}, {"number": 2}, labels=["best"])
        assert place == tmp_path / "000002-best"
        assert load_newest(tmp_path).folder == place


class Failing:
    """The disk is full for so many flushes."""

    def __init__(self, monkeypatch, times: int) -> None:
        self.left, flush = times, os.fsync

        def full(descriptor):
            self.left -= 1
            if self.left >= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            flush(descriptor)

        monkeypatch.setattr(os, "fsync", full)


FULL = "checkpoint could not be written: No space left on device; free some space"


def test_an_error_in_the_background_is_raised_by_the_next_save_once(tmp_path, monkeypatch):
    Failing(monkeypatch, 1)
    with Writer(tmp_path) as writer:
        writer.save({}, {"number": 1})
        with pytest.raises(UserError, match=FULL):
            writer.save({}, {"number": 2})
        writer.save({}, {"number": 3})
    assert load_newest(tmp_path).state == {"number": 3}


def test_an_error_in_the_background_is_raised_at_the_end(tmp_path, monkeypatch):
    Failing(monkeypatch, 1)
    with pytest.raises(UserError, match=FULL), Writer(tmp_path) as writer:
        writer.save({}, {"number": 1})


def test_the_last_state_is_saved_before_an_earlier_error_is_told(tmp_path, monkeypatch):
    Failing(monkeypatch, 1)
    with Writer(tmp_path) as writer:
        writer.save({}, {"number": 1})
        with pytest.raises(UserError, match=FULL):
            writer.save_now({}, {"number": 2})
        assert load_newest(tmp_path).state == {"number": 2}


def test_what_ended_the_training_is_not_hidden_by_a_full_disk(tmp_path, monkeypatch):
    Failing(monkeypatch, 1)
    writer = Writer(tmp_path)
    writer.save({}, {"number": 1})
    with pytest.raises(ZeroDivisionError) as caught, writer:
        raise ZeroDivisionError
    assert "No space left on device" in caught.value.__notes__[0]


def test_ctrl_c_does_not_wait_for_a_disk_that_hangs(tmp_path, monkeypatch):  # TR-21
    gate = Gate(monkeypatch)
    save(tmp_path, {}, {"number": 1})
    writer = Writer(tmp_path)
    writer.save({}, {"number": 2})
    assert gate.reached.wait(20)
    with pytest.raises(KeyboardInterrupt), writer:
        raise KeyboardInterrupt
    assert load_newest(tmp_path).state == {"number": 1}
    gate.opened.set()
    writer.close()
    assert load_newest(tmp_path).state == {"number": 2}


def test_state_that_is_not_json_is_told_where_it_was_given(tmp_path):
    with Writer(tmp_path) as writer, pytest.raises(TypeError, match="not JSON serializable"):
        writer.save({}, {"weights": torch.zeros(1)})
