"""Requirement 15: one offline page that says what was tested, and what was not."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from arra_med.datasets.privacy.folder_scan import foreign_chunk
from arra_med.errors import RequestError
from arra_med.eval.report import write_report

Write = Callable[[Any], Path]
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects what the tests ask of a page; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(folder: Path) -> Page:
    path = write_report(folder)
    assert path == folder / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_needs_nothing_from_outside(results: Any, write_evaluation: Write) -> None:
    folder = write_evaluation(results)
    page = page_of(folder)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:image/png;base64,|#)", text)
    assert "url(" not in text
    assert "@import" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert len(page.all("img")) == 2 * len(results["panels"])
    assert [name for name in folder.iterdir() if name.name.startswith(".")] == []


def test_the_first_page_says_what_it_is(results: Any, write_evaluation: Write) -> None:
    text = page_of(write_evaluation(results)).text
    opening = text[: text.index("In words")]
    assert "Research use only, not for diagnosis." in opening
    assert "No reader has checked these images." in opening
    assert "Status: complete." in opening
    assert "300 prompts" in opening
    assert "214 patients" in opening
    first = text[: text.index("The numbers behind the answers")]
    for question in (
        "Do they look right?",
        "Do they show what was asked?",
        "Do they invent or miss findings?",
        "Are they varied?",
        "Could a patient be recognised?",
        "Where does it fail?",
        "Were the goals reached?",
        "What was not checked?",
        "Goals set beforehand",
    ):
        assert question in first
    assert "Realism to the eye" in first


def test_an_incomplete_evaluation_says_why_first(results: Any, write_evaluation: Write) -> None:
    results |= {"status": "incomplete", "status_reasons": ["the judge is the run's teacher"]}
    text = page_of(write_evaluation(results)).text
    assert "Status: incomplete." in text[:700]
    assert "the judge is the run's teacher" in text[:700]


def test_a_generator_of_another_folder_is_said_so_first(
    results: Any, write_evaluation: Write
) -> None:
    note = "The generator was trained on another prepared folder."
    assert "Warning." not in page_of(write_evaluation(results)).text[:900]
    text = page_of(write_evaluation(results | {"model_note": note})).text
    assert f"Warning. {note}" in text[:900]
    assert f"Warning: {note}" in text, "among what the result is worth"


def test_the_findings_table_holds_the_numbers(results: Any, write_evaluation: Write) -> None:
    page = page_of(write_evaluation(results))
    # Pleural Effusion: AUROC 0.86, so 100 × 0.14 × 0.9 = 12.6 missed, 0.8 times that invented
    # where it is stated absent, and 0.9 times that shown where it is not mentioned
    row = page.text[page.text.index("In clinical terms") :]
    row = row[row.index("Pleural Effusion") : row.index("Cardiomegaly")]
    for number in ("84", "87", "13", "176", "10", "28", "11", "real 5", "real 95"):
        assert number in row
    table = page.text[page.text.index("How the judge decided") :]
    table = table[table.index("Pleural Effusion") : table.index("Cardiomegaly")]
    for number in ("0.86", "0.81 to 0.91", "0.94", "−0.08", "0.024", "0.018", "0.37"):
        assert number in table
    assert "Not scored: 7 prompts with it and 273 without; 20 of each are needed." in page.text


def test_report_text_is_escaped_everywhere(results: Any, write_evaluation: Write) -> None:
    bad = '<script>alert("x")</script><img src="http://evil.example/x.png">'
    ours = ("kind", "status", "rule", "aim", "generated", "real", "measure")

    def spoiled(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: spoiled(item, key) for key, item in value.items()}
        if isinstance(value, list):
            return [spoiled(item, name) for item in value]
        return value + bad if isinstance(value, str) and name not in ours else value

    results = spoiled(results)
    results["cohort"]["views"] = {bad: 3}
    results["view"]["by_view"][0]["shown_as"] = {bad: 3}
    page = page_of(write_evaluation(results))
    assert len(page.all("script")) == 1
    assert all(str(img["src"]).startswith("data:image/png") for img in page.all("img"))
    assert len(page.all("img")) == 2 * len(results["panels"])
    assert page.text.count('alert("x")') >= 200


def test_identifiers_are_shown_only_when_asked_for(results: Any, write_evaluation: Write) -> None:
    results["preflight"]["folders"][0]["unreadable"] = [{"file": "p1007/s7/d7-0", "reason": "cut"}]
    folder = write_evaluation(results)
    hidden = write_report(folder).read_text(encoding="utf-8")
    assert not re.findall(r"p\d{4}/s\d", hidden)
    assert "Identifiers are left out of this page" in hidden
    pictures = re.findall(r"data:image/png;base64,([^\"]*)", hidden)
    assert len(pictures) == 2 * len(results["panels"])
    assert {foreign_chunk(base64.b64decode(picture)) for picture in pictures} == {None}
    shown = write_report(folder, show_keys=True).read_text(encoding="utf-8")
    for key in ("p1003/s3/d3", "p0201/s1/d1", "p0211/s1/d1"):
        assert key in shown
    assert "Identifiers are left out" not in shown


def test_only_our_script_may_run(results: Any, write_evaluation: Write) -> None:
    text = write_report(write_evaluation(results)).read_text(encoding="utf-8")
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text


def test_it_can_be_read_without_eyes_or_mouse(results: Any, write_evaluation: Write) -> None:
    page = page_of(write_evaluation(results))
    assert page.all("html")[0]["lang"] == "en"
    assert all(img.get("alt") for img in page.all("img"))
    assert len({img["alt"] for img in page.all("img")}) == len(page.all("img"))
    assert all(th.get("scope") in ("col", "row") for th in page.all("th"))
    named = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert named
    assert all(svg["aria-label"] for svg in named)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {str(a["href"])[1:] for a in page.all("a")}
    assert targets <= set(ids)
    scrolled = [tag for _, tag in page.tags if "scroll" in str(tag.get("class")).split()]
    assert scrolled
    assert all(tag["tabindex"] == "0" and tag["aria-label"] for tag in scrolled)


def test_equal_results_give_equal_bytes(results: Any, write_evaluation: Write) -> None:
    folder = write_evaluation(results)
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_wrong_input_is_refused_with_the_remedy(results: Any, write_evaluation: Write) -> None:
    folder = write_evaluation(results)
    path = folder / "results.json"
    path.unlink()
    with pytest.raises(FileNotFoundError, match="arra-med evaluate"):
        write_report(folder)
    less = {name: value for name, value in results.items() if name not in ("judges", "panels")}
    for content, message in (
        ("{", "not JSON"),
        ("[]", "does not hold an evaluation"),
        (json.dumps(results | {"kind": "tokens"}), "does not hold an evaluation"),
        (json.dumps(results | {"schema_version": 99}), "schema version 99"),
        (json.dumps(less), "lacks judges, panels"),
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(RequestError, match=message):
            write_report(folder)
    assert not (folder / "report.html").exists()


def test_a_picture_must_be_a_png_inside_the_folder(results: Any, write_evaluation: Write) -> None:
    folder = write_evaluation(results)
    picture = folder / results["panels"][0]["real"]
    picture.write_bytes(b"GIF89a" + bytes(40))
    with pytest.raises(RequestError, match="not a PNG"):
        write_report(folder)
    picture.unlink()
    with pytest.raises(FileNotFoundError, match=picture.name):
        write_report(folder)
    results["panels"][0]["real"] = "../secret.png"
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    with pytest.raises(RequestError, match="outside its folder"):
        write_report(folder)


def test_no_section_is_empty_when_nothing_was_measured(
    results: Any, write_evaluation: Write
) -> None:
    for section in ("goals", "fidelity", "judges", "text", "panels"):
        results[section] = []
    for section in ("preflight", "similarity", "model", "view", "laterality", "memorisation"):
        results[section] = None
    for section in ("labels", "comparison", "protocol"):
        results[section] = None
    results["cohort"] = {"split": "test"}
    results |= {
        "status": "incomplete",
        "judge_note": "no judge was named",
        "similarity_note": "too small",
        "memorisation_note": "no training pictures were given",
        "view_note": "no classifier was named",
    }
    page = page_of(write_evaluation(results))
    for reason in (
        "Not done because no judge was named.",
        "Not done because no encoder was given.",
        "Not done because too small.",
        "Not done because no training pictures were given.",
        "Not checked because no check of the files was recorded.",
        "Not shown because no pictures were kept beside the results.",
        "no classifier was named",
    ):
        assert reason in page.text
    assert not re.search(r"\b(None|nan|null)\b(?! set)", page.text)
    text = (write_evaluation(results) / "report.html").read_text(encoding="utf-8")
    for section in re.findall(r"<section.*?</section>", text, re.DOTALL):
        body = re.sub(r"<h\d.*?</h\d>|<[^>]+>", " ", section, flags=re.DOTALL)
        assert len(body.split()) >= 5, section


def test_every_value_may_be_null(results: Any, write_evaluation: Write) -> None:
    words = (
        "finding status extractor encoder independent rule key prompt index name kind subject "
        "measure generator first second judge classifier view space group"
    )
    names = set(words.split())

    def emptied(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: item if key in names else emptied(item) for key, item in value.items()}
        return [emptied(item) for item in value] if isinstance(value, list) else None

    for section in ("fidelity", "judges", "text", "panels", "comparison", "memorisation"):
        results[section] = emptied(results[section])
    for section in ("cohort", "similarity", "protocol", "labels", "preflight", "laterality"):
        results[section] = dict.fromkeys(results[section])
    page = page_of(write_evaluation(results))
    assert "No picture is kept for this side." in page.text


def test_no_scored_finding(results: Any, write_evaluation: Write) -> None:
    results["judges"] = results["judges"][:1]
    results["judges"][0]["findings"] = results["judges"][0]["findings"][-2:]
    results["judges"][0]["overall"] = {"auroc_real": None, "auroc_generated": None}
    text = page_of(write_evaluation(results)).text
    assert "How the judge decided" not in text
    assert "whether another would agree was not checked" in text
