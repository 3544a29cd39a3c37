"""Strict YAML: every error at once, with the nearest name."""

import shlex
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from arra_med import config
from arra_med.errors import RequestError
from arra_med.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 1.0
    steps: int = 3

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError("steps must not be negative")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    mode: Literal["fast", "slow"] = "fast"
    inner: Inner = field(default_factory=Inner)
    folder: Path | None = None
    pair: tuple[float, float] = (0.0, 1.0)
    names: tuple[str, ...] = ()
    free: dict[str, Any] = field(default_factory=dict)
    flag: bool = False


def test_reads_every_kind_of_value_and_writes_it_back(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: a\nmode: slow\ninner: {rate: 1e-5, steps: 4}\nfolder: ~/x\npair: [1, 2]\n"
        "names: [b, c]\nfree: {any: {thing: 1}}\nflag: true\n"
    )
    read = config.load(Outer, path)
    assert read.inner == Inner(rate=1e-5, steps=4)
    assert read.folder == Path("~/x").expanduser()
    assert read.pair == (1.0, 2.0)
    path.write_text(config.dump(read))
    assert config.load(Outer, path) == read


def test_every_error_is_reported_at_once() -> None:
    tree = {
        "mode": "fats", "inner": {"rate": "x", "stpes": 1}, "pair": [1], "flag": 1, "names": "b",
    }  # fmt: skip
    with pytest.raises(RequestError) as caught:
        config.build(Outer, tree, where="c.yaml")
    text = str(caught.value)
    for expected in (
        "c.yaml has 7 errors", "name: missing", "did you mean 'fast'", "inner.stpes: unknown key",
        "did you mean 'steps'", "inner.rate: expected a number", "pair: expected 2 values",
        "flag: expected true or false", "names: expected a list",
    ):  # fmt: skip
        assert expected in text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pair": 70}, r"pair: expected a list such as \[70, 70\], found int 70"),
        ({"pair": "70x70"}, "pair: expected a list of 2 values, found str '70x70'"),
        ({"names": "b"}, r"names: expected a list such as \[b\], found str 'b'"),
        ({"names": {"b": 1}}, "names: expected a list, found dict"),
    ],
)
def test_one_value_in_place_of_a_list_is_answered_with_the_form(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        config.build(Outer, {"name": "a", **given}, where="c")


def test_a_rule_of_the_section_itself_is_reported_with_its_name() -> None:
    with pytest.raises(RequestError, match="inner: steps must not be negative"):
        config.build(Outer, {"name": "a", "inner": {"steps": -1}}, where="c")


def test_overrides_follow_the_same_rules(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: a\n")
    read = config.load(Outer, path, ["inner.steps=7", "names=[x, y]", "free.z_z=1"])
    assert (read.inner.steps, read.names, read.free) == (7, ("x", "y"), {"z_z": 1})
    with pytest.raises(RequestError, match="not of the form"):
        config.load(Outer, path, ["steps"])
    with pytest.raises(RequestError, match="is a value, not a section"):
        config.load(Outer, path, ["name.x=1"])
    with pytest.raises(RequestError, match=r"inner\.step: unknown key"):
        config.load(Outer, path, ["inner.step=1"])
    with pytest.raises(RequestError, match="for a comment: put the value in quotes"):
        config.load(Outer, path, ["name=run #1"])
    assert config.load(Outer, path, ['name="run #1"']).name == "run #1"
    assert config.load(Outer, path, ['names=["x #1", y#2] ']).names == ("x #1", "y#2")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ara.yaml", r"at .*ara\.yaml; did you mean 'arra\.yaml'\?"),
        ("hospital-films.yaml", r"films\.yaml$"),
        ("recipes", r"recipes: it is a folder, which holds a\.yml, arra\.yaml$"),
        ("empty", "empty: it is a folder, which holds none$"),
        ("facebook/chameleon-7b", "expected a YAML file; a model is named in it"),
    ],
)
def test_what_is_no_file_is_answered_with_what_may_be_meant(
    tmp_path: Path, name: str, message: str
) -> None:
    for folder in ("recipes", "empty"):
        (tmp_path / folder).mkdir()
    for file in ("arra.yaml", "recipes/arra.yaml", "recipes/a.yml", "recipes/notes.txt"):
        (tmp_path / file).touch()
    with pytest.raises(FileNotFoundError, match=message):
        config.load(Outer, tmp_path / name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "a stands here twice"),
        ("- a\n- b", "expected a mapping"),
        ("a: [", r"not readable YAML: line 1, column 5: expected the node content, but found '<st"),
        ("", "name: missing"),
    ],
)
def test_files_that_are_not_settings(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(RequestError, match=message):
        config.load(Outer, path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "films.csv",
            "BILD,BEFUND\na.png,Meier: klar\n",
            "films.csv is no configuration: that is a",
        ),
        (
            "c.yaml",
            "BILD,Meier\na.png,Meier: klar: ja",
            "line 2, column 12: mapping values are not",
        ),
        ("c.yaml", "a: *Meier\n", r"line 1, column 4: found undefined alias$"),
        ("c.yaml", "a: !Meier x\n", r"line 1, column 4: could not determine .* for the tag$"),
        (
            "c.yaml",
            "a: &Meier 1\nb: &Meier 2",
            r"column 4: second occurrence \(found duplicate anc",
        ),
        ("c.yaml", "Meier: %x", r"column 8: found character '%' that cannot start any token"),
        ("c.yaml", "Meier,Meier", r"expected a mapping at the top \(key: value\), found text or a"),
        ("c.yaml", "- Meier", r"expected a mapping at the top \(key: value\), found a list"),
        ("c.yaml", "a: 1\nMeier: \x07", r"line 2, column 8: it holds a character .*, number 0x7"),
        (
            "c.yaml",
            "Meier: 2020-13-45",
            r"not readable YAML: it holds a date or number that is none",
        ),
        ("c.yaml", b"Meier: \xfc", "byte 7 is not UTF-8"),
    ],
)
def test_an_error_of_yaml_holds_nothing_of_the_file(
    tmp_path: Path, name: str, text: str | bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RequestError, match=message) as caught:
        config.load(Outer, path)
    assert "\n" not in str(caught.value)
    whole = "".join(traceback.format_exception(caught.value))  # as --debug shows it
    assert "Meier" not in whole


