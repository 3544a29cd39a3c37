import pytest
from hypothesis import given
from hypothesis import strategies as st

from arra_med.datasets.cleanup import CleanUp
from arra_med.datasets.reports import (
    Prompt,
    check_template,
    fill_template,
    section_name,
    split_sections,
    to_prompt,
)
from arra_med.errors import RequestError
from tests.datasets.report_cases import CLEANED, FULL, HEADER_NAMES, SECTIONS


def test_the_table_is_large():
    assert len(HEADER_NAMES) + len(SECTIONS) + len(CLEANED) >= 60


@pytest.mark.parametrize(("header", "name"), HEADER_NAMES)
def test_header_names(header, name):
    assert section_name(header) == name


@pytest.mark.parametrize("case", SECTIONS)
def test_split_sections(case):
    text, sections = SECTIONS[case]
    assert split_sections(text) == sections
    assert [*split_sections(text)] == [*sections]  # in the report's order


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FULL, ("1. No acute process. 2. Unchanged from ___.", "impression")),
        ("\n FINDINGS: Clear\n  lungs.\n", ("Clear lungs.", "findings")),
        ("\n FINDINGS: Clear.\n IMPRESSION: \n", ("Clear.", "findings")),
        ("\n FINDINGS: Clear.\n IMPRESSION: ___.\n", ("Clear.", "findings")),
        ("\n FINDINGS: Clear.\n IMPRESSION: XXXX.\n", ("Clear.", "findings")),
        ("\n HISTORY: cough\n \n Clear.", ("Clear.", "last_paragraph")),
        ("\n FINDINGS: Clear.\n IMPRESSION: As above.\n", ("Clear.", "findings")),
        ("\n FINDINGS: Clear.\n IMPRESSION: 1. See findings above.\n", ("Clear.", "findings")),
        (
            "\n FINDINGS: Clear.\n IMPRESSION: As described in the body of the report\n",
            ("Clear.", "findings"),
        ),
        (
            "\n FINDINGS: Clear.\n IMPRESSION: As above, unchanged.\n",
            ("As above, unchanged.", "impression"),
        ),
        ("\n HISTORY: cough\n \n Siehe oben.", None),
        ("\n HISTORY: cough", None),
        ("", None),
        ("\n IMPRESSION: {text} {view} {0}\n", ("{text} {view} {0}", "impression")),
    ],
)
def test_prompt_sources_in_order(text, expected):
    found = to_prompt(text, "PA")
    if expected is None:
        assert found is None
    else:
        assert found == Prompt(f"PA view chest x-ray image, {expected[0]}", expected[1], {})


def test_a_source_that_cleaning_empties_gives_way_to_the_next():
    text = "\n FINDINGS: Stable left effusion.\n IMPRESSION: 1. No interval change.\n"
    options = CleanUp(join_lists=True, remove_comparisons=True)
    assert to_prompt(text, None, clean_up=options) == Prompt(
        "chest x-ray image, Left effusion.",
        "findings",
        {"join-lists": 1, "remove-comparisons": 2},
    )
    assert to_prompt(text, None, clean_up=options, sources=("impression",)) is None
    as_it_is = to_prompt(text, None)
    assert as_it_is is not None
    assert as_it_is.text == "chest x-ray image, 1. No interval change."


def test_prompt_without_a_view_does_not_mention_one():
    assert to_prompt(FULL, None, sources=("findings",)) == Prompt(
        "chest x-ray image, The lungs are clear. No effusion.", "findings"
    )
    with pytest.raises(ValueError, match="asks for a view"):
        to_prompt(FULL, None, template_without_view="{view} view, {text}")


def test_the_template_is_the_callers():
    found = to_prompt(FULL, "AP", template="{text} ({view})", sources=("comment", "findings"))
    assert found == Prompt("The lungs are clear. No effusion. (AP)", "findings")
    assert fill_template("a\n b", "PA", "{view}: {text}", "{text}") == "PA: a b"


@pytest.mark.parametrize(
    "template", ["chest film", "{view} {text} {sex}", "{text!r}", "{text:>9}", "{text.x}", "{text"]
)
def test_templates_are_checked(template):
    with pytest.raises(RequestError, match="template"):
        check_template(template)


@given(st.text(alphabet=" \n\rABIMPRESSIONFINDINGS:()/,-_abc.", max_size=200))
def test_any_text_splits_and_no_prompt_holds_line_breaks(text):
    sections = split_sections(text)
    assert all(body == body.strip() for body in sections.values())
    found = to_prompt(text, "PA")
    if found is not None:
        assert found.text == " ".join(found.text.split())
        assert found.source in ("impression", "findings", "last_paragraph")
