"""The user's files, checked before anything is launched."""

from __future__ import annotations

import dataclasses
import gzip
import os
import struct
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from plain_case import PLAIN

from bench.errors import BenchError, UsageError
from bench.plan.data_files import absolute_data, check_inputs


def samples(**changes: Any) -> int | None:
    return check_inputs(dataclasses.replace(PLAIN, **changes))


def refusal(**changes: Any) -> UsageError:
    with pytest.raises(UsageError) as raised:
        samples(**changes)
    return raised.value


def given_and_allowed(error: UsageError) -> tuple[object, str | None]:
    assert error.option == "--data"
    return error.given, error.allowed


@pytest.mark.parametrize("data", ["resident", "synthetic"])
def test_data_without_files_has_no_known_number_of_samples(data: str) -> None:
    assert samples(data=data) is None


def test_images_are_counted_in_folders_of_classes_only(tmp_path: Path) -> None:
    for name in ("cats/a.jpg", "cats/b.JPEG", "dogs/c.png", "dogs/notes.txt", "top.jpg", "dogs/deep/d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    # a.jpg, b.JPEG, c.png; not the text, not the one above all classes, not the one below
    assert samples(data=f"folder={tmp_path}") == 3


def test_demo_images_are_known_without_being_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert samples(data="folder=demo") == 512  # 8 classes x 64 images
    assert list(tmp_path.iterdir()) == []


def test_missing_folder() -> None:
    assert given_and_allowed(refusal(data="folder=/no/such")) == ("folder=/no/such", "a folder that exists")


def test_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert given_and_allowed(refusal(data=f"folder={file}")) == (f"folder={file}", "a folder that exists")


def test_folder_without_images_says_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert given_and_allowed(refusal(data=f"folder={tmp_path}")) == (
        f"folder={tmp_path}",
        "a folder with images as CLASS/FILE, where FILE ends in .jpg, .jpeg, .png",
    )


@pytest.mark.parametrize(
    ("size", "workload", "count"),
    [
        (129, "gpt-nano", 1),  # (129 - 1) // 128
        (256, "gpt-nano", 1),  # (256 - 1) // 128: the last sequence lacks its last target
        (257, "gpt-nano", 2),
        (1000, "gpt-nano:seq=10", 99),  # (1000 - 1) // 10
        (1000, "resnet18", None),  # no sequences: refused by a rule
        (1000, "net:Net", None),
        (1000, "net:Net:seq=100", 9),
    ],
)
def test_sequences_of_a_text(tmp_path: Path, size: int, workload: str, count: int | None) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"x" * size)
    assert samples(workload=workload, data=f"text={file}") == count


def test_text_shorter_than_one_sequence(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"x" * 128)
    assert given_and_allowed(refusal(workload="gpt-nano", data=f"text={file}")) == (
        f"text={file}",
        "a file of at least 129 bytes: one sequence (seq + 1); it has 128",
    )


@pytest.mark.parametrize("path", ["/no/such", "/"])
def test_missing_text(path: str) -> None:
    error = refusal(workload="gpt-nano", data=f"text={path}")
    assert given_and_allowed(error) == (f"text={path}", "one text file that exists")


def test_demo_text_is_the_standard_librarys_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sizes = [source.stat().st_size for source in Path(sysconfig.get_paths()["stdlib"]).glob("*.py")]
    joined = sum(sizes) + len(sizes) - 1  # a newline between each two
    assert samples(workload="gpt-nano", data="text=demo") == (joined - 1) // 128
    assert [file.stat().st_size for file in (tmp_path / "stepbench").iterdir()] == [joined]


def idx(folder: Path, images: bytes, labels: bytes, end: str = "") -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"train-images-idx3-ubyte{end}").write_bytes(images)
    (folder / f"train-labels-idx1-ubyte{end}").write_bytes(labels)


IMAGES = struct.pack(">4i", 2051, 3, 28, 28) + bytes(3 * 28 * 28)
LABELS = struct.pack(">2i", 2049, 3) + bytes(3)


def test_digits_are_counted(tmp_path: Path) -> None:
    idx(tmp_path / "plain", IMAGES, LABELS)
    idx(tmp_path / "gz", gzip.compress(IMAGES), gzip.compress(LABELS), ".gz")
    for name in ("plain", "gz"):
        assert samples(workload="mnist-cnn", data=f"mnist={tmp_path / name}") == 3