@pytest.mark.parametrize("value", [",", "{x} film", "*a", "2020-13-45", '"', "%"])
def test_an_override_that_is_no_yaml_is_answered_in_one_line(tmp_path: Path, value: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("mode: fast\n")
    with pytest.raises(RequestError, match="if it is text, put it in quotes") as caught:
        config.load(Outer, path, [f"name={value}"])
    assert "\n" not in str(caught.value)
    (quoted,) = shlex.split(str(caught.value).rpartition("shell: ")[2])
    assert config.load(Outer, path, [quoted]).name == value


def test_a_missing_file_says_where() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        config.load(Outer, Path("nowhere.yaml"))


def settings(**sections: Any) -> Settings:
    return config.build(Settings, {"paths": {"output": "o"}, **sections}, where="test")


def test_plug_in_options_are_checked_like_the_rest() -> None:
    read = settings(
        ingest={"dataset": {"name": "table", "file": "a.csv", "image": "x", "text": "t"}}
    )
    assert read.ingest is not None
    assert read.ingest.dataset.name == "table"
    with pytest.raises(RequestError, match=r"ingest\.dataset\.name.*did you mean 'table'"):
        settings(ingest={"dataset": {"name": "tabel"}})
    with pytest.raises(
        RequestError, match=r"ingest\.dataset\.rooot: unknown key of 'deepeyenet'; did"
    ):
        settings(ingest={"dataset": {"name": "deepeyenet", "root": "r", "rooot": "r"}})


def test_contradictions_are_refused_without_loading_anything() -> None:
    with pytest.raises(RequestError, match="alignment is on but there is no 'features' section"):
        settings(training={})
    assert settings(training={}, alignment={"enabled": False}).training is not None
    with pytest.raises(RequestError, match="not a multiple of micro_batch_size"):
        settings(training={"batch_size": 10, "micro_batch_size": 4})
    with pytest.raises(RequestError, match="exactly one of"):
        settings(backbone={})
    llama = {"llama": {"num_layers": 4}}
    with pytest.raises(RequestError, match="layer is 5, the backbone has blocks 1 to 4"):
        settings(backbone=llama, alignment={"layer": 5})
    assert settings(backbone=llama, alignment={"layer": 5, "enabled": False}).backbone is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"training": {"max_steps": 0}},
        {"training": {"betas": [2, 3]}},
        {"training": {"gradient_clipping": -1}},
        {"training": {"warmup_steps": -3}},
        {"generation": {"limit": 0}},
        {"generation": {"guidance": -1}},
        {"backbone": {"llama": {}, "dropout": 3}},
        {"seed": -1},
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"must be (0 or more|positive|in)"):
        settings(alignment={"enabled": False}, **wrong)


def test_output_stands_for_the_output_folder(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        'paths: {output: a/b}\ningest: {dataset: {name: deepeyenet, root: "{output}/source"}}\n'
    )
    read = config.load(Settings, path, ["paths.output=c"])
    assert read.ingest is not None
    assert read.ingest.dataset.options.root == Path("c/source")
    assert read.paths.folder("export") == Path("c/run/export")


def test_prepared_stands_for_the_prepared_folder(tmp_path: Path) -> None:
    """Also where its own path begins with the output folder's."""
    path = tmp_path / "c.yaml"
    path.write_text(
        'paths: {output: a, prepared: "{output}/p"}\n'
        'ingest: {dataset: {name: deepeyenet, root: "{prepared}-source"}}\n'
    )
    read = config.load(Settings, path)
    assert read.ingest is not None
    assert read.ingest.dataset.options.root == Path("a/p-source")

    path.write_text(path.read_text().replace(', prepared: "{output}/p"', ""))
    read = config.load(Settings, path, ["paths.output=b"])
    assert read.ingest is not None
    assert read.ingest.dataset.options.root == Path("b/prepared-source"), "its default"
    assert read.paths.prepared is None


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        ("output: 'a{prepared}b'", "output"),
        ("output: 'a/{output}'", "output"),
        ("output: a, prepared: '{output}/{prepared}'", "prepared"),
    ],
)
def test_a_folder_that_others_are_made_from_is_not_made_from_them(
    tmp_path: Path, paths: str, name: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"paths: {{{paths}}}\ngeneration: {{prompts: '{{prepared}}/x.txt'}}\n")
    with pytest.raises(RequestError, match=rf"paths\.{name} is .* cannot stand in it"):
        config.load(Settings, path)


RECIPES = [
    path
    for path in sorted(Path(__file__).parents[1].glob("scripts/**/*.yaml"))
    if path.name not in ("arms.yaml", "trial.yaml")  # overrides of a recipe: tests/study reads them
]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_configuration_we_ship_is_valid(path: Path) -> None:
    config.load(Settings, path)
