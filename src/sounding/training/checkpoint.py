"""Checkpoints that are never half-written and never silently damaged: safetensors, JSON, and one manifest.

A checkpoint is a folder. It is written under another name beside its place, flushed to the disk, and renamed when
it is complete, so that a kill or a power cut at any instant leaves every earlier checkpoint as it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.optim import Optimizer

from sounding.errors import DamagedError, UserError
from sounding.finding import Finding

MANIFEST = "manifest.json"
STATE = "state.json"
TEMPORARY = ".unfinished-"
TensorSets = Mapping[str, Mapping[str, Tensor]]
"""File name without its ending to tensors by name."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint holds, verified."""

    folder: Path
    tensors: dict[str, dict[str, Tensor]]
    state: Any
    findings: list[Finding]
    """One for each newer checkpoint that was damaged and therefore passed over."""


def save(folder: Path, tensors: TensorSets, state: Any, *, keep: int = 2) -> Path:
    """Write the next checkpoint, then remove all but the newest `keep`.

    folder:   holds all checkpoints of a run, in sub-folders named by a running number.
    tensors:  one safetensors file for each set; any dtype, values that are not finite included.
    state:    plain JSON values.
    Returns:  the new checkpoint's folder.

    Raises:
        UserError: if it cannot be written (disk full, no permission, a link); what was there stays as it was.
    """
    temporary = folder / f"{TEMPORARY}{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_link(folder)
        _remove_leftovers(folder)
        temporary.mkdir()
        for name, group in tensors.items():
            (temporary / f"{name}.safetensors").write_bytes(_safetensors_bytes(group))
        (temporary / STATE).write_bytes(json.dumps(state, indent=1).encode())
        write_manifest(temporary)
        place = folder / f"{max([0, *_numbered(folder)]) + 1:06d}"
        temporary.rename(place)
        _flush_folder(folder)
        for number in sorted(_numbered(folder))[: -max(keep, 1)]:
            _remove(folder / f"{number:06d}")
    except OSError as error:
        raise UserError(
            f"the checkpoint could not be written: {error.strerror or error}",
            "free some space or choose another folder; earlier checkpoints are untouched",
            file=folder,
        ) from error
    finally:
        with contextlib.suppress(OSError):
            _remove(temporary)
    return place


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; none if nothing was ever saved.

    Damaged ones are passed over, with a finding each; nothing is deleted.

    Raises:
        DamagedError: if there are checkpoints and all of them are damaged, listing each.
    """
    damaged: list[str] = []
    findings: list[Finding] = []
    for number in sorted(_numbered(folder), reverse=True):
        place = folder / f"{number:06d}"
        try:
            return Checkpoint(place, *load(place), findings)
        except DamagedError as error:
            damaged.append(str(error))
            findings.append(
                Finding(
                    rule="damaged-checkpoint",
                    severity="warning",
                    title=f"checkpoint {place.name} is damaged; the one before it is used",
                    evidence={"checkpoint": str(place), "reason": str(error)},
                    meaning="The steps since the checkpoint before it are done again.",
                )
            )
    if damaged:
        raise DamagedError(f"every checkpoint is damaged: {' | '.join(damaged)}", "start again", file=folder)
    return None


def load(place: Path) -> tuple[dict[str, dict[str, Tensor]], Any]:
    """The tensors and the state of one checkpoint, after its manifest has been verified.

    Raises:
        DamagedError: if anything is not as it was written.
    """
    files = verify_manifest(place)
    try:
        tensors = {
            name.removesuffix(".safetensors"): safetensors.torch.load(content)
            for name, content in files.items()
            if name.endswith(".safetensors")
        }
        return tensors, json.loads(files[STATE])
    except (KeyError, ValueError, safetensors.SafetensorError) as error:
        raise DamagedError(f"cannot be read: {error}", file=place) from None


def write_manifest(folder: Path) -> None:
    """List every file of a folder with its size and SHA-256, in a file written last; all is flushed to the disk."""
    files = {}
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST:
            files[path.name] = _fingerprint(path.read_bytes())
            _flush(path)
    unfinished = folder.with_name(f"{TEMPORARY}{secrets.token_hex(4)}")  # a manifest, too, is whole or not there
    unfinished.write_bytes(_manifest_bytes(files))
    _flush(unfinished)
    unfinished.replace(folder / MANIFEST)
    _flush_folder(folder)


def verify_manifest(folder: Path) -> dict[str, bytes]:
    """The content of every file of a folder, read once and compared with the manifest before anything trusts it.

    Raises:
        DamagedError: listing up to ten files that are missing, foreign, a link, or changed; any single changed
            bit is found, in the manifest as well.
    """
    if folder.is_symlink():
        raise DamagedError("is a link", "put the folder itself here", file=folder)
    try:
        raw = (folder / MANIFEST).read_bytes()
        expected = json.loads(raw)["files"]
        intact = raw == _manifest_bytes(expected)
    except (OSError, ValueError, KeyError, TypeError):
        intact, expected = False, {}
    if not intact:
        raise DamagedError(f"{MANIFEST} is missing or changed", file=folder)

    contents: dict[str, bytes] = {}
    there = {path.name: path for path in folder.iterdir() if path.name != MANIFEST}
    problems = [f"{name} is missing" for name in expected if name not in there]
    for name, path in sorted(there.items()):
        if name not in expected:
            problems.append(f"{name} does not belong here")
        elif path.is_symlink() or not path.is_file():
            problems.append(f"{name} is not a plain file")
        else:
            contents[name] = path.read_bytes()
            if _fingerprint(contents[name]) != expected[name]:
                problems.append(f"{name} has changed since it was written")
    if problems:
        raise DamagedError(_up_to_ten(problems), file=folder)
    return contents


def check_tensors(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, file: object = None) -> None:
    """Compare names and shapes of tensors from a file with those of a network.

    Raises:
        DamagedError: listing up to ten that are missing, unknown or of another shape.
    """
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} is not part of the network" for name in found if name not in wanted]
    problems += [
        f"{name} has shape {tuple(found[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    if problems:
        raise DamagedError(_up_to_ten(problems), "it belongs to another network", file=file)


def optimizer_to_tensors(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as tensors named `PARAMETER.NAME`, and the plain values beside them.

    Learning rates and options are left out: they come from the recipe and the schedule.
    """
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            (tensors if isinstance(value, Tensor) else values)[f"{index}.{name}"] = value
    return tensors, values


