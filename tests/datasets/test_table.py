import gzip
import pickle
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from arra_med.config import build
from arra_med.datasets.cleanup import CleanUp
from arra_med.datasets.table import Table
from arra_med.errors import RequestError
from arra_med.registry import DATASETS
from arra_med.schema import CHEXPERT_LABELS, Exclusion, Sample
from arra_med.settings import Ingest
from tests.datasets.film_tables import FILMS, completed, outcomes, prompts, table


def test_the_columns_mean_what_the_options_say(root):
    adapter = table(root, FILMS, view="view", patient="patient", split="split")
    first, second, third = completed(adapter)
    assert adapter.num_items() == 3
    assert first == Sample(
        key="a",
        patient_id="1",
        study_id="a",
        split="train",
        view="PA",
        prompt="PA view chest x-ray image, No effusiön.",
        prompt_source="report",
        labels=dict.fromkeys(CHEXPERT_LABELS),
        modality="cxr",
        source="a.png",
    )
    assert (second.view, second.split) == ("lateral", "validate")
    assert (third.view, third.split) == ("AP", "test")
    assert adapter.read(first).pixels.shape == (5, 7)


@pytest.mark.parametrize("kind", ["tsv", "semicolon", "bom", "cp1252", "parquet", "crlf"])
def test_every_kind_of_file_gives_the_same_items(root, kind):
    names = {"view": "view", "patient": "patient", "split": "split"}
    expected = list(table(root, FILMS, **names).items())
    if kind == "tsv":
        adapter = table(root, FILMS.replace(",", "\t"), name="x.tsv", **names)
    elif kind == "semicolon":
        adapter = table(root, FILMS.replace(",", ";"), delimiter=";", **names)
    elif kind == "bom":
        adapter = table(root, "\ufeff" + FILMS, **names)
    elif kind == "crlf":
        adapter = table(root, FILMS.replace("\n", "\r\n"), **names)
    elif kind == "cp1252":
        adapter = table(root, FILMS, stored_as="cp1252", encoding="cp1252", **names)
    else:
        header, *rows = [line.split(",") for line in FILMS.splitlines()]
        columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
        columns["patient"] = [1, 2, 3]
        pq.write_table(pa.table(columns), root / "x.parquet")
        adapter = Table(
            Table.Options(file=root / "x.parquet", image="file", text="report", **names)
        )
    assert list(adapter.items()) == expected
    assert adapter.num_items() == 3


def test_every_row_is_accounted_for(root):
    text = """file,report,view,patient,split,key
a.png,Clear,PA,1,train,k1
a.png,Clear,PA,1,train,k2
b.png,Clear,PA,1,train,k3
b.png,Clear,PA,2,train,k4
c.png,  ,PA,1,train,k5
c.png,___.,PA,1,train,k6
c.png,Clear,,1,train,k7
c.png,Clear,LAO,1,train,k8
c.png,Clear,PA,1,trian,k9
c.png,Clear,PA,1,train,../k
c.png,Clear,PA,1,train,k1
c.png,Clear,PA,,train,k10
c.png,Clear
none.png,Clear,PA,1,train,k11
,Clear,PA,1,train,k12
../a.png,Clear,PA,1,train,k13
it's.png,"Clear, ""dry"" lungs",PA,1,train,k14
"""
    adapter = table(
        root,
        text,
        view="view",
        views=("PA",),
        patient="patient",
        split="split",
        key="key",
    )
    assert outcomes(adapter) == [
        "k1", "duplicate-image", "conflicting-patients", "conflicting-patients", "no-prompt",
        "no-prompt", "no-view", "view-not-wanted", "unknown-split", "unusable-key",
        "duplicate-key", "no-patient", "malformed-row", "missing-image",
        "missing-image", "outside-image-root", "k14",
    ]  # fmt: skip
    assert adapter.num_items() == len(text.splitlines()) - 1
    malformed = [i for i in adapter.items() if isinstance(i, Exclusion)][-4]
    assert malformed.item == "films.csv#14"  # the line in the file


