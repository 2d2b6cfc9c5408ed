"""Checkpoints that are never half-written and never silently damaged: safetensors, JSON, and one manifest.

A checkpoint is a folder. It is written under another name beside its place, flushed to the disk, and renamed when
it is complete, so that a kill or a power cut at any instant leaves every earlier checkpoint as it was. Everything is
written beside its place, on the same file system, and nothing is known of a checkpoint but its files and its name:
a copy, or one that was in an archive, is as good.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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
PIECE = 2**24
"""Bytes that are written at once."""
LOOKS = 10
"""A listing of a folder can miss what is renamed meanwhile, so nothing is there only when nothing is seen so often."""
TensorSets = Mapping[str, Mapping[str, Tensor]]
"""File name without its ending to tensors by name."""
Reader = Callable[[Path], tuple[dict[str, dict[str, Tensor]], Any]]
"""The tensors and the state of a checkpoint, from its folder."""
Files = Iterable[tuple[str, bytes | memoryview]]
"""File names and contents."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint holds, verified."""

    folder: Path
    tensors: dict[str, dict[str, Tensor]]
    state: Any
    findings: list[Finding]
    """One for each newer checkpoint that was damaged and therefore passed over."""


def save(folder: Path, tensors: TensorSets, state: Any, *, keep: int = 2, labels: Iterable[str] = ()) -> Path:
    """Write the next checkpoint, then remove all but the newest `keep` and the newest with each label.

    folder:   holds all checkpoints of a run, in sub-folders named by a running number and their labels.
    tensors:  one safetensors file for each set; any dtype, values that are not finite included.
    state:    plain JSON values.
    labels:   small letters and digits each. `best` protects this checkpoint until there is another `best`, a label
              used once (`epoch10`) for good. They are part of the folder's name, so that whoever goes on with the
              run keeps the same ones.
    Returns:  the new checkpoint's folder.

    Raises:
        UserError: if it cannot be written (disk full, no permission, a link); what was there stays as it was.
    """
    return _write_checkpoint(folder, _contents(tensors, state, {}), keep, labels)


class Writer:
    """Writes checkpoints beside the training: `save` copies, and another thread writes.

    folder, keep: as in the function `save`.

    At most one checkpoint is on its way. A second `save` waits for it, so that none is lost, memory is that of one
    copy, and training cannot run away from a slow disk; who would rather train on looks at `busy` first. What goes
    wrong in the background is raised by the next `save`, `save_now`, `wait` or `close`.

    >>> import tempfile
    >>> weight = torch.zeros(2)
    >>> with tempfile.TemporaryDirectory() as name, Writer(Path(name)) as writer:
    ...     writer.save({"network": {"weight": weight}}, {"step": 1})
    ...     _ = weight.fill_(9.0)                                   # training goes on
    ...     place = writer.wait()
    ...     place.name, load_newest(Path(name)).tensors["network"]["weight"].tolist()
    ('000001', [0.0, 0.0])
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep
        self._images: dict[str, _Image] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[Path] | None = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, KeyboardInterrupt):  # out, at once: the thread ends after the file it is at
            self._thread.shutdown(wait=False, cancel_futures=True)
            return
        try:
            self.close()
        except UserError as failure:
            if error is None:
                raise
            error.add_note(f"besides: {failure}")  # what ended the training matters more

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written, so that a save would wait."""
        return self._pending is not None and not self._pending.done()

    def save(self, tensors: TensorSets, state: Any, *, labels: Iterable[str] = ()) -> None:
        """Take a copy of everything as it is now, to be written while the caller goes on.

        Raises:
            UserError: if the checkpoint before this one could not be written.
        """
        self.wait()
        contents = list(_contents(tensors, state, self._images))
        self._pending = self._thread.submit(_write_checkpoint, self.folder, contents, self.keep, tuple(labels))

    def save_now(self, tensors: TensorSets, state: Any, *, labels: Iterable[str] = ()) -> Path:
        """Save, and return when it is on the disk: for the end, and for a signal.

        Raises:
            UserError: if this or the checkpoint before it could not be written; in the second case, this one is.
        """

        def write() -> Path:
            return _write_checkpoint(self.folder, _contents(tensors, state, self._images), self.keep, labels)

        try:
            self.wait()
        except UserError:
            write()
            raise
        return write()

    def wait(self) -> Path | None:
        """Wait until nothing is on its way any more; the folder of what was, none if nothing was.

        Raises:
            UserError: if it could not be written.
        """
        pending, self._pending = self._pending, None
        return None if pending is None else pending.result()

    def close(self) -> None:
        """Wait, and end the thread.

        Raises:
            UserError: if the last checkpoint could not be written.
        """
        self._thread.shutdown()
        self.wait()


