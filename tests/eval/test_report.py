"""Requirement 15: one offline page that says what was tested, and what was not."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

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


def test_the_first_screen_says_what_it_is(results: Any, write_evaluation: Write) -> None:
    text = page_of(write_evaluation(results)).text
    opening = text[: text.index("What this result is worth")]
    assert "Research use only, not for diagnosis." in opening
    assert "No reader has checked these images." in opening
    assert "Status: complete." in opening
    assert "300 prompts" in opening
    assert "214 patients" in opening
    summary = text[: text.index("Drawn at random")]
    for question in (
        "Do they look right?",
        "Do they show what was asked?",
        "Do they invent or miss findings?",
        "Are they varied?",
        "Could a patient be recognised?",
        "What was not checked?",
    ):
        assert question in summary


def test_an_incomplete_evaluation_says_why_first(results: Any, write_evaluation: Write) -> None:
    results |= {"status": "incomplete", "status_reasons": ["the judge is the run's teacher"]}
    text = page_of(write_evaluation(results)).text
    assert "Status: incomplete." in text[:700]
    assert "the judge is the run's teacher" in text[:700]


def test_the_findings_table_holds_the_numbers(results: Any, write_evaluation: Write) -> None:
    page = page_of(write_evaluation(results))
    # Pleural Effusion: AUROC 0.86, so 100 × 0.14 × 0.9 = 12.6 missed and 0.8 times that invented
    row = page.text[page.text.index("In clinical terms") :]
    row = row[row.index("Pleural Effusion") : row.index("Cardiomegaly")]
    for number in ("84", "87", "13", "176", "10", "0.86", "0.81 to 0.91", "0.94", "real 5"):
        assert number in row
    assert "Not scored: 7 prompts with it and 40 without; 20 of each are needed." in page.text
    assert "AUROC by finding" in str([svg.get("aria-label") for svg in page.all("svg")])


def test_report_text_is_escaped_everywhere(results: Any, write_evaluation: Write) -> None:
    bad = '<script>alert("x")</script><img src="http://evil.example/x.png">'
    results["panels"][0]["prompt"] = bad
    results["findings"][0]["finding"] = bad
    results["findings"][1]["warning"] = bad
    results["model"]["name"] = bad
    results["status_reasons"] = [bad]
    results["judge"]["trained_on"] = bad
    results["fidelity"][0]["extractor"] = bad
    results["fidelity"][0]["fd_note"] = bad
    results["cohort"]["flow"][0]["step"] = bad
    results["panels"][0]["asked"] = [bad]
    results["protocol"]["resize"] = bad
    page = page_of(write_evaluation(results))
    assert len(page.all("script")) == 1
    assert all(str(img["src"]).startswith("data:image/png") for img in page.all("img"))
    assert page.text.count('alert("x")') >= 10


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


def test_colours_have_enough_contrast() -> None:
    css = (Path(__file__).parents[2] / "eval/templates/report.css").read_text(encoding="utf-8")
    colour = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", css))

    def luminance(name: str) -> float:
        channels = [int(colour[name][i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    pairs = [(name, f"{name}-tint") for name in ("good", "mixed", "poor", "unknown")]
    pairs += [
        (name, ground) for name in ("ink", "soft", "made", "real") for ground in ("paper", "ground")
    ]
    for text, ground in pairs:
        light, dark = sorted((luminance(text), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def test_no_section_is_empty_when_nothing_was_measured(
    results: Any, write_evaluation: Write
) -> None:
    for section in ("fidelity", "findings", "panels"):
        results[section] = []
    for section in ("similarity", "judge", "model", "protocol", "overall"):
        results[section] = None
    results["cohort"] = {"split": "test"}
    results |= {
        "status": "incomplete",
        "judge_note": "no judge was named",
        "similarity_note": "too small",
    }
    text = page_of(write_evaluation(results)).text
    for reason in (
        "Not done because no judge was named.",
        "Not done because no encoder was given.",
        "Not done because too small.",
        "Not shown because no pictures were kept beside the results.",
        "Cannot say: no finding was scored.",
    ):
        assert reason in text
    assert "None" not in text
    assert "nan" not in text.lower().split()


def test_every_single_value_may_be_null(results: Any, write_evaluation: Write) -> None:
    kept = {"finding", "status", "extractor", "independent", "rule", "key", "prompt", "index"}
    for name in ("findings", "fidelity", "panels"):
        results[name] = [
            {field: value if field in kept else None for field, value in row.items()}
            for row in results[name]
        ]
    for name in ("cohort", "judge", "similarity", "overall", "protocol"):
        results[name] = dict.fromkeys(results[name])
    text = page_of(write_evaluation(results)).text
    assert "No picture is kept for this side." in text


def test_no_scored_finding(results: Any, write_evaluation: Write) -> None:
    results["findings"] = results["findings"][-2:]
    results["overall"] = {"auroc_real": None, "auroc_generated": None}
    text = page_of(write_evaluation(results)).text
    assert "No finding was asked for often enough to be scored." in text
    assert "How the judge decided" not in text


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
    less = {name: value for name, value in results.items() if name not in ("judge", "panels")}
    for content, message in (
        ("{", "not JSON"),
        ("[]", "does not hold an evaluation"),
        (json.dumps(results | {"kind": "tokens"}), "does not hold an evaluation"),
        (json.dumps(results | {"schema_version": 99}), "schema version 99"),
        (json.dumps(less), "lacks judge, panels"),
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


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_shows_pictures_and_makes_tables_sortable(
    results: Any, write_evaluation: Write, tmp_path: Path
) -> None:
    path = write_report(write_evaluation(results))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0"]
    command += ["--dump-dom", path.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in run.stderr
    assert run.stdout.count('<button type="button">') == 16  # the script ran under its policy
