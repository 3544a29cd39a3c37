"""Prompts from four kinds of places, and what is wrong with some."""

from pathlib import Path

import pandas as pd
import pytest

from arra_med.errors import RequestError
from arra_med.eval.laterality import match_swapped
from arra_med.generation.folder import GeneratedFolder
from arra_med.generation.prompts import choose_prompts, evenly
from arra_med.settings import Generation
from arra_med.store import PreparedFolder
from tests.generation.conftest import Run

NOWHERE = Path("/nowhere/prepared")


def read(**settings: object) -> list[tuple[str, str]]:
    chosen = choose_prompts(Generation(**settings), NOWHERE)
    return [(prompt.key, prompt.text) for prompt in chosen.prompts]


def test_one_prompt_needs_no_folder() -> None:
    assert read(prompt="left effusion.") == [("prompt-00001", "left effusion.")]


def test_a_text_file_has_one_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes("\ufeffErguß links.\r\n\r\n  clear.\u2028No\x85\x0cedema. \n".encode())
    expected = [("prompt-00001", "Erguß links."), ("prompt-00003", "clear.\u2028No\x85\x0cedema.")]
    assert read(prompts=path) == expected


def test_a_table_of_semicolons_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt;key\nclear, no edema.;a\n")
    assert read(prompts=tmp_path / "p.csv") == [("a", "clear, no edema.")]


def test_a_table_of_semicolons_that_lacks_a_column_has_it_named(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("key;promt\na;clear, no edema.\n")
    message = r"no column 'prompt': did you mean 'promt'\? Columns: key, promt\.$"
    with pytest.raises(RequestError, match=message):
        read(prompts=tmp_path / "p.csv")


def test_other_encodings_and_delimiters_are_read_when_they_are_set(tmp_path: Path) -> None:
    expected = [("a", "Erguß links."), ("b", "clear, dry.")]
    text = "key|prompt\na|Erguß links.\nb|clear, dry.\n"
    (tmp_path / "t.csv").write_bytes(text.encode("cp1252"))
    assert read(prompts=tmp_path / "t.csv", delimiter="|", encoding="cp1252") == expected
    (tmp_path / "t.tsv").write_bytes(text.replace("|", "\t").encode("utf-16"))
    assert read(prompts=tmp_path / "t.tsv", encoding="utf-16") == expected
    (tmp_path / "t.csv").write_bytes(text.replace("|", ";").encode("cp1252"))
    assert read(prompts=tmp_path / "t.csv", encoding="cp1252") == expected
    (tmp_path / "p.txt").write_bytes("Erguß links.\n".encode("cp1252"))
    found = read(prompts=tmp_path / "p.txt", encoding="cp1252")
    assert found == [("prompt-00001", "Erguß links.")]
    with pytest.raises(RequestError, match="unknown encoding 'utf-99'"):
        read(prompts=tmp_path / "p.txt", encoding="utf-99")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": ";"}, "those of a file of 'prompts'"),
        ({"encoding": "cp1252"}, "those of a file of 'prompts'"),
        ({"prompts": Path("p.txt"), "delimiter": ";"}, "delimiter without effect on a .txt file"),
        (
            {"prompts": Path("p.parquet"), "delimiter": ";", "encoding": "cp1252"},
            "encoding and delimiter without effect on a .parquet file",
        ),
        ({"prompts": Path("p.csv"), "delimiter": ";;"}, "'delimiter' must be one character"),
    ],
)
def test_encoding_and_delimiter_without_an_effect_are_refused(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Generation(**options)


def test_tables_bring_keys_and_further_columns(export: Path, run: Run, tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["a/1", "b"], "text": ["clear.", "edema."], "Edema": [0, 1]})
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet")
    columns = {"key_column": "id", "prompt_column": "text", "carry": ("Edema",)}
    run("csv", prompts=tmp_path / "t.csv", **columns)
    run("parquet", prompts=tmp_path / "t.parquet", **columns)
    rows = GeneratedFolder(tmp_path / "csv").rows
    assert rows == GeneratedFolder(tmp_path / "parquet").rows
    found = [(r["key"], r["index"], r["prompt"], r["Edema"], r["file"]) for r in rows]
    assert found[1] == ("a/1", 1, "clear.", "0", "images/a/1-1.png")
    assert found[2] == ("b", 0, "edema.", "1", "images/b-0.png")