def load_newest(folder: Path, read: Reader | None = None) -> Checkpoint | None:
    """The newest checkpoint that is whole; none if nothing was ever saved.

    read:  `load` when left out; what else can read the folder of one, and notices damage.

    Damaged ones are passed over, with a finding each; nothing is deleted. Where another process saves meanwhile, and
    removes what is being read, it is looked for again.

    Raises:
        DamagedError: if there are checkpoints and all of them are damaged, listing each.
    """
    looks = 0
    while looks < LOOKS:
        looks += 1
        damaged: list[str] = []
        findings: list[Finding] = []
        for entry in _entries(folder):
            try:
                return Checkpoint(entry.place, *(read or load)(entry.place), findings)
            except DamagedError as error:
                if not entry.place.exists():
                    looks = 0  # others came in its place
                    break
                damaged.append(str(error))
                findings.append(_passed_over(entry.place, error))
        if looks and damaged:
            raise DamagedError(f"every checkpoint is damaged: {' | '.join(damaged)}", "start again", file=folder)
    return None


def _passed_over(place: Path, error: DamagedError) -> Finding:
    return Finding(
        rule="damaged-checkpoint",
        severity="warning",
        title=f"checkpoint {place.name} is damaged; the one before it is used",
        evidence={"checkpoint": str(place), "reason": str(error)},
        meaning="The steps since the checkpoint before it are done again.",
    )


def load(place: Path) -> tuple[dict[str, dict[str, Tensor]], Any]:
    """The tensors and the state of one checkpoint, after its manifest has been verified.

    Raises:
        DamagedError: if anything is not as it was written.
    """
    files = verify_manifest(place)
    try:
        state = json.loads(files.pop(STATE))
        tensors = {}
        for name in [name for name in files if name.endswith(".safetensors")]:
            # taken out of the files, so that no more than one of them is in memory twice
            tensors[name.removesuffix(".safetensors")] = safetensors.torch.load(files.pop(name))
        return tensors, state
    except (KeyError, ValueError, safetensors.SafetensorError) as error:
        raise DamagedError(f"cannot be read: {error}", file=place) from None


