"""Reports of MIMIC-CXR: read, redacted, and made into prompts."""

import pytest

from arra_med.datasets.base import Excluded
from arra_med.datasets.cleanup import CleanUp
from arra_med.datasets.mimic_cxr import MimicCxr
from arra_med.datasets.reports import SECTIONS, section_name
from tests.datasets.mimic_release import (
    REPORTS,
    adapter,
    items,
    reasons,
    release,
    samples,
)


def test_reports_are_read_however_they_are_encoded(tmp_path):
    root = release(tmp_path)
    folder = root / "files/p10/p10000032"
    for data, edits in (
        (" FINAL\r\n IMPRESSION: 30° “tilt”.\r\n".encode(), {}),
        ("\ufeff FINAL\n IMPRESSION: 30° “tilt”.\n".encode(), {}),
        (" FINAL\n IMPRESSION: 30° “tilt”.\n".encode("cp1252"), {"read-as-cp1252": 1}),
        (b" FINAL<br/> IMPRESSION: 30&deg; &ldquo;tilt&rdquo;.</p>", {"html-to-text": 1}),
    ):
        (folder / "s50000001.txt").write_bytes(data)
        sample = samples(items(root))["a1"]
        assert sample.prompt == "PA view chest x-ray image, 30° “tilt”."
        assert sample.edits == edits
    for data in (b"\x81\x8d\xff", "IMPRESSION".encode("utf-16"), b"a" * 1_000_001, b"{\\rtf1 x}"):
        (folder / "s50000001.txt").write_bytes(data)
        assert reasons(items(root))["a1"] == "unreadable-report"
    (folder / "s50000001.txt").unlink()
    (folder / "s50000001.txt").mkdir()
    assert reasons(items(root))["a1"] == "no-report"


def test_a_report_that_vanishes_is_excluded_by_the_worker(tmp_path):
    mimic = adapter(release(tmp_path))
    sample = next(iter(mimic.items()))
    (tmp_path / sample.text_source).unlink()
    with pytest.raises(Excluded, match="unreadable-report: FileNotFoundError"):
        mimic.complete(sample, str)


def test_a_report_that_clean_up_empties_is_excluded_and_the_step_named(tmp_path):
    steps = CleanUp(remove_comparisons=True)
    mimic = adapter(release(tmp_path), clean_up=steps, prompt_sources=("findings", "impression"))
    sample = next(iter(mimic.items()))
    (tmp_path / sample.text_source).write_text(
        " FINAL REPORT\n IMPRESSION:\n No interval change.\n"
    )
    with pytest.raises(Excluded, match=r"clean_up \(remove_comparisons\) left nothing of its impr"):
        mimic.complete(sample, str)


def test_raw_text_is_redacted_before_anything_else(tmp_path):
    root = release(tmp_path)
    seen = []
    found = items(root, redact=lambda text: seen.append(text) or text.replace("acute", "___"))
    assert seen[0] == REPORTS["10000032", "50000001"]
    assert samples(found)["a1"].prompt == "PA view chest x-ray image, No ___ process."


def test_every_section_of_the_official_table_can_be_asked_for():
    for name in set(SECTIONS) - {"last_paragraph", "full report"}:
        assert section_name(name) == name
    assert {section_name(s) for s in ("wetread", "pfi", "exam", "idication")} <= set(SECTIONS)
    assert MimicCxr.Options(root="x", prompt_sources=SECTIONS).prompt_sources == SECTIONS
