"""Reports as other programs write them are made plain, or refused with the remedy."""

import pytest

from arra_med.datasets.base import Excluded, Identifier
from arra_med.datasets.plain_text import plain_text
from arra_med.datasets.privacy import Redactor
from tests.datasets.film_tables import completed, table

HTML, LINES, QUOTED, UTF8 = (
    "html-to-text", "line-ends-restored", "quoted-printable-read", "utf8-restored",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "plain", "step"),
    [
        ("<p><b>IMPRESSION:</b> No effusion.</p>", "\nIMPRESSION: No effusion.\n", HTML),
        ("<p>Herr M&uuml;ller J&#246;rg, M&#xFC;ller</p>", "\nHerr Müller Jörg, Müller\n", HTML),
        ("M&amp;uuml;ller&nbsp;J", "Müller J", HTML),
        ("&lt;p&gt;Heart &lt;b&gt;ok&lt;/b&gt;&lt;br/&gt;", "\nHeart ok\n", HTML),
        ("M<b>ü</b>ller<BR>ok", "Müller\nok", HTML),
        ("<table border='0'><tr><td>Heart</td><td>ok</td></tr></table>",
         "\n\n Heart  ok \n\n", HTML),
        ("<!DOCTYPE html><html><head><style>p {x: y}</style></head><!-- x --></html>",
         "\n\n\n\n", HTML),
        ('<?xml version="1.0"?><report><text>ok</text></report>', "\n\nok\n\n", HTML),
        ("<report id='1'><text>ok</text></report>", "\n\nok\n\n", HTML),
        ("&lt;5 mm &amp; &gt;3", "<5 mm & >3", HTML),
        ("FINDINGS: ok_x000D_\nIMPRESSION: ok_x000D__x000A_x", "FINDINGS: ok\nIMPRESSION: ok\nx",
         LINES),
        (r"IMPRESSION:\.br\No effusion.", "IMPRESSION:\nNo effusion.", LINES),
        ("Herr M=C3=BCller, J=C3=B6rg: =3D kein Er=\nguss=20.",
         "Herr Müller, Jörg: = kein Erguss .", QUOTED),
        ("Herr Müller: “ok”".encode().decode("latin-1"), "Herr Müller: “ok”", UTF8),
        ("Herr MÃ¼ller: ok", "Herr Müller: ok", UTF8),
    ],
)  # fmt: skip
def test_what_other_programs_leave_is_undone(text, plain, step):
    assert plain_text(text) == (plain, {step: 1})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n FINAL REPORT\r\n IMPRESSION:\t<5 mm & >3 mm; a<b, <a few mm> R&D; T&A.\f",
        "size = 3 x 4 cm, ratio=20, =FC, =A1=B2, <image> ___ <unk>",
        "the file_x000 and \\br\\, 3 < p > 2",
        "Müller 山田 – “ok”",
        "Herr MÃ¼ller, Jörg",
        "Größe 30° à Élise «É»",
    ],
)
def test_plain_text_stays_as_it_is(text):
    assert plain_text(text) == (text, {})


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (r"{\rtf1\ansi Herr M\'fcller: kein Erguss.\par}", "is RTF"),
        ("\n {\\rtf1 x}", "is RTF"),
        ("No effusion".encode("utf-16-le").decode(), "zero bytes.*UTF-16"),
        ("Heart\x07 normal", r"control characters \(U\+0007\)"),
        ("Heart \x1b[0m normal", r"control characters \(U\+001B\)"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_remedy(text, cause):
    with pytest.raises(Excluded, match=f"{cause}.*as plain text in UTF-8") as caught:
        plain_text(text)
    assert caught.value.reason == "unreadable-report"
    assert "Erguss" not in caught.value.detail


def test_files_beside_the_pictures_and_cells_follow_the_same_rule(root):
    redact = Redactor([Identifier("PatientName", "Müller^Jörg")])
    page = "<p>FINDINGS: Clear.</p><p>IMPRESSION: M&uuml;ller, J&ouml;rg: no effusion.</p>"
    (root / "a.txt").write_text(page)
    (root / "b.txt").write_bytes("IMPRESSION: Jörg Müller".encode("utf-16-le"))
    (root / "c.txt").write_text(r"{\rtf1 Herr M\'fcller}")
    beside = table(root, "file\na.png\nb.png\nc.png\n", text=None, report_suffix=".txt")
    rows = f"file,report\na.png,{page.replace(',', '')}\nb.png,Heart\x1b[0m\nc.png,{{\\rtf1 x}}\n"
    for adapter in (beside, table(root, rows, text=None, report="report")):
        first, second, third = completed(adapter, redact)
        assert first.prompt == "chest x-ray image, ___: no effusion."
        assert first.edits["html-to-text"] == 1
        assert second.reason == third.reason == "unreadable-report"
    rows = "file,report\na.png,<p>Heart &gt; normal</p>\n"
    for column in ("text", "prompt"):
        (sample,) = completed(table(root, rows, **({"text": None} | {column: "report"})))
        assert sample.prompt.endswith("Heart > normal")
        assert sample.edits["html-to-text"] == 1
