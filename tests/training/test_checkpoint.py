from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from sounding.errors import DamagedError, UserError
from sounding.training.checkpoint import (
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


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(content)


def test_every_single_bit_flip_and_every_truncation_is_found(tmp_path):
    place = save(tmp_path, {"network": {"w": torch.randn(20)}, "best": {"w": torch.zeros(3)}}, {"epoch": 1})
    names = sorted(path.name for path in place.iterdir())
    assert names == ["best.safetensors", "manifest.json", "network.safetensors", "state.json"]
    draws = random.Random(0)
    for trial in range(400):
        name = names[trial % len(names)]
        good = (place / name).read_bytes()
        if trial < 200:
            flip(place / name, draws.randrange(8 * len(good)))
        else:
            (place / name).write_bytes(good[: draws.randrange(len(good))])
        with pytest.raises(DamagedError, match="changed"):
            load(place)
        (place / name).write_bytes(good)
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


def test_a_damaged_one_is_passed_over_with_a_finding(tmp_path):
    save(tmp_path, {}, {"number": 0})
    newest = save(tmp_path, {}, {"number": 1})
    flip(newest / "state.json", 5)
    found = load_newest(tmp_path)
    assert found.state == {"number": 0}
    (finding,) = found.findings
    assert finding.rule == "damaged-checkpoint"
    assert "state.json has changed" in finding.evidence["reason"]
    assert save(tmp_path, {}, {"number": 2}).name == "000003"  # never into the damaged one's place


def test_all_damaged_lists_each_and_deletes_nothing(tmp_path):
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


def test_a_copy_loads(tmp_path):
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


def test_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    source = str(Path(__file__).parents[2] / "src")
    run = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 1  # saves went through between the kills


SWEEP = """
import os, sys, torch
from pathlib import Path
from sounding.training.checkpoint import load_newest, save

folder, outcomes = Path(sys.argv[1]), []
save(folder, {"network": {"w": torch.zeros(3)}}, {"number": 0}, keep=1)
for dying_at in range(1, 1000):
    child = os.fork()
    if child == 0:
        left = dying_at
        def dying(operation):
            def first_count(*arguments, **options):
                global left
                left -= 1
                if left == 0:
                    os._exit(9)
                return operation(*arguments, **options)
            return first_count
        for owner, name in [(os, "fsync"), (os, "rmdir"), (os, "unlink")] + [
            (Path, name) for name in ("mkdir", "rename", "replace", "write_bytes")
        ]:
            setattr(owner, name, dying(getattr(owner, name)))
        save(folder, {"network": {"w": torch.full((3,), float(dying_at))}}, {"number": dying_at}, keep=1)
        os._exit(0)
    finished = os.waitpid(child, 0)[1] == 0
    found = load_newest(folder)
    assert found.findings == [], (dying_at, found.findings)
    assert (found.tensors["network"]["w"] == found.state["number"]).all(), "a mix of two"
    outcomes.append(found.state["number"] == dying_at)
    if finished:
        break
assert outcomes == sorted(outcomes), "old before the commit, new from then on"
assert finished and not outcomes[0] and outcomes[-1]
print(len(outcomes))
"""


def test_dying_before_any_single_operation_leaves_the_old_or_the_new_one(tmp_path):
    source = str(Path(__file__).parents[2] / "src")
    command = [sys.executable, "-c", SWEEP, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": source})
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 10


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
