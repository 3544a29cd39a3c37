"""What the documentation tells users to type is accepted, and what it shows is what they get."""

import dataclasses
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from arra_med import config
from arra_med.cli.main import STAGES, parse
from arra_med.cli.stages import flags_as_overrides
from arra_med.datasets.cleanup import CleanUp
from arra_med.datasets.table_options import TEXTS, TableOptions
from arra_med.settings import Ingest, Llama, Settings

ROOT = Path(__file__).parents[1]
TABLE = dataclasses.fields(TableOptions)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OFFERED = {
    "biomedclip": ("cls", "mean", "cls+mean"),
    "clip-l": ("cls", "mean", "cls+mean"),
    "medsam": ("mean",),
}
"""What teachers offer with their default options; they say so themselves only from weights."""
MIMIC, EYE = "mimic_cxr", "deepeyenet"
# (recipe, setting, value) -> FID, copied by hand from the paper (arXiv 2503.07334 v4).
PAPER = {
    ("mimic_cxr/arra", None, None): 5.30,
    ("mimic_cxr/arra", "alignment.enabled", False): 7.11,
    ("mimic_cxr/arra", "alignment.span", "rep"): 6.26,
    ("mimic_cxr/arra", "features.aggregation", "mean"): 6.56,
    ("mimic_cxr/arra", "features.aggregation", "cls+mean"): 5.93,
    ("mimic_cxr/arra", "features.teacher.name", "medsam"): 6.54,
    ("mimic_cxr/arra", "features.teacher.name", "clip-l"): 5.16,
    ("mimic_cxr/arra", "alignment.projector", "pool"): 5.37,
    ("mimic_cxr/arra", "alignment.objective", "mse"): 5.32,
    ("mimic_cxr/arra", "alignment.weight", 0.5): 6.22,
    ("mimic_cxr/arra", "alignment.weight", 0.8): 5.38,
    ("mimic_cxr/arra", "alignment.weight", 1.5): 5.87,
    ("mimic_cxr/arra", "alignment.weight", 2.0): 6.12,
    ("mimic_cxr/arra", "alignment.layer", 5): 6.21,
    ("mimic_cxr/arra", "alignment.layer", 20): 5.70,
    ("mimic_cxr/arra", "alignment.layer", 30): 5.04,
    ("mimic_cxr/arra", "alignment.layer", 31): 5.71,
    ("mimic_cxr/arra-256", None, None): 6.11,
    ("mimic_cxr/arra-256", "alignment.enabled", False): 9.42,
    ("mimic_cxr/adapt", None, None): 4.15,
    ("mimic_cxr/adapt", "alignment.enabled", False): 5.10,
    ("mimic_cxr/adapt", "alignment.span", "rep"): 4.85,
    ("mimic_cxr/adapt", "features.teacher.name", "medsam"): 4.08,
    ("mimic_cxr/adapt", "features.teacher.name", "clip-l"): 4.63,
    ("deepeyenet/arra", "alignment.enabled", False): 38.37,
    ("deepeyenet/arra", None, None): 35.01,
    ("deepeyenet/adapt", None, None): 34.70,
}


