import pytest
from hypothesis import given
from hypothesis import strategies as st

from arra_med.datasets.reports import check_template, section_name, split_sections, to_prompt
from arra_med.errors import RequestError


def report(*lines):
    return "\n".join(lines)


FULL = report(
    "                                 FINAL REPORT",
    " EXAMINATION:  CHEST (PA AND LAT)",
    " ",
    " INDICATION:  ___-year-old man with cough",
    " ",
    " FINDINGS: ",
    " ",
    " The lungs are clear.",
    " No effusion.",
    " ",
    " IMPRESSION: ",
    " ",
    " 1.  No acute process.",
    " 2.  Unchanged from ___.",
)


def test_every_section_of_a_usual_report():
    assert split_sections(FULL) == {
        "preamble": "FINAL REPORT",
        "examination": "CHEST (PA AND LAT)",
        "indication": "___-year-old man with cough",
        "findings": "The lungs are clear.\n No effusion.",
        "impression": "1.  No acute process.\n 2.  Unchanged from ___.",
    }


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("CONCLUSION", "impression"),
        ("FINDINGS AND IMPRESSION", "impression"),
        ("FINDINGS/ IMPRESSION", "impression"),
        ("IMPRESSOIN", "impression"),
        ("NDICATION", "impression"),  # as in the official table
        ("REASON FOR EXAM", "indication"),
        ("CLINICAL INDICATION", "indication"),
        ("PFI", "history"),
        ("WETREAD", "wet read"),
        ("RECOMMENDATION(S)", "recommendations"),
        ("CHEST, TWO VIEWS", "findings"),
        ("FINAL IMPRESSION", "impression"),  # contains a main name
        ("IMPRESSION AND FINDINGS", "impression"),  # the first main name wins
        ("PRIOR COMPARISON STUDY", "comparison"),
        ("AP PORTABLE CHEST", "findings"),  # describes the film
        ("PA AND LATERAL VIEWS", "findings"),
        ("LEFT RIBS", "findings"),
        ("TECHNIQUE", "technique"),
        ("SOMETHING ELSE", "something else"),
    ],
)
def test_header_names(header, name):
    assert section_name(header) == name


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        # a header needs a newline before it, then a space
        (" IMPRESSION: clear", {"full report": "IMPRESSION: clear"}),
        ("\nIMPRESSION: clear", {"full report": "IMPRESSION: clear"}),
        # … or more: the official pattern lets the name itself begin with spaces
        ("\n   IMPRESSION: clear", {"preamble": "", "impression": "clear"}),
        ("\n Impression: clear", {"full report": "Impression: clear"}),
        ("\n IMPRESSION:clear", {"full report": "IMPRESSION:clear"}),
        ("\n IMPRESSION 2: clear", {"full report": "IMPRESSION 2: clear"}),
        ("\n IMPRESSION: clear", {"preamble": "", "impression": "clear"}),
        ("\r\n IMPRESSION: clear\r\n", {"preamble": "", "impression": "clear"}),
        # a header in the middle of a line is text
        ("\n HISTORY: a\n no IMPRESSION: b", {"preamble": "", "history": "a\n no IMPRESSION: b"}),
        # the next header is looked for from the end of a header's own line on
        ("\n FINDINGS: a\n IMPRESSION: b", {"preamble": "", "findings": "a", "impression": "b"}),
        # the newline after a colon belongs to the header, so the line after it is its own line
        (
            "\n FINDINGS:\n IMPRESSION: b\n c",
            {"preamble": "", "findings": "IMPRESSION: b\n c"},
        ),
        # empty ones are dropped, of repeated ones the last wins
        ("\n FINDINGS: a\n FINDINGS: \n", {"preamble": "", "findings": "a"}),
        ("\n IMPRESSION: a\n IMPRESSION: b\n", {"preamble": "", "impression": "b"}),
        ("\n HISTORY: a\n HISTORY: \n", {"preamble": "", "history": ""}),
        # the last paragraph, only without impression and findings, only in the last section
        (
            "\n HISTORY: cough\n \n Lungs are clear.\n \n No effusion.",
            {
                "preamble": "",
                "history": "cough",
                "last_paragraph": "Lungs are clear.\n \n No effusion.",
            },
        ),
        ("\n HISTORY: a\n \n b\n DATE: c", {"preamble": "", "history": "a\n \n b", "date": "c"}),
        ("\n HISTORY: a\n\n b", {"preamble": "", "history": "a\n\n b"}),
        ("FINAL REPORT\n \n Clear.", {"full report": "FINAL REPORT", "last_paragraph": "Clear."}),
        (
            "\n HISTORY: a\n \n b\n IMPRESSION: \n",
            {"preamble": "", "history": "a", "last_paragraph": "b"},
        ),
        ("", {"full report": ""}),
    ],
)
def test_split_sections(text, sections):
    assert split_sections(text) == sections


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FULL, ("1. No acute process. 2. Unchanged from ___.", "impression")),
        ("\n FINDINGS: Clear\n  lungs.\n", ("Clear lungs.", "findings")),
        ("\n FINDINGS: Clear.\n IMPRESSION: \n", ("Clear.", "findings")),
        ("\n FINDINGS: Clear.\n IMPRESSION: ___.\n", ("Clear.", "findings")),
        ("\n FINDINGS: Clear.\n IMPRESSION: XXXX.\n", ("Clear.", "findings")),
        ("\n HISTORY: cough\n \n Clear.", ("Clear.", "last_paragraph")),
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
        assert found == (f"PA view chest x-ray image, {expected[0]}", expected[1])


def test_prompt_without_a_view_does_not_mention_one():
    assert to_prompt(FULL, None, sources=("findings",)) == (
        "chest x-ray image, The lungs are clear. No effusion.",
        "findings",
    )
    with pytest.raises(ValueError, match="asks for a view"):
        to_prompt(FULL, None, template_without_view="{view} view, {text}")


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
        assert found[0] == " ".join(found[0].split())
        assert found[1] in ("impression", "findings", "last_paragraph")
