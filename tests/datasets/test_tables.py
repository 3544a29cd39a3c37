"""Tables as rows of strings; what the adapter ``table`` makes of them is in ``test_table.py``."""

import gzip
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arra_med.datasets.tables import Rows, read_table
from arra_med.errors import RequestError


def test_a_gzipped_table_is_read_as_a_stream(tmp_path):
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n\n3\n'4 , 5\n"))
    header, rows = read_table(path, columns=["b"])
    assert header == ["a", "b"]
    assert list(rows) == [(2, {"b": "2"}), (4, None), (5, {"b": "5"})]
    (tmp_path / "y.csv.gz").write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RequestError, match="not readable gzip data"):
        list(read_table(tmp_path / "y.csv.gz")[1])
    (tmp_path / "z.csv.gz").write_bytes(b"a,b\n")
    with pytest.raises(RequestError, match="not readable gzip data"):
        read_table(tmp_path / "z.csv.gz")


def test_parquet_is_read_in_batches(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"n": list(range(10_000)), "f": [float("nan"), 0.5] * 5000}), path)
    header, rows = read_table(path)
    assert header == ["n", "f"]
    found = list(rows)
    assert found[0] == (1, {"n": "0", "f": ""})
    assert found[-1] == (10_000, {"n": "9999", "f": "0.5"})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RequestError, match="not a readable Parquet file"):
        read_table(path)


def test_parquet_columns_of_other_types(tmp_path):
    path = tmp_path / "x.parquet"
    columns = {"text": [b"M\xc3\xbcde \n", b"x"], "many": [["a"], []], "bytes": [b"\xff", b""]}
    pq.write_table(pa.table(columns), path)
    _, rows = read_table(path, columns=["text"])
    assert [row["text"] for _, row in rows] == ["Müde", "x"]
    with pytest.raises(RequestError, match=r"column 'many' holds list.*, not one value a row"):
        read_table(path, columns=["text", "many"])
    _, rows = read_table(path, columns=["bytes"])
    with pytest.raises(RequestError, match="row 1: bytes that are not UTF-8 text"):
        list(rows)


def test_an_error_far_down_names_its_line(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"a\n" + b"fine\n" * 50_000 + b"\xf6\n")
    _, rows = read_table(path)
    with pytest.raises(RequestError, match="byte 0xf6 in line 50002"):
        list(rows)


@pytest.mark.parametrize("wanted", [["a", "b"], ["b"]])
def test_another_delimiter_is_recognised_by_the_columns(tmp_path, wanted):
    path = tmp_path / "x.tsv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(RequestError, match='by a comma, not by a tab: set delimiter: ","'):
        read_table(path, columns=wanted)
    with pytest.raises(RequestError, match="no column 'c'"):
        read_table(path, columns=["c"])


CELL = st.text(st.characters(blacklist_categories=()), max_size=5)


@given(
    st.lists(st.none() | st.fixed_dictionaries({"a": CELL, "b": CELL})),
    st.integers(0, 2**40),
)
def test_rows_are_kept_as_they_are(rows, start):
    numbered = list(enumerate(rows, start))
    kept = Rows(["a", "b"], iter(numbered))
    assert len(kept) == len(rows)
    assert list(kept) == numbered == list(kept)


def test_rows_take_about_the_size_of_their_text():
    num, text = 20_000, "x" * 60
    tracemalloc.start()
    kept = Rows(["a", "b"], ((i, {"a": text, "b": f"{i:010d}"}) for i in range(num)))
    python, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    arrow = sum(column.nbytes for _, columns in kept._batches for column in columns)
    assert len(kept) == num
    assert arrow < 1.4 * num * 70
    assert python < 0.3 * num * 70  # a dict a row would take some 400 bytes


def test_a_table_that_was_not_cut_says_so_though_the_column_is_misspelled(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("nr;Aufforderung;Befund\n1;a;b\n")
    with pytest.raises(RequestError, match="If ';' separate the columns, set delimiter: \";\""):
        read_table(path, columns=["aufforderung"])
