import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from arra_med.config import build
from arra_med.datasets.table import Table
from arra_med.errors import RequestError
from arra_med.registry import DATASETS
from arra_med.schema import CHEXPERT_LABELS, Exclusion, Sample
from arra_med.settings import Ingest

REAL = Path(os.environ.get("ARRA_MED_REAL_DATA", Path(__file__).parents[3] / "shared/data"))


@pytest.fixture
def root(tmp_path):
    for name in ("a.png", "b.png", "c.png", "röntgen bild.png", "it's.png"):
        Image.fromarray(np.full((5, 7), 9, np.uint8)).save(tmp_path / name)
    return tmp_path


def table(root, content, *, stored_as="utf-8", name="films.csv", **options):
    (root / name).write_bytes(content.encode(stored_as))
    options = {"image": "file", "text": "report"} | options
    return Table(Table.Options(file=root / name, **options))


def outcomes(adapter):
    return [i.key if isinstance(i, Sample) else i.reason for i in adapter.items()]


FILMS = """file,report,view,patient,split
a.png,No  effusiön.,PA,1,train
b.png,Effusion,LL,2,val
c.png,Clear,AP Supine,3,Test
"""


def test_the_columns_mean_what_the_options_say(root):
    adapter = table(root, FILMS, view="view", patient="patient", split="split")
    first, second, third = adapter.items()
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
    malformed = [i for i in adapter.items() if isinstance(i, Exclusion)][-4]
    assert malformed.item == "films.csv#14"  # the line in the file


def test_prompts(root):
    assert [i.prompt for i in table(root, FILMS, text=None, prompt="report").items()] == [
        "No effusiön.", "Effusion", "Clear",
    ]  # fmt: skip
    assert next(table(root, FILMS, modality="fundus").items()).prompt == (
        "fundus image, No effusiön."
    )
    no_view = "file,report,view\na.png,Clear,\n"
    found = table(root, no_view, view="view", missing_view="prompt-without-view").items()
    assert next(found).prompt == "chest x-ray image, Clear"


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
    with pytest.raises(RequestError, match=r"lists Efusion; found: Edema, Effusion, No Finding"):
        table(root, text, label_column="found", label_values=("Efusion",))


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
        (FILMS, {"view": "xyz"}, r"no column 'xyz': no column has a similar name"),
        (FILMS.replace("split", "view"), {"view": "view"}, "column 'view' is there 2 times"),
        ("", {}, "is empty: expected a first line"),
        ("file,report\n", {}, "column names but no rows"),
        (FILMS, {"encoding": "utf-99"}, "unknown encoding 'utf-99'"),
        (FILMS, {"label_column": "split", "labels": ("view",)}, "not both"),
        (FILMS, {"prompt": "report"}, "exactly one of 'text'"),
        (FILMS, {"views": ("PA",)}, "needs a 'view' column"),
        (FILMS, {"prompt_template": "{view}, {text}"}, "no other places than {text}"),
        (FILMS, {"split_shares": (1.0, 1.0, 0.0)}, "sum to 1"),
    ],
)
def test_errors_say_what_is_wrong(root, content, options, message):
    with pytest.raises(RequestError, match=message):
        table(root, content, **options)


def test_wrong_encoding_names_byte_line_and_remedy(root):
    path = root / "old.csv"
    path.write_bytes("file,report\na.png,clear\nb.png,Röntgen\n".encode("cp1252"))
    with pytest.raises(RequestError, match=r"not utf-8: byte 0xf6 in line 3.*cp1252"):
        Table(Table.Options(file=path, image="file", text="report"))
    adapter = Table(Table.Options(file=path, image="file", text="report", encoding="cp1252"))
    assert [i.prompt for i in adapter.items()][1].endswith("Röntgen")


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
def test_real_films():
    folder = REAL / "cxr_open"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (ARRA_MED_REAL_DATA)")
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
    found = list(adapter.items())
    assert len(found) == 176
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