def test_prompts(root):
    assert prompts(table(root, FILMS, text=None, prompt="report")) == [
        "No effusiön.", "Effusion", "Clear",
    ]  # fmt: skip
    assert prompts(table(root, FILMS, modality="fundus"))[0] == "fundus image, No effusiön."
    no_view = "file,report,view\na.png,Clear,\n"
    adapter = table(root, no_view, view="view", missing_view="prompt-without-view")
    assert prompts(adapter) == ["chest x-ray image, Clear"]


def test_label_columns(root):
    text = "file,report,e,c\na.png,x,1,\nb.png,x,no,-1.0\nc.png,x,Yes,0\n"
    adapter = table(root, text, labels={"e": "Effusion", "c": "Cardiomegaly"})
    assert adapter.label_names == ("Effusion", "Cardiomegaly")
    assert [tuple(i.labels.values()) for i in adapter.items()] == [(1, None), (0, -1), (1, 0)]
    with pytest.raises(RequestError, match=r"line 3, column 'e'.*label_column"):
        table(root, text.replace("no", "maybe"), labels=("e",))


def test_a_column_that_lists_labels(root):
    text = "file,report,found\na.png,x,Edema|Effusion\nb.png,x,\nc.png,x,No  Finding\n"
    adapter = table(root, text, label_column="found")
    assert adapter.label_names == ("Edema", "Effusion", "No Finding")
    assert [tuple(i.labels.values()) for i in adapter.items()] == [
        (1, 1, 0), (None, None, None), (0, 0, 1),
    ]  # fmt: skip
    chosen = table(root, text, label_column="found", label_values=("Effusion",))
    assert [i.labels for i in chosen.items()] == [{"Effusion": v} for v in (1, None, 0)]
    for empty in ("nan", "None", "N/A"):
        said = table(root, text.replace("b.png,x,", f"b.png,x,{empty}"), label_column="found")
        assert said.label_names == adapter.label_names
        assert [i.labels for i in said.items()] == [i.labels for i in adapter.items()]
    with pytest.raises(RequestError, match=r"differ only in capitals \(2 rare ones\)"):
        table(root, text.replace("No  Finding", "edema"), label_column="found")
    text += "d.png,x,Edema\ne.png,x,Edema;Anna Meyer\n"
    with pytest.raises(RequestError, match=r"lists Efusion; often there: Edema$"):
        table(root, text, label_column="found", label_values=("Efusion",))


def test_an_empty_list_of_labels_may_mean_none(root):
    text = "file,report,found\na.png,x,Edema|Effusion\nb.png,x,\nc.png,x,nan\n"
    adapter = table(root, text, label_column="found", empty_label="none")
    assert [tuple(i.labels.values()) for i in adapter.items()] == [(1, 1), (0, 0), (0, 0)]


def test_a_column_that_names_people_is_no_list_of_labels(root):
    rows = "".join(f"{i}.png,x,Anna Meyer{i}\n" for i in range(24))
    with pytest.raises(RequestError, match="24 different ones: they look like names") as caught:
        table(root, "file,report,name\n" + rows, label_column="name")
    assert "Meyer" not in str(caught.value)