def write_manifest(folder: Path) -> None:
    """List every file of a folder with its size and SHA-256, in a file written last; all is flushed to the disk.

    Raises:
        UserError: if it cannot be written; an earlier manifest stays as it was.
    """
    # Beside the folder until it is whole; under a name that the next attempt takes again.
    unfinished = folder.with_name(f"{TEMPORARY}{folder.name}")
    try:
        files = {path.name: _flush(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
        unfinished.unlink(missing_ok=True)
        _write(unfinished, _manifest_bytes(files))
        unfinished.replace(folder / MANIFEST)
        _flush_folder(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise _cannot("the manifest could not be written", error, folder) from error


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files and their manifest into a new folder, which is there when it is whole.

    One of that name takes its place: it was left by a process that was killed here.
    """
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    for leftover in (unfinished, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir()
    for name, content in files.items():
        (unfinished / name).write_bytes(content)
    write_manifest(unfinished)
    unfinished.rename(folder)


def verify_manifest(folder: Path) -> dict[str, bytes]:
    """The content of every file of a folder, read once and compared with the manifest before anything trusts it.

    Raises:
        DamagedError: listing up to ten files that are missing, foreign, a link, not readable, or changed; any
            single changed bit is found, in the manifest as well.
    """
    if folder.is_symlink():
        raise DamagedError("is a link", "put the folder itself here", file=folder)
    try:
        raw = (folder / MANIFEST).read_bytes()
        expected = json.loads(raw)["files"]
        intact = raw == _manifest_bytes(expected)
        there = {path.name: path for path in folder.iterdir() if path.name != MANIFEST}
    except (OSError, ValueError, KeyError, TypeError):
        intact, expected, there = False, {}, {}
    if not intact:
        raise DamagedError(f"{MANIFEST} is missing or changed", file=folder)

    contents: dict[str, bytes] = {}
    problems = [f"{name} is missing" for name in expected if name not in there]
    for name, path in sorted(there.items()):
        if name not in expected:
            problems.append(f"{name} does not belong here")
        elif path.is_symlink() or not path.is_file():
            problems.append(f"{name} is not a plain file")
        else:
            try:
                contents[name] = path.read_bytes()
            except OSError as error:  # a bad sector, say
                problems.append(f"{name} cannot be read ({error.strerror})")
                continue
            digest = hashlib.sha256(contents[name]).hexdigest()
            if _fingerprint(len(contents[name]), digest) != expected[name]:
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


class _Image:
    """A safetensors file in memory, with a view of each tensor's place in it, to be filled again and again.

    A copy of a network is then also its file: nothing is copied a second time to be written, tensors that share
    memory (tied weights) or are not contiguous, which the library's own writer refuses, need no care, and hashing
    and writing are a few long calls that leave the interpreter to the training thread.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.layout = _layout(tensors)
        for name, dtype, _ in self.layout:
            if dtype not in DTYPES:
                raise UserError(f'"{name}" is of {dtype}, which a checkpoint cannot hold', "give it another dtype")
        entries, ranges, end, order = {}, {}, 0, list(DTYPES)
        for name in sorted(tensors, key=lambda name: (order.index(tensors[name].dtype), name)):
            tensor = tensors[name]
            ranges[name] = end, end + tensor.nbytes
            entries[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": ranges[name]}
            end += tensor.nbytes
        header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
        header += b" " * (-len(header) % 8)
        begin = 8 + len(header)
        image = torch.empty(begin + end, dtype=torch.uint8)
        self.content: memoryview = image.numpy().data
        self.content[:begin] = len(header).to_bytes(8, "little") + header
        self.places = {
            name: image[begin + low : begin + high].view(tensors[name].dtype).view(tensors[name].shape)
            for name, (low, high) in ranges.items()
        }

    def fill(self, tensors: Mapping[str, Tensor]) -> memoryview:
        """The file of these tensors as they are now; good until it is filled again."""
        with torch.no_grad():
            for name, place in self.places.items():
                place.copy_(tensors[name])
        return self.content


DTYPES = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Their names in a safetensors file, in the order in which they lie in it: wide ones first, so that all are aligned."""


def _layout(tensors: Mapping[str, Tensor]) -> list[tuple[str, torch.dtype, torch.Size]]:
    return [(name, tensor.dtype, tensor.shape) for name, tensor in tensors.items()]


def _contents(tensors: TensorSets, state: Any, images: dict[str, _Image]) -> Iterator[tuple[str, bytes | memoryview]]:
    """The files of a checkpoint one by one, in the images of the last one where they fit."""
    yield STATE, json.dumps(state).encode()
    for name, group in tensors.items():
        if name not in images or images[name].layout != _layout(group):
            images.pop(name, None)  # before the new one is made: not both in memory
            images[name] = _Image(group)
        yield f"{name}.safetensors", images[name].fill(group)


def _write_checkpoint(folder: Path, contents: Files, keep: int, labels: Iterable[str]) -> Path:
    labels = list(labels)
    if not all(re.fullmatch("[a-z0-9]+", label) for label in labels):
        raise ValueError(f"labels are small letters and digits, unlike {labels}")
    temporary = folder / f"{TEMPORARY}{secrets.token_hex(4)}"
    try:
        _make_folder(folder)
        temporary.mkdir()
        files = {name: _write(temporary / name, content) for name, content in contents}
        _write(temporary / MANIFEST, _manifest_bytes(files))
        _flush_folder(temporary)
        number = max((entry.number for entry in _entries(folder)), default=0) + 1
        place = folder / "-".join([f"{number:06d}", *labels])
        temporary.rename(place)  # from here on it is there
        _flush_folder(folder)
    except OSError as error:
        raise _cannot("the checkpoint could not be written", error, folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # not there if all went well; what stays, the next save removes
    try:
        _prune(folder, keep)
    except OSError as error:
        raise _cannot("the checkpoint was written, but an old one cannot be removed", error, folder) from error
    return place


def _prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep`, one at least, and the newest with each label."""
    labels: set[str] = set()
    for age, entry in enumerate(_entries(folder)):
        if age >= max(keep, 1) and labels.issuperset(entry.labels):
            # It disappears under its name at once, so that no reader meets half of it.
            going = folder / f"{TEMPORARY}{secrets.token_hex(4)}"
            entry.place.rename(going)
            shutil.rmtree(going)
        labels.update(entry.labels)


_NAME = re.compile(r"([0-9]+)((?:-[a-z0-9]+)*)")


class _Entry(NamedTuple):
    number: int
    place: Path
    labels: tuple[str, ...]


def _entries(folder: Path) -> list[_Entry]:
    """All checkpoints in a folder, the newest first, links left out."""
    entries = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match and path.is_dir() and not path.is_symlink():
            entries.append(_Entry(int(match[1]), path, tuple(match[2].split("-")[1:])))
    return sorted(entries, reverse=True)


def _make_folder(folder: Path) -> None:
    """Where checkpoints will be, without what killed saves left behind."""
    if folder.is_symlink():
        raise UserError("is a link; checkpoints are not written through one", "give the folder itself", file=folder)
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        _flush_folder(folder.parent)
    for path in folder.iterdir():
        if path.name.startswith(TEMPORARY) and not path.is_symlink():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _manifest_bytes(files: Any) -> bytes:
    """The only way a manifest of these files is written, so that any other byte is a sign of damage."""
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    return json.dumps({"files": files, "sha256": digest}, indent=1, sort_keys=True).encode()


def _fingerprint(size: int, digest: str) -> dict[str, Any]:
    return {"size": size, "sha256": digest}


def _write(path: Path, content: bytes | memoryview) -> dict[str, Any]:
    """Write a new file and flush it to the disk; its fingerprint, taken on the way."""
    digest, left = hashlib.sha256(), memoryview(content)
    size = len(left)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        while left:
            written = os.write(descriptor, left[:PIECE])
            digest.update(left[:written])
            left = left[written:]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return _fingerprint(size, digest.hexdigest())


def _flush(path: Path) -> dict[str, Any]:
    """Flush a file to the disk; its fingerprint."""
    with path.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return _fingerprint(file.tell(), digest)


def _flush_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut; some systems (Windows) cannot open a folder, and need not."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _cannot(what: str, error: OSError, folder: Path) -> UserError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "free some space" if full else "look after the disk and its permissions"
    return UserError(
        f"{what}: {error.strerror or error}",
        f"{remedy} or choose another folder; earlier checkpoints are untouched",
        file=folder,
    )


def _up_to_ten(problems: list[str]) -> str:
    more = len(problems) - 10
    return ", ".join(problems[:10]) + (f", and {more} more" if more > 0 else "")