def optimizer_from_tensors(optimizer: Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Give an optimizer a state back: the inverse of `optimizer_to_tensors`.

    Raises:
        DamagedError: if it belongs to other parameters.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **values}.items():
        index, _, name = key.partition(".")
        if not index.isdecimal() or int(index) >= len(parameters):
            raise DamagedError(f'the optimizer state "{key}" belongs to no parameter', "it is of another network")
        parameter = parameters[int(index)]
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            # In the parameter's memory layout: another one would take another kernel, with other last bits.
            value = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _numbered(folder: Path) -> Iterator[int]:
    """The numbers of all checkpoints in a folder, links left out."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name.isdecimal() and path.is_dir() and not path.is_symlink():
                yield int(path.name)


def _safetensors_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    # A copy of each: safetensors refuses tensors that share memory (tied weights) or are not contiguous.
    copies = {
        name: t.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for name, t in tensors.items()
    }
    return safetensors.torch.save(copies)


def _manifest_bytes(files: Any) -> bytes:
    """The only way a manifest of these files is written, so that any other byte is a sign of damage."""
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    return json.dumps({"files": files, "sha256": digest}, indent=1, sort_keys=True).encode()


def _fingerprint(content: bytes) -> dict[str, Any]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _flush(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut; some systems (Windows) cannot open a folder, and need not."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _refuse_link(folder: Path) -> None:
    if folder.is_symlink():
        raise UserError("is a link; checkpoints are not written through one", "give the folder itself", file=folder)


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed saves left behind."""
    for path in folder.iterdir():
        if path.name.startswith(TEMPORARY):
            _remove(path)


def _remove(place: Path) -> None:
    """Remove a folder; it disappears under its name at once, so that no reader meets half of it."""
    if place.is_file() and not place.is_symlink():
        place.unlink()
    elif place.is_dir() and not place.is_symlink():
        going = place.with_name(f"{TEMPORARY}{secrets.token_hex(4)}")
        place.rename(going)
        shutil.rmtree(going)


def _up_to_ten(problems: list[str]) -> str:
    more = len(problems) - 10
    return ", ".join(problems[:10]) + (f", and {more} more" if more > 0 else "")