def test_a_table_without_keys_is_numbered(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("prompt\nclear.\nedema.\n")
    found = read(prompts=tmp_path / "t.csv")
    assert found == [("prompt-00001", "clear."), ("prompt-00002", "edema.")]
    with pytest.raises(RequestError, match="no column 'id'"):
        read(prompts=tmp_path / "t.csv", key_column="id")


def test_a_prepared_folder_s_split(prepared: PreparedFolder) -> None:
    chosen = choose_prompts(Generation(split="validate", limit=2), prepared.folder)
    rows = prepared.rows("validate")
    assert [p.key for p in chosen.prompts] == [rows[0]["key"], rows[-1]["key"]]
    assert (chosen.prepared, chosen.channels) == (prepared.content_hash, 1)


def test_evenly_keeps_the_ends() -> None:
    assert evenly(range(9), 3) == [0, 4, 8]
    assert evenly(range(3), 5) == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.txt", "\n \n", "holds no prompts"),
        ("p.txt", b"\xff\xfe", "not utf-8 text: set generation.encoding"),
        ("t.csv", "key\tprompt\na\tsecret\n", r'separated by a tab.*set delimiter: "\\t"'),
        ("p.doc", "clear.", "expected a .txt file"),
        ("t.csv", "key,prompt\na,clear.\na,edema.\n", r"1 keys are there more than once.*'a'"),
        ("t.csv", "key,prompt\na,\nb,secret\n", r"1 of 2 prompts are empty, first \['a'\]"),
        ("t.csv", "key,prompt\n../a,secret\n", r"key '\.\./a' is not usable"),
        ("t.csv", "key,prompt\na\n", "line 2: too few or too many fields"),
        ("t.csv", "key,text\na,secret\n", "no column 'prompt'"),
    ],
)
def test_bad_files_are_refused_without_their_text(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RequestError, match=message) as error:
        read(prompts=path)
    assert "secret" not in str(error.value)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="prompts are empty"):
        read(prompt=" ")
    for name in ("p.txt", "t.csv"):
        with pytest.raises(FileNotFoundError, match=name):
            read(prompts=tmp_path / name)
    with pytest.raises(FileNotFoundError, match="/nowhere/prepared"):
        read()


def test_sides_are_exchanged_under_the_same_keys(prepared: PreparedFolder) -> None:
    plain = choose_prompts(Generation(limit=6), prepared.folder)
    turned = choose_prompts(Generation(limit=6, swap_sides=True), prepared.folder)
    texts = {prompt.key: prompt.text for prompt in plain.prompts}
    named = [key for key, text in texts.items() if "left" in text or "right" in text]
    assert [prompt.key for prompt in turned.prompts] == named
    assert len(named) == 3
    for prompt in turned.prompts:
        swapped = prompt.text.replace("left", "?").replace("right", "left").replace("?", "right")
        assert texts[prompt.key] == swapped
    assert turned.source["source"] == "prepared folder, test split, left and right exchanged"
    assert (turned.source["count"], turned.source["left_out"]) == (3, 3)
    assert (turned.prepared, turned.channels) == (plain.prepared, plain.channels)
    assert turned.source["sha256"] != plain.source["sha256"]


def test_a_table_s_sides_are_exchanged_and_its_columns_stay(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("key,prompt,n\na,Left effusion.,1\nb,clear.,2\n")
    settings = Generation(prompts=tmp_path / "t.csv", carry=("n",), swap_sides=True)
    (prompt,) = choose_prompts(settings, NOWHERE).prompts
    assert (prompt.key, prompt.text, prompt.carried) == ("a", "Right effusion.", {"n": "1"})


def test_nothing_to_exchange_is_refused_without_the_texts(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("secret.\nleft secret, right secret.\n")
    with pytest.raises(RequestError, match="none of 2 prompts names exactly one side") as error:
        read(prompts=tmp_path / "p.txt", swap_sides=True)
    assert "secret" not in str(error.value)
    with pytest.raises(RequestError, match="'prompt' is one"):
        read(prompt="left effusion.", swap_sides=True)


def test_the_manifest_says_that_sides_were_exchanged(
    export: Path, prepared: PreparedFolder, run: Run, tmp_path: Path
) -> None:
    plain, turned = run("plain"), run("turned", swap_sides=True)
    assert (plain["config"]["swap_sides"], turned["config"]["swap_sides"]) == (False, True)
    rows = {(row["key"], row["index"]): row for row in GeneratedFolder(tmp_path / "plain").rows}
    pairs = match_swapped(GeneratedFolder(tmp_path / "plain"), GeneratedFolder(tmp_path / "turned"))
    assert len(pairs) == turned["counts"]["images"] == 8
    for row in pairs:
        other = rows[row["key"], row["index"]]
        assert row["prompt"] != other["prompt"]
        names = ("file", "seed", "guidance", "temperature", "top_k", "top_p")
        assert {name: row[name] for name in names} == {name: other[name] for name in names}


def test_prompts_of_another_encoding_are_refused_without_their_text(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes("PA view\nsmall effusion – left".encode("cp1252"))
    assert read(prompts=path, encoding="cp1252")[1][1] == "small effusion – left"
    message = r"1 of 2 prompts hold control characters, first \['prompt-00002'\].*encoding"
    with pytest.raises(RequestError, match=message) as error:
        read(prompts=path, encoding="latin-1")
    assert "effusion" not in str(error.value)