def table_rows() -> list[tuple[str, list[str], float, str]]:
    """Recipe, overrides, FID and stages of each row of the paper's tables."""
    rows = []
    for line in (ROOT / "docs/training.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[1].startswith((MIMIC, EYE)):
            rows.append((cells[1], cells[2].strip("`").split(), float(cells[3]), cells[4]))
    return rows


def flat(tree: dict[str, object], at: str = "") -> dict[str, object]:
    """``{"a": {"b": 1}}`` to ``{"a.b": 1}``."""
    leaves: dict[str, object] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{at}{key}.") if isinstance(value, dict) else {f"{at}{key}": value}
    return leaves


def settings_of(recipe: str, overrides: list[str]) -> Settings:
    return config.load(Settings, ROOT / f"scripts/{recipe}.yaml", overrides)


def test_every_row_of_the_papers_tables_is_there_once() -> None:
    found = {}
    for recipe, overrides, fid, _ in table_rows():
        name, value = None, None
        if overrides:
            name = overrides[0].partition("=")[0]
            value = flat(config.to_tree(settings_of(recipe, overrides)))[name]
        assert (recipe, name, value) not in found
        found[recipe, name, value] = fid
    assert found == PAPER


@pytest.mark.parametrize(
    ("recipe", "overrides", "first"),
    [(recipe, overrides, first) for recipe, overrides, _, first in table_rows()],
    ids=[f"{recipe}-{'-'.join(overrides)}" for recipe, overrides, *_ in table_rows()],
)
def test_a_row_changes_what_it_names_and_nothing_else(
    recipe: str, overrides: list[str], first: str
) -> None:
    plain = flat(config.to_tree(settings_of(recipe, [])))
    settings = settings_of(recipe, overrides)
    changed = flat(config.to_tree(settings))
    differing = {name for name in plain.keys() & changed.keys() if plain[name] != changed[name]}
    assert differing == {override.partition("=")[0] for override in overrides}
    features = settings.features
    assert features is not None
    assert features.aggregation in OFFERED[features.teacher.name]
    if "256" not in recipe:
        assert (first == "features") == any(name.startswith("features.") for name in differing)


def test_recipes_of_a_dataset_share_pictures_and_keep_what_they_write_apart() -> None:
    for dataset in (MIMIC, EYE):
        base, arra, adapt = (settings_of(f"{dataset}/{v}", []) for v in ("base", "arra", "adapt"))
        assert base.ingest == arra.ingest == adapt.ingest
        assert base.features == arra.features == adapt.features
        assert base.paths.prepared == arra.paths.prepared == adapt.paths.prepared
        assert base.paths.tokenizer != arra.paths.tokenizer == adapt.paths.tokenizer
        assert len({s.paths.output for s in (base, arra, adapt)}) == 3
    small, large = settings_of(f"{MIMIC}/arra-256", []), settings_of(f"{MIMIC}/arra", [])
    assert small.evaluation != large.evaluation
    assert small.training == large.training


def commands(page: Path) -> list[list[str]]:
    """The words behind ``arra-med`` of every command in a page's shell blocks."""
    found = []
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.S):
        for line in block.replace("\\\n", " ").splitlines():
            command = re.search(r"(?:^|-m |--module |--wrap ')arra[-_]med (.*?)'?$", line)
            if command is not None:
                found.append(shlex.split(command[1], comments=True))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_is_accepted(page: Path) -> None:
    """``run.yaml`` and the demo's configuration stand for the reader's own."""
    assert commands(page) or page.stem in ("performance", "study")
    for words in commands(page):
        options = parse(words)
        if options.verb in STAGES:
            is_ours = options.config.parts[0] == "scripts"
            recipe = options.config if is_ours else Path("scripts/mimic_cxr/base.yaml")
            overrides = [*options.overrides, *flags_as_overrides(options)]
            config.load(Settings, ROOT / recipe, overrides)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_piece_of_yaml_on_a_page_fits_a_recipe(page: Path, tmp_path: Path) -> None:
    """Laid over a recipe: a page shows sections, not whole files."""
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S):
        recipe = "base" if "llama:" in block or "monai-vqvae" in block else "arra"
        under = {"include": str(ROOT / f"scripts/{MIMIC}/{recipe}.yaml")}
        path = tmp_path / "piece.yaml"
        path.write_text(yaml.safe_dump(under | yaml.safe_load(block)))
        config.load(Settings, path)


def option_rows() -> dict[str, tuple[str, str]]:
    """Default and example, in YAML, of each option of ``table`` that its page lists."""
    page = (ROOT / "docs/datasets.md").read_text()
    section = page.partition("### All options of `table`")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+?) \| `(.+?)` \|$", section, re.M)
    assert len(rows) == section.count("\n| `")
    return {name: (default.strip("`").replace("\\|", "|"), like) for name, default, like in rows}


def test_every_option_of_a_table_is_listed_in_order() -> None:
    assert list(option_rows()) == [field.name for field in TABLE]


@pytest.mark.parametrize("field", TABLE, ids=lambda field: field.name)
def test_an_option_s_default_is_what_the_page_says_and_its_example_is_accepted(
    field: dataclasses.Field[Any],
) -> None:
    default, like = option_rows()[field.name]
    made = field.default_factory
    value = field.default if made is dataclasses.MISSING else made()
    if value is dataclasses.MISSING:
        assert default == "required"
    elif value == CleanUp():
        assert default == "all off"
    else:
        assert yaml.safe_load(default) == config.to_tree(value)
    example = yaml.safe_load(like)
    texts = {} if example.keys() & set(TEXTS) else {"report": "report"}
    tree = {"name": "table", "file": "films.csv", **texts, **example}
    options = config.build(Ingest, {"dataset": tree}, where="docs").dataset.options
    assert getattr(options, field.name) != value


def test_the_sizes_of_llamagen_are_counted_right() -> None:
    page = (ROOT / "docs/models.md").read_text()
    rows = re.findall(r"^\| [\d.]+[MB] \|(.*)\|$", page, re.M)
    assert len(rows) == 5
    for row in rows:
        width, layers, heads, inner, told = (int(c.replace(",", "")) for c in row.split("|"))
        tokens = 8192 + 8192 + 2  # text, codes, image start and end
        block = 4 * width**2 + 3 * width * inner + 2 * width  # attention, MLP, two norms
        assert 2 * tokens * width + layers * block + width == told
        sizes = {"hidden_size": width, "num_layers": layers, "num_heads": heads}
        Llama(**sizes, intermediate_size=inner, text_vocabulary=8192)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("https:"):
            assert (page.parent / target).exists(), target