def test_own_split_keeps_a_patient_together(root):
    rows = "".join(f"{n}.png,x,{n // 4}\n" for n in range(40))
    for n in range(40):
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(root / f"{n}.png")
    adapter = table(root, "file,report,p\n" + rows, patient="p", split_shares=(0.4, 0.3, 0.3))
    found = list(adapter.items())
    assert len({(i.patient_id, i.split) for i in found}) == 10
    assert len({i.split for i in found}) == 3


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (FILMS, {"text": "reprot"}, r"no column 'reprot': did you mean 'report'\? Columns: file,"),
        (FILMS.replace("report", "BEFUND"), {"text": "befund"}, "'befund': did you mean 'BEFUND'"),
        (FILMS, {"view": "xyz"}, r"no column 'xyz': no column has a similar name"),
        (FILMS.replace("split", "view"), {"view": "view"}, r"'view' is there 2 times\. Columns: "),
        ("", {}, "is empty: expected a first line"),
        ("file,report\n", {}, "column names but no rows"),
        (FILMS, {"encoding": "utf-99"}, "unknown encoding 'utf-99'"),
        (FILMS, {"label_column": "split", "labels": ("view",)}, "not both"),
        (FILMS, {"empty_label": "none"}, "'empty_label' needs a 'label_column'"),
        (FILMS, {"prompt": "report"}, "exactly one of 'text'.*given: text, prompt"),
        (FILMS, {"text": None}, "given: none"),
        (
            FILMS,
            {"text": None, "prompt": "report", "clean_up": CleanUp(join_lists=True)},
            "'clean_up' does nothing to a complete 'prompt'",
        ),
        (FILMS, {"prompt_sources": ("findings",)}, "sections of a 'report'"),
        (FILMS, {"allow_tags": ("StudyDescription",)}, "'allow_tags' does nothing to a table"),
        (FILMS, {"view": "view", "views": ("PAA",)}, "PAA"),
        (FILMS, {"text": None, "text_suffix": "txt"}, r"starts with a dot"),
        (FILMS.replace(",", ";"), {}, r"separated by ';', not by a comma: set delimiter: \";\""),
        (FILMS.replace(",", "\t"), {}, r"separated by a tab, not by a comma"),
        (FILMS, {"views": ("PA",)}, "needs a 'view' column"),
        (FILMS, {"view_names": {"ap": "AP"}}, "'view_names' needs a 'view' column"),
        (FILMS, {"prompt_template": "{view}, {text}"}, "no other places than {text}"),
        (FILMS, {"split_shares": (1.0, 1.0, 0.0)}, "sum to 1"),
    ],
)
def test_errors_say_what_is_wrong(root, content, options, message):
    with pytest.raises(RequestError, match=message):
        table(root, content, **options)


def test_what_parquet_has_no_use_for_is_refused(root):
    file = root / "x.parquet"
    for name, value in (("delimiter", ";"), ("encoding", "cp1252")):
        with pytest.raises(RequestError, match=f"'{name}' does nothing to a Parquet file"):
            Table.Options(file=file, text="report", **{name: value})
    Table.Options(file=file, text_suffix=".txt", encoding="cp1252")


def test_wrong_encoding_names_byte_line_and_remedy(root):
    path = root / "old.csv"
    path.write_bytes("file,report\na.png,clear\nb.png,Röntgen\n".encode("cp1252"))
    with pytest.raises(RequestError, match=r"not utf-8: byte 0xf6 in line 3.*cp1252"):
        Table(Table.Options(file=path, image="file", text="report"))
    adapter = Table(Table.Options(file=path, image="file", text="report", encoding="cp1252"))
    assert prompts(adapter)[1].endswith("Röntgen")


def test_missing_files_are_named(root):
    (root / "films.csv").write_text(FILMS)
    with pytest.raises(FileNotFoundError, match=r"there is 'films\.csv' beside it"):
        Table(Table.Options(file=root / "film.csv", text="report"))
    with pytest.raises(FileNotFoundError, match="image_root"):
        Table(Table.Options(file=root / "films.csv", text="report", image_root=root / "none"))


def test_options_come_from_yaml(root):
    (root / "films.csv").write_text(FILMS)
    tree = {"name": "table", "file": str(root / "films.csv"), "image": "file", "text": "report"}
    settings = build(Ingest, {"dataset": tree | {"labels": {"view": "V"}}}, where="test")
    assert settings.dataset.options.labels == {"view": "V"}
    settings = build(Ingest, {"dataset": tree | {"labels": ["view"]}}, where="test")
    assert settings.dataset.options.labels == ("view",)
    assert DATASETS.get("table") is Table
    with pytest.raises(RequestError, match="exactly one of 'text'"):
        build(Ingest, {"dataset": tree | {"prompt": "report"}}, where="test")


@pytest.mark.real_data
def test_real_films(real_data):
    folder = real_data / "cxr_open"
    adapter = Table(
        Table.Options(
            file=folder / "metadata.csv",
            image="file",
            text="text",
            view="view",
            patient="patientid",
            label_column="findings",
        )
    )
    found = list(completed(adapter))
    assert len(found) == adapter.num_items() == 176
    assert Counter(i.reason for i in found if isinstance(i, Exclusion)) == {
        "no-prompt": 43, "conflicting-patients": 8,
    }  # fmt: skip
    samples = [i for i in found if isinstance(i, Sample)]
    assert {i.view for i in samples} == {"PA", "AP", "lateral"}
    assert all(adapter.read(i).pixels.ndim == 2 for i in samples[::7])


