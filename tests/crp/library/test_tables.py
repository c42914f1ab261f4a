import numpy as np
import pytest
from safetensors.numpy import save

from crp.errors import LibraryError
from crp.library.tables import check_file, open_table, write_table

ARRAYS = {
    "matrix": np.arange(6, dtype=np.int64).reshape(2, 3).T,  # not in C order
    "bytes": np.arange(9, dtype=np.uint8),
    "nothing": np.zeros((0, 4), dtype=np.float32),
}


def test_written_and_read(tmp_path):
    write_table(tmp_path / "a.safetensors", ARRAYS)
    with open_table(tmp_path / "a.safetensors") as table:
        assert table.array("matrix", np.int64, (3, None)).tolist() == [[0, 3], [1, 4], [2, 5]]
        assert table.array("nothing", np.float32, (None, 4)).shape == (0, 4)
        assert table.piece("bytes", np.uint8, 2, 5).tolist() == [2, 3, 4]
        assert table.piece("bytes", np.uint8, 9, 9).tolist() == []


def test_the_bytes_are_those_of_safetensors(tmp_path):
    kinds = [bool, *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), "float16", "float32", float]
    arrays = {f"layer/Ä {kind}": np.arange(6).reshape(2, 3).astype(kind) for kind in kinds}
    arrays |= {"b": np.zeros(3), "a": np.ones((2, 0)), "c": np.array(1.0, dtype=np.float32)}
    write_table(tmp_path / "a", arrays)
    assert (tmp_path / "a").read_bytes() == save(arrays)


def test_equal_arrays_are_equal_bytes_in_any_order(tmp_path):
    write_table(tmp_path / "a", ARRAYS)
    write_table(tmp_path / "b", dict(reversed(ARRAYS.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("read", "fact"),
    [
        (lambda table: table.array("vector", np.int64, (3,)), "it has no 'vector'"),
        (lambda table: table.array("matrix", np.int64, (2, None)), "'matrix' is I64 of shape [3, 2]"),
        (lambda table: table.array("matrix", np.float32, (3, 2)), "'matrix' is I64 of shape [3, 2]"),
        (lambda table: table.piece("bytes", np.uint8, 5, 10), "'bytes' has 9 entries, but 5 to 10 are referred to"),
        (lambda table: table.piece("bytes", np.uint8, -1, 3), "'bytes' has 9 entries, but -1 to 3 are referred to"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, read, fact):
    write_table(tmp_path / "a", ARRAYS)
    with open_table(tmp_path / "a") as table, pytest.raises(LibraryError) as caught:
        read(table)
    assert str(caught.value) == (
        f"'{tmp_path / 'a'}' is damaged ({fact}): mine the library again, or restore the file from a copy."
    )


def test_a_library_that_was_moved_is_not_called_damaged(tmp_path):
    folder = tmp_path / "a.crp" / "layers"
    folder.mkdir(parents=True)
    write_table(folder / "a", ARRAYS)
    (tmp_path / "a.crp").rename(tmp_path / "b.crp")
    sentence = f"There is no folder '{tmp_path / 'a.crp'}' any more: open the library where it is now."
    for read in (lambda: open_table(folder / "a").__enter__(), lambda: check_file(tmp_path / "a.crp", folder / "a")):
        with pytest.raises(LibraryError) as caught:
            read()
        assert str(caught.value) == sentence
