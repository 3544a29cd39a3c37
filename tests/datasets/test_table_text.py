"""A table's texts become prompts: whole reports, clean-up, files beside the pictures."""

import re

import pytest

from arra_med.datasets.cleanup import CleanUp
from arra_med.datasets.table_text import official_headers
from arra_med.errors import RequestError
from tests.datasets.film_tables import completed, table

REPORTS = {
    "MIMIC's form": " FINAL REPORT\n INDICATION:  Cough.\n \n FINDINGS:  Clear.\n \n IMPRESSION:\n"
    " No effusion.\n",
    "first line, not indented": "FINDINGS: Clear.\nIMPRESSION: No effusion.",
    "small letters": "Findings: Clear.\r\nImpression: No effusion.",
    "one line": "FINDINGS: Clear. IMPRESSION: No effusion.",
    "indented more": "   FINDINGS: Clear.\n\n   CONCLUSION : No effusion.",
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_whole_report_gives_its_impression_or_the_section_asked_for(root, name):
    quoted = REPORTS[name].replace('"', '""')
    text = f'file,report,view\na.png,"{quoted}",PA\n'
    options = {"text": None, "report": "report", "view": "view"}
    adapter = table(root, text, **options)
    (sample,) = completed(adapter)
    assert sample.prompt == "PA view chest x-ray image, No effusion."
    assert sample.prompt_source == "impression"
    (sample,) = completed(table(root, text, prompt_sources=("findings",), **options))
    assert sample.prompt == "PA view chest x-ray image, Clear."


def test_headers_are_found_and_other_colons_left_alone():
    assert official_headers("FINDINGS: a\nat 3: 45 pm") == "\n FINDINGS: a\nat 3: 45 pm"
    assert official_headers("Heart: normal.") == "\nHeart: normal."
    assert official_headers("We think: HISTORY: b") == "\nWe think:\n HISTORY: b"


@pytest.mark.parametrize(
    ("report", "prompt"),
    [
        ("IMPRESSION:\nLEFT LUNG: Clear.\nRIGHT LUNG: Large mass.\nHEART: Enlarged.",
         "LEFT LUNG: Clear. RIGHT LUNG: Large mass. HEART: Enlarged."),
        (" IMPRESSION:\n LUNGS: Clear.\n LINES/TUBES: None.\n", "LUNGS: Clear. LINES/TUBES: None."),
        ("FINDINGS: see below\nIMPRESSION:\nPNEUMOTHORAX: None.\nEFFUSION: Right.\nHEART: Large.",
         "PNEUMOTHORAX: None. EFFUSION: Right. HEART: Large."),
        ("IMPRESSION:\nPARENCHYMA: Clear.\nEDEMA: Moderate.\nCONSOLIDATION: Left base.",
         "PARENCHYMA: Clear. EDEMA: Moderate. CONSOLIDATION: Left base."),
        ("IMPRESSION AND RECOMMENDATION: Mass. CT advised.", "Mass. CT advised."),
        ("IMPRESSION: Left pneumothorax.\nADDENDUM IMPRESSION: Discussed with surgery.",
         "Left pneumothorax."),
        ("Findings: Clear lungs. Impression: No effusion.", "No effusion."),
        ("Impressions: Mass.\nReason for exam: cough.\nComparisons: last year.", "Mass."),
        ("Impression: Mass.\nElectronically signed by: Dr. Who", "Mass."),
        ("Impression: Mass.\n\nElectronically signed by Dr. Who on 01/02/2020", "Mass."),
        ("IMPRESSION: Mass.\nREAD BY DR. WHO", "Mass."),
        ("Report:\n\nHeart normal.\n\nNo effusion.\n\nDr. Bob Who, MD",
         "Heart normal. No effusion."),
        ("Heart normal.\n\nNo effusion.\n\nAnna Who, MD PhD", "No effusion."),
        ("IMPRESSION: Mass.\nATTENDING: Dr. Who", "Mass."),
        ("IMPRESSION: Mass.\nTECHNOLOGIST: Who", "Mass."),
        ("INDICATION: cough\n\nHeart normal.\n\nNo effusion.", "Heart normal. No effusion."),
        ("Heart normal.\n\nNo effusion.", "No effusion."),
        ("Heart normal.\nNo effusion.\n", "Heart normal. No effusion."),
        ("Impression:No effusion.", "No effusion."),
        ("FINDINGS\nHeart normal.\nIMPRESSION\nNo effusion.", "No effusion."),
    ],
)  # fmt: skip
def test_structured_reports_and_what_stands_behind_them(root, report, prompt):
    (root / "a.txt").write_text(report)
    (sample,) = completed(table(root, "file\na.png\n", text=None, report_suffix=".txt"))
    assert sample.prompt == f"chest x-ray image, {prompt}"


@pytest.mark.parametrize(
    "report",
    [
        "Klinik: Husten.\nBefund: Herz (ap) groß.\n\nBeurteilung: Erguss.\nGrüße: keine",
        "KLINIK\nHusten.\nBEFUND\nHerz (ap) groß.\nBEURTEILUNG\nErguss. Grüße: keine",
        "Klinik: Husten. Befund: Herz (ap) groß. Beurteilung: Erguss. Grüße: keine",
        "  klinik :\r\n  Husten.\r\n  befund :\r\n  Herz (ap) groß.\r\n\r\n  beurteilung :\r\n"
        "  Erguss.\r\n  grüße :\r\n  keine",
    ],
)
def test_headers_of_an_archive_s_own(root, report):
    (root / "a.txt").write_text(report)
    headers = {
        "Klinik": "history", "Befund": "findings", "Beurteilung": "impression", "Grüße": "comment",
    }  # fmt: skip
    sections = {"impression": "Erguss.", "findings": "Herz (ap) groß.", "history": "Husten."}
    for name, body in sections.items():
        options = {"report_suffix": ".txt", "headers": headers, "prompt_sources": (name,)}
        (sample,) = completed(table(root, "file\na.png\n", text=None, **options))
        assert (sample.prompt, sample.prompt_source) == (f"chest x-ray image, {body}", name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"prompt_sources": ("Impression", "findings")},
            r"in 'headers'; did you mean 'impression'",
        ),
        ({"prompt_sources": ("beurteilung",)}, r"one or more of impression, findings, .*'headers'"),
        ({"headers": {"Befund": "finding"}}, r"'finding', which is none of .*mean 'findings'"),
        ({"headers": {"Befund": "full report"}}, r"'full report', which is none of"),
        ({"headers": {"Befund:": "findings"}}, r"without a colon"),
        ({"headers": {"Befund": "findings", "BEFUND": "comment"}}, r"more than capitals"),
        ({"report": None, "text": "report", "headers": {"Befund": "findings"}}, r"those of a"),
    ],
)
def test_sections_that_no_report_has_are_refused(root, options, message):
    with pytest.raises(RequestError, match=message):
        table(root, "file,report\na.png,x\n", **({"text": None, "report": "report"} | options))


