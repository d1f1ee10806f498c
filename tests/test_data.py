"""The data loaders: real counts, checksums before parsing, downloads that leave nothing bad behind, one-line errors."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tasks import data
from tasks.data import cifar, idx
from tasks.data.catalogue import DATASETS, DataError, DataFile, Dataset
from tasks.data.locate import locate, needed

TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
CONTENT = b"sixteen bytes..!" * 4096


def file_of(path: str, content: bytes, **fields) -> DataFile:
    fields.setdefault("urls", (f"http://unused.invalid/{path}",))
    return DataFile(path, len(content), hashlib.sha256(content).hexdigest(), **fields)


def failure(call, *args) -> str:
    """Return the message of the DataError that `call` raises, which must be one line."""
    with pytest.raises(DataError) as caught:
        call(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


def kept(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ---- real data ----


@pytest.fixture
def real(monkeypatch):
    """Load a real data set, or skip; never download."""
    monkeypatch.setenv("HYPERGRAD_BENCH_OFFLINE", "1")

    def load(name: str) -> dict[str, np.ndarray]:
        absent = [file.path for file in needed(DATASETS[name]) if not file.optional and not locate(file)]
        if absent:
            pytest.skip(f"{absent[0]} is neither in HYPERGRAD_BENCH_DATA nor in the cache")  # never downloaded here
        return data.load(name)

    return load


def test_digits():
    arrays = data.load("digits")
    assert arrays["images"].shape == (1797, 64)
    assert arrays["images"].dtype == np.float64
    assert (arrays["images"].min(), arrays["images"].max()) == (0.0, 1.0)
    assert np.bincount(arrays["labels"]).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert arrays["labels"].dtype == np.int64
    assert data.verify(["digits"]) == [("sklearn.datasets.load_digits", "ok")]


def test_mnist_counts(real):
    arrays = real("mnist")
    assert arrays["train_images"].shape == (60000, 28, 28)
    assert arrays["test_images"].shape == (10000, 28, 28)
    assert arrays["train_images"].dtype == np.uint8
    assert arrays["train_labels"].dtype == np.int64
    assert np.bincount(arrays["train_labels"]).tolist() == TRAIN_COUNTS
    assert np.bincount(arrays["test_labels"]).tolist() == TEST_COUNTS
    assert arrays["train_images"].mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert all(verdict == "ok" for _, verdict in data.verify(["mnist"]))


def test_cifar10_counts(real):
    arrays = real("cifar10")
    batches = arrays["train_batches"].tolist()
    assert batches[0] == 1
    assert arrays["train_images"].shape == (10000 * len(batches), 32, 32, 3)
    first = np.bincount(arrays["train_labels"][:10000]).tolist()
    assert first == [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
    assert np.bincount(arrays["test_labels"]).tolist() == [1000] * 10
    assert arrays["names"][arrays["train_labels"][0]] == "frog"
    # Over the first batch alone the mean differs from the published one of all five by less than this.
    mean = arrays["train_images"].mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=0.005)


def test_cifar100_counts_and_order(real):
    arrays = real("cifar100")
    assert np.bincount(arrays["test_fine"]).tolist() == [100] * 100
    assert np.bincount(arrays["test_coarse"]).tolist() == [500] * 20
    assert arrays["fine_names"].tolist() == sorted(arrays["fine_names"])
    mean = arrays["test_images"].mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(mean, [0.5087964127, 0.48739301, 0.44194221], atol=1e-8)
    # The same array is due whichever container the images are read from.
    digest = hashlib.sha256(arrays["test_images"].tobytes()).hexdigest()
    assert digest == "2716d826d85ee9ca7f948fb4dc3b3d7515225d1a436d1c4b7e6975855da3d9ee"


def test_omniglot_counts(real):
    arrays = real("omniglot")
    assert arrays["background"].shape == (964, 20, 28, 28)
    assert arrays["evaluation"].shape == (659, 20, 28, 28)
    assert set(np.unique(arrays["background"])) == {0, 1}
    assert 0.02 < arrays["background"].mean() < 0.2, "ink is 1 and rare"
    for part, alphabets in (("background", 30), ("evaluation", 20)):
        names = arrays[f"{part}_names"]
        assert len(set(names)) == len(names)
        assert len({name.split("/")[0] for name in names}) == alphabets
    # The one duplicate that is known: drawers 3 and 19.
    braille = arrays["background"][arrays["background_names"].tolist().index("Braille/character01")]
    np.testing.assert_array_equal(braille[2], braille[18])


def test_loaded_arrays_cannot_be_changed_for_others():
    images = data.load("digits")["images"]
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_listing_is_complete():
    rows = data.listing()
    assert {row["name"] for row in rows} == {"digits", "mnist", "cifar10", "cifar100", "omniglot"}
    assert all(set(row) >= {"file", "bytes", "sha256", "present", "where", "source", "terms"} for row in rows)
    assert all(len(row["sha256"]) == 64 and row["terms"] for row in rows)
    assert all(row["source"] in ("HYPERGRAD_BENCH_DATA", "cache", "scikit-learn", "missing") for row in rows)
    assert all(row["present"] == (row["source"] != "missing") == bool(row["where"]) for row in rows)


def test_import_is_light():
    code = (
        "import sys, tasks.data; print(*({'pooch', 'PIL', 'sklearn', 'requests', 'torch', 'jax'} & set(sys.modules)))"
    )
    root = Path(data.__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""


def test_unknown_name_says_what_is_allowed():
    assert failure(data.load, "minst") == (
        "unknown data set 'minst': choose one of digits, mnist, cifar10, cifar100, omniglot"
    )


# ---- search order and downloads ----


@pytest.fixture
def folders(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """Return an empty data folder and an empty cache, both in force, and no way out but localhost."""
    folder, cache = tmp_path / "data", tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("HYPERGRAD_BENCH_DATA", str(folder))
    monkeypatch.setenv("HYPERGRAD_BENCH_CACHE", str(cache))
    monkeypatch.delenv("HYPERGRAD_BENCH_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder, cache


@pytest.fixture
def mirror(folders, monkeypatch) -> Iterator[dict[str, tuple[bytes, int]]]:
    """Serve a dict of path -> (body, declared length) on localhost as HYPERGRAD_BENCH_MIRROR."""
    served: dict[str, tuple[bytes, int]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.lstrip("/") not in served:
                self.send_error(404)
                return
            body, length = served[self.path.lstrip("/")]
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("HYPERGRAD_BENCH_MIRROR", f"http://127.0.0.1:{server.server_port}/")
    yield served
    server.shutdown()
    server.server_close()


@pytest.fixture
def tiny(monkeypatch) -> DataFile:
    """Add a data set `tiny` of one file to the catalogue."""
    file = file_of("tiny/file.bin", CONTENT)
    monkeypatch.setitem(DATASETS, "tiny", Dataset("tiny", "", (file,), "", ""))
    return file


def test_good_download_is_kept_and_found(folders, mirror, tiny):
    _, cache = folders
    mirror[tiny.path] = (CONTENT, len(CONTENT))
    assert data.fetch(["tiny"]) == [cache / tiny.path]
    assert (cache / tiny.path).read_bytes() == CONTENT
    assert kept(cache) == [tiny.path]
    assert data.verify(["tiny"]) == [(tiny.path, "ok")]
    row = next(row for row in data.listing() if row["name"] == "tiny")
    assert (row["present"], row["source"], row["where"]) == (True, "cache", str(cache / tiny.path))
    mirror.clear()
    assert data.fetch(["tiny"]) == [cache / tiny.path], "nothing is downloaded twice"


def test_an_alternative_container_is_as_good(folders, mirror, monkeypatch):
    other = b"the same members, packed anew"
    pair = (len(other), hashlib.sha256(other).hexdigest())
    file = file_of("tiny/file.bin", CONTENT, alternatives=(pair,))
    monkeypatch.setitem(DATASETS, "tiny", Dataset("tiny", "", (file,), "", ""))
    mirror[file.path] = (other, len(other))
    assert data.fetch(["tiny"])[0].read_bytes() == other


@pytest.mark.parametrize(
    ("body", "length", "reason"),
    [
        pytest.param(CONTENT[:30000], len(CONTENT), "truncated", id="broken off"),
        pytest.param(CONTENT[:30000], 30000, "truncated: 30000 bytes, expected 65536", id="too short"),
        pytest.param(b"x" * len(CONTENT), len(CONTENT), "wrong content: sha256", id="another file"),
        pytest.param(CONTENT + b"x", len(CONTENT) + 1, "wrong size: 65537 bytes", id="too long"),
    ],
)
def test_bad_download_leaves_nothing(folders, mirror, tiny, body, length, reason):
    mirror[tiny.path] = (body, length)
    message = failure(data.fetch, ["tiny"])
    assert os.environ["HYPERGRAD_BENCH_MIRROR"] + tiny.path in message
    assert reason in message
    assert kept(folders[1]) == []


def test_absent_on_the_server(folders, mirror, tiny):
    message = failure(data.fetch, ["tiny"])
    assert "the server answered 404" in message
    assert kept(folders[1]) == []


def test_no_server(folders, tiny, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HYPERGRAD_BENCH_MIRROR", url)
    message = failure(data.fetch, ["tiny"])
    assert f"{url}/{tiny.path}: no connection to the server" in message
    assert kept(folders[1]) == []


def test_offline_is_one_line_that_says_what_to_do(folders, monkeypatch):
    monkeypatch.setenv("HYPERGRAD_BENCH_OFFLINE", "1")
    monkeypatch.delenv("HYPERGRAD_BENCH_MIRROR", raising=False)
    message = failure(data.load, "mnist")
    for part in ("train-images", "OFFLINE forbids", "amazonaws", str(folders[0]), str(folders[1]), "data fetch mnist"):
        assert part in message
    assert all(verdict.startswith("missing in") for _, verdict in data.verify(["mnist"]))


def test_a_file_without_address_says_so(folders, monkeypatch):
    file = file_of("tiny/file.bin", CONTENT, urls=())
    monkeypatch.setitem(DATASETS, "tiny", Dataset("tiny", "", (file,), "", ""))
    assert "no public address" in failure(data.fetch, ["tiny"])


def test_the_data_folder_comes_before_the_cache(folders, tiny):
    for folder in folders:
        (folder / tiny.path).parent.mkdir(parents=True)
        (folder / tiny.path).write_bytes(CONTENT)
    assert data.fetch(["tiny"]) == [folders[0] / tiny.path]


def test_a_damaged_file_is_replaced_in_the_cache_only(folders, mirror, tiny):
    folder, cache = folders
    mirror[tiny.path] = (CONTENT, len(CONTENT))
    (cache / tiny.path).parent.mkdir(parents=True)
    (cache / tiny.path).write_bytes(b"damaged")
    assert data.verify(["tiny"])[0][1].startswith("truncated: 7 bytes")
    assert data.fetch(["tiny"])[0].read_bytes() == CONTENT
    (folder / tiny.path).parent.mkdir(parents=True)
    (folder / tiny.path).write_bytes(b"damaged")
    assert f"{folder / tiny.path} is refused: truncated" in failure(data.fetch, ["tiny"])
    assert (folder / tiny.path).read_bytes() == b"damaged"


def test_a_data_folder_that_is_none(folders, monkeypatch):
    monkeypatch.setenv("HYPERGRAD_BENCH_DATA", str(folders[0] / "absent"))
    assert "is not a folder" in failure(data.load, "mnist")


def test_a_cache_that_cannot_be_written(folders, mirror, tiny, monkeypatch):
    mirror[tiny.path] = (CONTENT, len(CONTENT))
    in_the_way = folders[0] / "a file"
    in_the_way.write_bytes(b"")
    monkeypatch.setenv("HYPERGRAD_BENCH_CACHE", str(in_the_way))
    assert "cannot be made" in failure(data.fetch, ["tiny"])


# ---- archives and pickles ----


def tar_gz(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def small_cifar100() -> dict[str, bytes]:
    """Return a `test` and a `meta` pickle of four images, two classes, in no order."""
    test = {
        "data": np.repeat(np.arange(4, dtype=np.uint8), 3072).reshape(4, 3072),
        "fine_labels": [1, 0, 1, 0],
        "coarse_labels": [0, 0, 0, 0],
        "filenames": ["b2.png", "a2.png", "b1.png", "a1.png"],
    }
    meta = {"fine_label_names": ["apple", "bee"], "coarse_label_names": ["living"]}
    # Protocol 3: the newest one whose arrays are rebuilt as in the published files.
    return {f"cifar-100-python/{name}": pickle.dumps(value, 3) for name, value in (("test", test), ("meta", meta))}


def serve_archive(monkeypatch, mirror, members: dict[str, bytes], archive_members: dict[str, bytes]) -> None:
    """Make cifar100 a set of `members`, published in an archive that holds `archive_members`."""
    packed = tar_gz(archive_members)
    archive = file_of("cifar-100-python.tar.gz", packed)
    files = tuple(file_of(path, content, urls=(), archive=archive) for path, content in members.items())
    monkeypatch.setitem(DATASETS, "cifar100", replace(DATASETS["cifar100"], files=files))
    mirror[archive.path] = (packed, len(packed))


def test_archive_is_downloaded_unpacked_loaded_and_not_kept(folders, mirror, monkeypatch):
    members = small_cifar100()
    serve_archive(monkeypatch, mirror, members, {"cifar-100-python/train": b"not wanted", **members, "../out": b"!"})
    arrays = data.load("cifar100")
    assert arrays["test_images"][:, 0, 0, 0].tolist() == [3, 1, 2, 0], "order of class, then of file name"
    assert arrays["test_fine"].tolist() == [0, 0, 1, 1]
    assert arrays["fine_names"].tolist() == ["apple", "bee"]
    assert kept(folders[1]) == sorted(members)


def test_archive_with_a_wrong_or_missing_member(folders, mirror, monkeypatch):
    members = small_cifar100()
    wrong = {path: content + b"x" for path, content in members.items()}
    serve_archive(monkeypatch, mirror, members, wrong)
    assert "wrong size" in failure(data.load, "cifar100")
    serve_archive(monkeypatch, mirror, members, {"other": b""})
    assert "holds no cifar-100-python/test" in failure(data.load, "cifar100")
    assert kept(folders[1]) == []


class Malicious:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_malicious_pickle_is_refused_even_with_the_right_checksum(folders, tmp_path, monkeypatch):
    path = tmp_path / "done by the pickle"
    content = pickle.dumps({"data": Malicious(path)}, 2)
    file = file_of("cifar-100-python/test", content)
    monkeypatch.setitem(DATASETS, "cifar100", replace(DATASETS["cifar100"], files=(file,)))
    (folders[0] / file.path).parent.mkdir(parents=True)
    (folders[0] / file.path).write_bytes(content)
    assert f"it asks for {os.mkdir.__module__}.mkdir" in failure(data.load, "cifar100")
    assert not path.exists()
    pickle.loads(content)
    assert path.exists(), "the pickle is one that would have done it"


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage\n.", pickle.dumps([1, 2], 2), pickle.dumps(eval, 2), pickle.dumps({"f": np.load}, 3)],
    ids=["empty", "garbage", "no dict", "eval", "numpy function"],
)
def test_other_pickles_are_refused(content):
    assert failure(cifar.unpickle, content, "some/file").startswith("some/file is refused")


def test_tampered_files_are_refused_before_anything_parses_them(folders, monkeypatch):
    def parsed(*args):
        raise AssertionError("parsed before its checksum")

    monkeypatch.setattr(idx, "parse", parsed)
    monkeypatch.setattr(cifar, "unpickle", parsed)
    for name in ("mnist", "cifar10", "omniglot"):
        for file in DATASETS[name].files:
            path = folders[0] / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"\0" * file.bytes if file.bytes < 50000 else b"tampered")
        first = folders[0] / DATASETS[name].files[0].path
        message = failure(data.load, name)
        assert message.startswith(f"{first} is refused: truncated: 8 bytes")
        assert f"data fetch {name}" in message
    labels = folders[0] / "MNIST/raw/t10k-labels-idx1-ubyte.gz"
    assert ("MNIST/raw/t10k-labels-idx1-ubyte.gz", str(labels)) in [
        (file, verdict.split("(")[-1].rstrip(")"))
        for file, verdict in data.verify(["mnist"])
        if "wrong content" in verdict
    ]


# ---- IDX ----


def idx_bytes(magic: int, dimensions: tuple[int, ...], size: int) -> bytes:
    return np.asarray([magic, *dimensions], ">u4").tobytes() + bytes(i % 256 for i in range(size))


def test_idx_is_read():
    array = idx.parse(gzip.compress(idx_bytes(2051, (2, 3, 4), 24)), (2, 3, 4), "f")
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, np.arange(24).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gzip.compress(idx_bytes(2049, (2, 3, 4), 24)), "magic number 2049, expected 2051"),
        (gzip.compress(idx_bytes(2051, (3, 2, 4), 24)), r"dimensions (3, 2, 4), expected (2, 3, 4)"),
        (gzip.compress(idx_bytes(2051, (2, 3, 4), 23)), "holds 23 bytes of data, expected 24"),
        (gzip.compress(idx_bytes(2051, (2, 3, 4), 25)), "holds 25 bytes of data, expected 24"),
        (gzip.compress(b"\0\0\x08\x03"), "not an IDX file"),
        (gzip.compress(idx_bytes(2051, (2, 3, 4), 24))[:-9], "not a gzip file"),
        (b"no gzip", "not a gzip file"),
    ],
)
def test_broken_idx_is_refused(content, reason):
    message = failure(idx.parse, content, (2, 3, 4), "some/file")
    assert message.startswith("some/file ")
    assert reason in message
