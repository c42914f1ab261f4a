import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from crp.errors import LibraryError
from crp.library.rows import RowTable, runs
from crp.library.vectors import encoded, layer_columns, read_vectors, vectors_file
from crp.mining.vector_writer import VectorWriter

SIZES = {"a": 3, "b/c": 2}
LENGTH = 10


def block(samples: np.ndarray) -> tuple:
    """The expected rows of a block of these samples; numbers that float16 represents exactly."""
    vectors = {
        layer: tuple(scale * (samples[:, None] + np.arange(size) + 0.0) for scale in (1, 1024))
        for layer, size in SIZES.items()
    }
    return samples, samples % 3, samples % 2, samples - 1, vectors


def written(folder: Path, *blocks: list[int], length: int = LENGTH) -> Path:
    writer = VectorWriter(folder, length, SIZES)
    for samples in blocks:
        writer.add(*block(np.array(samples)))
    writer.sync()
    writer.close()
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


WHOLE = [list(range(start, min(start + 4, LENGTH))) for start in range(0, LENGTH, 4)]


def test_what_was_written_is_read(tmp_path):
    written(tmp_path, *WHOLE[:2], [8])
    found = read_vectors(tmp_path, "a", LENGTH, 3, 3)
    for sample in range(9):
        assert found.relevance[sample].tolist() == [sample, sample + 1, sample + 2]
        assert found.activation[sample].tolist() == [1024 * (sample + more) for more in range(3)]
    assert (found.target[7], found.prediction[7], found.label[7]) == (1, 1, 6)
    assert found.mined.tolist() == [True] * 9 + [False]
    assert not found.relevance[9].any()
    assert found.rows(target=1, prediction=0).tolist() == [4]
    assert not found.target.flags.writeable


def test_order_repetition_and_interruption_change_nothing(tmp_path):
    expected = digests(written(tmp_path / "once", *WHOLE))
    folder = written(tmp_path / "often", WHOLE[1])
    assert digests(written(folder, WHOLE[2], WHOLE[0], WHOLE[1])) == expected
    # killed when only an empty file of one layer existed
    early = vectors_file(tmp_path / "early", "a")
    early.parent.mkdir(parents=True)
    early.touch()
    assert digests(written(tmp_path / "early", *WHOLE)) == expected
    # killed before the header was written
    early.write_bytes(bytes(early.stat().st_size))
    assert digests(written(tmp_path / "early", *WHOLE)) == expected


def test_shards_and_a_data_set_that_grew_merge_into_the_same(tmp_path):
    expected = digests(written(tmp_path / "whole", *WHOLE))
    first, second = written(tmp_path / "1", WHOLE[2], WHOLE[0]), written(tmp_path / "2", WHOLE[1])
    small = written(tmp_path / "small", *WHOLE[:2], length=9)
    for name, takes in (("shards", [(second, LENGTH), (first, LENGTH)]), ("grown", [(small, 9)])):
        writer = VectorWriter(tmp_path / name, LENGTH, SIZES)
        for folder, length in takes:
            writer.take(folder, length)
        if name == "grown":
            writer.add(*block(np.array(WHOLE[2])))
        writer.close()
        assert digests(tmp_path / name) == expected


def test_other_sizes_are_refused(tmp_path):
    written(tmp_path, *WHOLE)
    with pytest.raises(LibraryError, match="has other columns, or not 11 rows"):
        VectorWriter(tmp_path, 11, SIZES)
    with pytest.raises(LibraryError, match="'relevance' is F16 of shape \\[10, 3\\]"):
        read_vectors(tmp_path, "a", LENGTH, 4, 3)
    with pytest.raises(LibraryError, match="target 2 is not within -1 and 1"):
        read_vectors(tmp_path, "a", LENGTH, 3, 2)
    file = vectors_file(tmp_path, "a")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(LibraryError, match="is damaged"):
        read_vectors(tmp_path, "a", LENGTH, 3, 3)


def test_values_that_are_no_numbers_are_refused(tmp_path):
    written(tmp_path, *WHOLE)
    table = RowTable(vectors_file(tmp_path, "a"), layer_columns(3), LENGTH)
    table.write(np.array([4]), {"relevance": np.array([[1, np.nan, 2]])})
    table.write(np.array([5]), {"activation.exponent": np.array([2000])})
    table.close()
    found = read_vectors(tmp_path, "a", LENGTH, 3, 3)
    assert found.relevance[3].tolist() == [3, 4, 5]
    for read in (lambda: found.relevance[4], lambda: found.relevance.column(1), lambda: found.activation[:]):
        with pytest.raises(LibraryError, match="A concept vector holds NaN or infinite values"):
            read()


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    table = RowTable(tmp_path / "rows", {"a": (np.int64, (2,))}, 4)

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(LibraryError, match=r"rows' cannot be written: No space left on device\.$"):
        table.write(np.array([1]), {"a": np.ones((1, 2))})
    table.close()


def test_runs():
    assert list(runs(np.array([3, 4, 8]))) == [(0, 2), (2, 3)]
    assert list(runs(np.array([], dtype=int))) == []


def test_the_scale_of_a_row_is_its_own():
    values = np.array([[0.0, 0.0], [1e30, 1.0], [-3e-30, 1e-30], [0.25, 0.125]])
    stored, exponent = encoded(values)
    assert stored.dtype == np.float16
    assert exponent[0] == 0
    assert np.isfinite(stored).all()
    np.testing.assert_allclose(stored.astype(float) * 2.0 ** exponent[:, None], values, rtol=2.0**-11, atol=1e20)
    np.testing.assert_allclose(stored[2].astype(float) * 2.0 ** exponent[2], values[2], rtol=2.0**-11)