def test_demo_digits_and_clicks_are_known_without_being_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert samples(workload="mnist-cnn", data="mnist=demo") == samples(workload="dlrm", data="criteo=demo") == 4096
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            LABELS,
            LABELS,
            "train-images-idx3-ubyte has 11 bytes; wanted a header of 16",
        ),
        (
            struct.pack(">4i", 2049, 3, 28, 28),
            LABELS,
            "train-images-idx3-ubyte begins with 2049; wanted 2051, the magic number of such a file",
        ),
        (
            IMAGES,
            struct.pack("<2i", 2049, 3) + bytes(3),  # 2049 = 0x0801, little-endian
            "train-labels-idx1-ubyte begins with 17301504; wanted 2049, the magic number of such a file",
        ),
        (
            IMAGES + b"x",
            LABELS,
            "train-images-idx3-ubyte has 2369 bytes; wanted 2368, by its header",  # 16 + 3 x 784
        ),
        (
            IMAGES,
            struct.pack(">2i", 2049, 2) + bytes(2),
            "train-images-idx3-ubyte has 3 images, train-labels-idx1-ubyte 2 labels; wanted equally many",
        ),
        (
            struct.pack(">4i", 2051, 3, 32, 28) + bytes(3 * 32 * 28),
            LABELS,
            "train-images-idx3-ubyte has images of 32 x 28; wanted 28 x 28",
        ),
        (
            struct.pack(">4i", 2051, 0, 28, 28),
            struct.pack(">2i", 2049, 0),
            "train-images-idx3-ubyte has no images",
        ),
        (b"", LABELS, "train-images-idx3-ubyte has 0 bytes; wanted a header of 16"),
    ],
)
def test_digits_that_cannot_be_read(tmp_path: Path, images: bytes, labels: bytes, message: str) -> None:
    idx(tmp_path, images, labels)
    error = refusal(workload="mnist-cnn", data=f"mnist={tmp_path}")
    assert (error.option, error.given) == ("--data", f"mnist={tmp_path}")
    assert error.message == f"--data mnist={tmp_path}: {message}"


def test_missing_digits(tmp_path: Path) -> None:
    assert refusal(data="mnist=/no/such").given == "mnist=/no/such"
    idx(tmp_path, IMAGES, LABELS)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    assert refusal(data=f"mnist={tmp_path}").message == (
        f"--data mnist={tmp_path}: there is no train-labels in it; wanted: train-labels-idx1-ubyte or "
        "train-labels.idx1-ubyte or train-labels-idx1-ubyte.gz or train-labels.idx1-ubyte.gz"
    )


def test_digits_that_are_not_compressed_as_they_say(tmp_path: Path) -> None:
    idx(tmp_path, IMAGES, LABELS, ".gz")
    assert refusal(data=f"mnist={tmp_path}").message.startswith(f"--data mnist={tmp_path}: Not a gzipped file")


@pytest.mark.parametrize("kept", [12, -9])  # within the header of gzip's or the values
def test_digits_that_were_cut_short(tmp_path: Path, kept: int) -> None:
    idx(tmp_path, gzip.compress(IMAGES)[:kept], gzip.compress(LABELS), ".gz")
    found = refusal(data=f"mnist={tmp_path}").message
    assert found.startswith(f"--data mnist={tmp_path}: train-images-idx3-ubyte.gz is not a complete gzip file: ")


CLICK = b"\t".join([b"1", *[b"7"] * 13, *[b"0a"] * 26])


@pytest.mark.parametrize(("content", "count"), [(CLICK, 1), (CLICK + b"\n", 1), (CLICK + b"\r\n" + CLICK, 2)])
def test_clicks_are_counted(tmp_path: Path, content: bytes, count: int) -> None:
    (tmp_path / "log").write_bytes(content)
    assert samples(workload="dlrm", data=f"criteo={tmp_path / 'log'}") == count


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"a,b\n", "line 1: 1 fields between tabs; wanted 40: a label, 13 whole numbers, 26 hexadecimal ones"),
        (b"2" + CLICK[1:], "line 1: the label is '2'; wanted 0 or 1"),
        (CLICK[:-1] + b"x", "line 1: '0x' is not a hexadecimal number"),
    ],
)
def test_clicks_that_cannot_be_read(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "log").write_bytes(content)
    error = refusal(data=f"criteo={tmp_path / 'log'}")
    assert (error.option, error.given) == ("--data", f"criteo={tmp_path / 'log'}")
    assert error.message == f"--data criteo={tmp_path / 'log'}: {message}"


@pytest.mark.parametrize("path", ["/no/such", "/"])
def test_missing_clicks(path: str) -> None:
    error = refusal(data=f"criteo={path}")
    assert (error.option, error.given) == ("--data", f"criteo={path}")


def test_missing_workload_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = refusal(workload="my/net.py:Net:depth=3")
    assert (error.option, error.given) == ("--workload", "my/net.py:Net:depth=3")
    assert error.allowed == "a Python file that exists"
    Path("my").mkdir()
    Path("my/net.py").touch()
    assert samples(workload="my/net.py:Net:depth=3") is None


def test_workload_of_a_package_is_left_to_torch() -> None:
    assert samples(workload="no_such.package:Net") is None


def test_where_the_demo_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with pytest.raises(BenchError) as error:
        absolute_data("folder=demo")
    assert (error.value.option, error.value.given) == ("--data", "folder=demo")
    assert error.value.hint == "Set XDG_CACHE_HOME to a writable folder."
    assert f"{tmp_path}/file/stepbench-{os.getuid()}" in error.value.message
