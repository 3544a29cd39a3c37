"""Requirement 15 in a browser: the report opens offline, shows everything, sorts, and prints."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from arra_med.eval.report import write_report
from tests.eval import chromium
from tests.eval.chromium import Tab
from tests.eval.conftest import build_results, write_example

pytestmark = pytest.mark.skipif(
    chromium.COMMAND is None, reason=f"no Chromium here: none of {', '.join(chromium.NAMES)}"
)

A4 = (210, 297)
MARGINS = (2 * 13, 12 + 15)
"""Millimetres across and down, as in the style's ``@page``."""
PX = 96 / 25.4
PAPER = tuple(round((side - margin) * PX) for side, margin in zip(A4, MARGINS, strict=True))

TOO_WIDE = """
[...document.querySelectorAll("body *")]
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, .chart"))
  .map((e) => `${e.tagName} ${e.className}`)
"""
COLUMN = """
((number, column) => {
  const table = document.querySelectorAll("table.sortable")[number];
  return [...table.tBodies[0].rows].map((row) =>
    row.cells[column].dataset.sort ?? row.cells[column].textContent.trim());
})(%d, %d)
"""
STATE = 'document.querySelectorAll("table.sortable")[%d].querySelectorAll("thead th")[%d].ariaSort'
CONTRAST = """
(() => {
  const channels = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = channels(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0.99) return c;
    }
    return [255, 255, 255];
  };
  const words = [...document.querySelectorAll("body *")].filter((e) =>
    [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && e.getClientRects().length);
  const poor = words.map((e) => {
    const style = getComputedStyle(e);
    const text = channels(e.closest("svg") ? style.fill : style.color);
    const [low, high] = [luminance(text), luminance(ground(e))].sort((a, b) => a - b);
    return [(high + 0.05) / (low + 0.05), e.outerHTML.slice(0, 80)];
  });
  return {count: poor.length, poor: poor.filter(([ratio]) => ratio < 4.5)};
})()
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_example(tmp_path_factory.mktemp("report"), build_results()))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium.tab(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def page(browser: Tab, report: Path) -> Tab:
    """The report, freshly opened in a window of a usual size."""
    browser.requests.clear()
    browser.complaints.clear()
    browser.resize(1100, 1400)
    browser.open(report)
    return browser


def test_it_opens_without_network_or_console_errors(page: Tab, report: Path) -> None:
    asked = [url for url in page.requests if not url.startswith("data:image/png;base64,")]
    assert asked == [report.as_uri()]
    assert page.complaints == []
    assert "Evaluation of phantom-llama-arra" in page.evaluate("document.title")


def test_the_watch_notices_what_it_must(browser: Tab, report: Path, tmp_path: Path) -> None:
    """A foreign picture, a foreign script and a failing script are seen, and none may run."""
    text = report.read_text(encoding="utf-8")
    extra = '<img src="http://picture.invalid/x.png"><script>document.title = "taken over"</script>'
    spoiled = tmp_path / "spoiled.html"
    spoiled.write_text(text.replace("<main>", f"<main>{extra}"), encoding="utf-8")
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(spoiled)
    assert sum("Content Security Policy" in line for line in browser.complaints) >= 2
    assert browser.evaluate("document.title") != "taken over"
    unguarded = tmp_path / "unguarded.html"
    unguarded.write_text(
        re.sub("<meta http-equiv.*?>", "", text.replace("<main>", f"<main>{extra}")), "utf-8"
    )
    browser.requests.clear()
    browser.open(unguarded)
    assert "http://picture.invalid/x.png" in browser.requests
    assert browser.evaluate("document.title") == "taken over"


def test_every_picture_is_shown(page: Tab) -> None:
    widths = page.evaluate("[...document.images].map((i) => i.complete ? i.naturalWidth : 0)")
    assert len(widths) == 2 * len(build_results()["panels"])
    assert min(widths) > 0
    plots = page.evaluate(
        '[...document.querySelectorAll("svg[role=img]")].map((s) => s.getBBox().width)'
    )
    assert len(plots) > 15
    assert min(plots) > 100


def test_tables_sort_up_and_down(page: Tab) -> None:
    count = page.evaluate('document.querySelectorAll("table.sortable").length')
    assert count >= 8
    for number in range(count):
        columns = page.evaluate(
            f'document.querySelectorAll("table.sortable")[{number}].tHead.rows[0].cells.length'
        )
        for column in range(columns):
            before = page.evaluate(COLUMN % (number, column))
            for state in ("ascending", "descending"):
                page.evaluate(
                    f'document.querySelectorAll("table.sortable")[{number}]'
                    f'.querySelectorAll("thead button")[{column}].click()'
                )
                assert page.evaluate(STATE % (number, column)) == state
                after = page.evaluate(COLUMN % (number, column))
                assert sorted(after) == sorted(before)
                values = [value for value in after if value != ""]
                assert after == values + [""] * (len(after) - len(values))
                if all(re.fullmatch(r"-?[\d.]+(e-?\d+)?", value) for value in values):
                    numbers = [float(value) for value in values]
                    assert numbers == sorted(numbers, reverse=state == "descending")
        others = f'document.querySelectorAll("table.sortable")[{number}]'
        assert page.evaluate(f'{others}.querySelectorAll("th[aria-sort]").length') == 1
    assert page.complaints == []


def test_the_keyboard_reaches_the_skip_link_and_sorts(page: Tab) -> None:
    page.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left >= 0") is True
    page.evaluate('document.querySelector("table.sortable thead button").focus()')
    page.press("Enter")
    assert page.evaluate(STATE % (0, 0)) == "ascending"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_all_text_has_contrast(page: Tab) -> None:
    for media in ("", "print"):
        page.resize(1100, 1400, media=media)
        found = page.evaluate(CONTRAST)
        assert found["count"] > 500
        assert found["poor"] == []


def test_a_narrow_window_does_not_scroll_sideways(page: Tab) -> None:
    page.resize(390, 844)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(TOO_WIDE) == []


def test_it_prints_on_a4(page: Tab) -> None:
    data = page.pdf()
    sizes = re.findall(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)\s*\]", data)
    assert len(sizes) == len(re.findall(rb"/Type\s*/Page\b", data))
    assert 10 <= len(sizes) <= 30
    for size in sizes:
        assert [float(side) for side in size] == pytest.approx([595.3, 841.9], abs=1)


def test_nothing_is_wider_than_the_paper(page: Tab) -> None:
    page.resize(*PAPER, media="print")
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth") <= page.evaluate(f"{root}.clientWidth")
    wider = TOO_WIDE.replace(' && !e.closest(".scroll, .chart")', "")
    assert page.evaluate(wider) == []


def test_the_first_sheet_tells_the_whole_by_itself(page: Tab) -> None:
    page.resize(*PAPER, media="print")
    bottom = 'document.querySelector("#summary").getBoundingClientRect().bottom + scrollY'
    assert page.evaluate(bottom) <= PAPER[1]
    assert page.evaluate('getComputedStyle(document.querySelector("#evidence")).breakBefore') == (
        "page"
    )
    start = 'document.querySelector("#evidence").getBoundingClientRect().top'
    assert page.evaluate(
        f'document.querySelector("#summary").getBoundingClientRect().top < {start}'
    )