def test_a_report_of_other_sections_is_excluded_and_the_remedy_named(root):
    adapter = table(root, "file,report\na.png,HISTORY: all clear\n", text=None, report="report")
    (item,) = completed(adapter)
    assert item.reason == "no-prompt"
    assert "'text' takes texts whole" in item.detail
    assert "clear" not in item.detail


@pytest.mark.parametrize(
    ("columns", "detail"),
    [
        (
            {"text": None, "report": "report"},
            r"clean_up \(remove_notifications, remove_comparisons\) left nothing of its impression",
        ),
        (
            {"text": "report"},
            r"clean_up \(remove_notifications, remove_comparisons\) left nothing of its text",
        ),
    ],
)
def test_a_text_that_clean_up_empties_is_excluded_and_the_steps_named(root, columns, detail):
    report = "IMPRESSION: No interval change." if columns["text"] is None else "No interval change."
    steps = CleanUp(remove_notifications=True, remove_comparisons=True)
    (item,) = completed(table(root, f"file,report\na.png,{report}\n", clean_up=steps, **columns))
    assert item.reason == "no-prompt"
    assert re.fullmatch(detail, item.detail)


def test_texts_are_redacted_then_cleaned_then_put_in_place(root):
    text = 'file,report\na.png,"1. Clear.\n2. Discussed with Dr. Meyer at 3 pm."\nb.png,Meyer\n'
    seen = []

    def redact(raw):
        seen.append(raw)
        return raw.replace("Meyer", "___")

    steps = CleanUp(join_lists=True, remove_notifications=True, remove_placeholders=True)
    first, second = completed(table(root, text, clean_up=steps), redact)
    assert seen == ["1. Clear.\n2. Discussed with Dr. Meyer at 3 pm.", "Meyer"]
    assert first.prompt == "chest x-ray image, Clear."
    assert sum(first.edits.values()) >= 2
    assert second.reason == "no-prompt"
    first = next(completed(table(root, text, text=None, prompt="report"), redact))
    assert first.prompt == "1. Clear. 2. Discussed with Dr. ___ at 3 pm."


def test_texts_beside_the_pictures(root):
    (root / "a.txt").write_text("FINDINGS: Clear.\n")
    (root / "b.txt").write_bytes("Röntgen".encode("cp1252"))
    text = "file\na.png\nb.png\nc.png\n"
    for option, prompt in (("text_suffix", "FINDINGS: Clear."), ("report_suffix", "Clear.")):
        first, second, third = completed(table(root, text, text=None, **{option: ".txt"}))
        assert first.prompt == f"chest x-ray image, {prompt}"
        assert first.text_source == "a.txt"
        assert (second.reason, third.reason) == ("unreadable-report", "missing-report")
    adapter = table(root, text, text=None, text_suffix=".txt", encoding="cp1252")
    assert list(completed(adapter))[1].prompt == "chest x-ray image, Röntgen"