def test_report_text_is_not_taken_for_labels(root):
    sentence = (
        "There is a small left pleural effusion and no other finding that would matter at all."
    )
    text = f"file,report\na.png,{sentence}\n"
    with pytest.raises(RequestError, match="it looks like text") as caught:
        table(root, text, label_column="report")
    assert "pleural" not in str(caught.value)


def test_a_quote_that_is_never_closed_swallows_no_rows(root):
    text = 'file,report\na.png,"open\nb.png,x\nc.png,y\n'
    with pytest.raises(RequestError):
        list(table(root, text).items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04" + b"\0" * 40, "an Excel workbook.*'CSV UTF-8'"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", r"old Excel workbook \(\.xls\)"),
        (b"PAR1abc", r"suffix \.parquet"),
        (gzip.compress(b"file,report\n"), r"suffix \.gz"),
        ("file\treport\na.png\tx\n".encode("utf-16"), r'encoding: utf-16 and delimiter: "\\t"'),
        ("file,report\n".encode("utf-16-le"), "zero bytes.*utf-16-le"),
    ],
    ids=["xlsx", "xls", "parquet", "gzip", "utf-16", "utf-16 without mark"],
)
def test_what_is_not_a_text_table_is_named_with_the_remedy(root, content, message):
    (root / "films.csv").write_bytes(content)
    with pytest.raises(RequestError, match=message) as caught:
        Table(Table.Options(file=root / "films.csv", image="file", text="report"))
    assert "cp1252" not in str(caught.value)


def test_utf_16_is_read_when_it_is_asked_for(root):
    adapter = table(root, FILMS, stored_as="utf-16", encoding="utf-16")
    assert len(list(adapter.items())) == 3


def test_missing_pictures_say_where_they_were_looked_for(root, caplog):
    found = list(table(root, "file,report\nx.png,secret words\n").items())
    assert [i.reason for i in found] == ["missing-image"]
    assert str(root) in caplog.text
    assert "secret" not in caplog.text


def test_characters_lost_by_an_earlier_conversion_are_reported(root, caplog):
    assert len(list(table(root, "file,report\na.png,R\ufffdntgen\nb.png,x\n").items())) == 2
    assert "1 texts hold U+FFFD" in caplog.text


def test_a_worker_gets_no_rows(root):
    rows = "".join(f"a.png,{'long text ' * 50}{n}\n" for n in range(500))
    adapter = table(root, "file,report\n" + rows)
    copy = pickle.loads(pickle.dumps(adapter))
    assert len(pickle.dumps(adapter)) < 5000
    sample = next(adapter.items())
    assert copy.complete(sample, str) == adapter.complete(sample, str)
    assert copy.read(sample).sha256 == adapter.read(sample).sha256


CELL = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=12)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(st.lists(CELL | st.just("a.png"), min_size=1, max_size=4), min_size=1))
def test_any_table_is_accounted_for_or_refused(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("wild")
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(folder / "a.png")
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    content = "file,report,view\n" + "\n".join(quoted) + "\n"
    adapter = table(folder, content, view="view")
    found = list(completed(adapter))
    assert len(found) == adapter.num_items() == len(rows)
    assert all(i.reason and i.detail for i in found if isinstance(i, Exclusion))
    keys = [i.key for i in found if isinstance(i, Sample)]
    assert len(keys) == len(set(keys))


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=60) | st.binary(max_size=40).map(lambda b: b"file,report\n" + b))
def test_any_bytes_are_a_table_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("wild") / "films.csv"
    path.write_bytes(content)
    try:
        adapter = Table(Table.Options(file=path, image="file", text="report"))
        assert len(list(adapter.items())) == adapter.num_items()
    except RequestError as error:
        assert str(path) in str(error)  # noqa: PT017 - either outcome is right


def test_what_programs_write_for_an_empty_cell_is_empty(root):
    text = "file,patient,report\na.png,nan,Clear\nb.png,2,N/A\nc.png,3,None seen.\n"
    assert outcomes(table(root, text, patient="patient")) == ["no-patient", "no-prompt", "c"]
