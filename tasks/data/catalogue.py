"""What the data sets are: files, sizes, SHA-256 sums, addresses, terms of use. Facts only; nothing is read here."""

from __future__ import annotations

from dataclasses import dataclass

_KRIZ = "https://www.cs.toronto.edu/~kriz/"
_MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
_OMNIGLOT = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"


class DataError(RuntimeError):
    """A data set cannot be had or is not what was published. The message is one line: what, where, what to do."""


@dataclass(frozen=True)
class DataFile:
    """One file as published.

    `path` is relative to a data folder laid out as torchvision does it. `alternatives` are further (bytes, sha256)
    pairs that are just as good: the same members in another container. A file with an `archive` is downloaded as the
    member `path` of that archive. `optional`: `load` does without it.
    """

    path: str
    bytes: int
    sha256: str
    urls: tuple[str, ...] = ()
    alternatives: tuple[tuple[int, str], ...] = ()
    archive: DataFile | None = None
    optional: bool = False


@dataclass(frozen=True)
class Dataset:
    """A data set: its files, and `instead`, files that serve in place of `files` when all of them are at hand.

    `package` names the Python package that brings the data along; such a set has no file of its own.
    """

    name: str
    title: str
    files: tuple[DataFile, ...]
    terms: str
    origin: str
    note: str = ""
    instead: tuple[DataFile, ...] = ()
    package: str = ""


def _mnist(name: str, size: int, sha256: str) -> DataFile:
    return DataFile(f"MNIST/raw/{name}", size, sha256, tuple(base + name for base in _MNIST))


def _cifar10(name: str, size: int, sha256: str, optional: bool = False) -> DataFile:
    return DataFile(f"cifar-10-batches-py/{name}", size, sha256, archive=_CIFAR10_ARCHIVE, optional=optional)


_CIFAR10_ARCHIVE = DataFile(
    "cifar-10-python.tar.gz",
    170498071,
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    (_KRIZ + "cifar-10-python.tar.gz",),
)
_CIFAR100_ARCHIVE = DataFile(
    "cifar-100-python.tar.gz",
    169001437,
    "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    (_KRIZ + "cifar-100-python.tar.gz",),
)
_CIFAR_TERMS = (
    "No licence stated by the authors, who ask that the technical report be cited; images stem from 80 Million Tiny"
    " Images, withdrawn by its authors in 2020; research use."
)
_CIFAR_ORIGIN = "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"

_ALL = (
    Dataset(
        name="digits",
        title="Optical recognition of handwritten digits (8 x 8), as in scikit-learn",
        # Not a file: the sum is over the table of 1797 rows of 64 pixels and a label, as uint8, so that it does not
        # depend on how a scikit-learn release packs it.
        files=(
            DataFile(
                "sklearn.datasets.load_digits",
                116805,
                "68aea062d35a127749050fa0e52dca09d6569ac08092c925610e0954e172dde2",
            ),
        ),
        terms="Creative Commons Attribution 4.0 (UCI Machine Learning Repository).",
        origin="E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (the test part)",
        package="scikit-learn",
    ),
    Dataset(
        name="mnist",
        title="MNIST handwritten digits (28 x 28)",
        files=(
            _mnist(
                "train-images-idx3-ubyte.gz",
                9912422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            _mnist(
                "train-labels-idx1-ubyte.gz",
                28881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            _mnist(
                "t10k-images-idx3-ubyte.gz",
                1648877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            _mnist(
                "t10k-labels-idx1-ubyte.gz",
                4542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
        terms="Copyright Yann LeCun and Corinna Cortes; commonly stated as CC BY-SA 3.0.",
        origin="Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits; derived from NIST data",
    ),
    Dataset(
        name="cifar10",
        title="CIFAR-10 (32 x 32, RGB, 10 classes)",
        files=(
            _cifar10("data_batch_1", 31035704, "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"),
            _cifar10(
                "data_batch_2", 31035320, "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8", True
            ),
            _cifar10(
                "data_batch_3", 31035999, "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9", True
            ),
            _cifar10(
                "data_batch_4", 31035696, "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b", True
            ),
            _cifar10(
                "data_batch_5", 31035623, "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154", True
            ),
            _cifar10("test_batch", 31035526, "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831"),
            _cifar10("batches.meta", 158, "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb"),
        ),
        terms=_CIFAR_TERMS,
        origin=_CIFAR_ORIGIN,
        note="Batches 2 to 5 are used when they are at hand; `train_batches` says which were.",
    ),
    Dataset(
        name="cifar100",
        title="CIFAR-100, the 10000 test images (32 x 32, RGB, 100 fine and 20 coarse classes)",
        files=(
            DataFile(
                "cifar-100-python/test",
                31049707,
                "4b67687d9933c4db8f0831104447f15b93774f4f464bd0516f0f0f2ac83b7864",
                archive=_CIFAR100_ARCHIVE,
            ),
            DataFile(
                "cifar-100-python/meta",
                1473,
                "a5d4786345c961390f865e93b434dbd5c6904ce880667e0cb888c97d449f28b9",
                archive=_CIFAR100_ARCHIVE,
            ),
        ),
        instead=(
            DataFile(
                "cifar-100-png/cifar-100-test-png.zip",
                23809533,
                "bb2b5e3eb059ce185afb140eebbe54d7d78daf77166290a5dd2bd5b519390db5",
            ),
            DataFile(
                "cifar-100-png/classes.tsv",
                2951,
                "5010c4e0466510ccfe27af83c7be07354c07f44918016190279f16e3560b7a71",
            ),
        ),
        terms=_CIFAR_TERMS,
        origin=_CIFAR_ORIGIN,
        note="In order of class and file name, whichever container it is read from; not the order of the pickle.",
    ),
    Dataset(
        name="omniglot",
        title="Omniglot (28 x 28, 1623 characters, 20 drawers each)",
        files=(
            DataFile(
                "omniglot-py/images_background.zip",
                9464212,
                "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
                (_OMNIGLOT + "images_background.zip",),
                alternatives=((8394302, "52920ba32ded643452ebc21c917a2486898bb607695a953b1149e500feab9b54"),),
            ),
            DataFile(
                "omniglot-py/images_evaluation.zip",
                6462886,
                "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
                (_OMNIGLOT + "images_evaluation.zip",),
                alternatives=((5732517, "d3cfbb8779db75a37f846079874954ae685a79adc45a1544c127dcac3a1f5b86"),),
            ),
        ),
        terms="MIT License, Copyright (c) 2015 Brenden Lake.",
        origin="B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum, Human-level concept learning, Science 350 (2015)",
        note="The alternatives are the authors' PNGs, byte for byte, in a zip packed anew.",
    ),
)

DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in _ALL}
