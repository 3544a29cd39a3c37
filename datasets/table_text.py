"""A table's texts made into prompts, item by item: redacted, then cleaned, then put in place."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from arra_med.datasets import reports
from arra_med.datasets.base import Excluded
from arra_med.datasets.cleanup import clean
from arra_med.datasets.labelling.assertions import read_mentions
from arra_med.datasets.plain_text import plain_text
from arra_med.datasets.source_files import read_start
from arra_med.datasets.table_options import TableOptions
from arra_med.datasets.tables import codec
from arra_med.schema import Sample

_MAX_TEXT = 2**20  # bytes; no report is longer
# MIMIC-CXR's rules want a header on a line of its own, after one space, in capitals.
_NAMES = (
    "findings and impression|findings|impressions?|conclusions?|comparisons?|indication|technique|"
    "clinical history|clinical information|history|reason for exam(?:ination)?|exam(?:ination)?|"
    "impressions? and recommendations?|recommendations?|wet read|addendum|notification"
)
_SIGNED = (
    "(?:electronically )?(?:signed|dictated|reported|read|verified|approved|transcribed) by"
    "|electronically signed"
)
"""A person's name follows, with or without a colon."""
_LINE_HEADER = re.compile(
    rf"(?m)^[ \t]*(?:([A-Z][A-Z ()/,-]*)[ \t]*:(?=\s|$)|((?i:{_NAMES}))[ \t]*(?::[ \t]*|$)"
    rf"|((?i:{_SIGNED}))\b[ \t]*:?[ \t]*)"
)
_SIGNATURE = re.compile(
    r"\n[ \t]*\n[ \t]*(?:(?i:dr|prof)\b\.?[^\n]{1,60}|[^\n]{1,60}(?:,[ \t]*(?:M\.?D|D\.?O)"
    r"|,?[ \t]+(?:M\.D|MBBS|MBChB|FRCR|FRCPC|FRANZCR|Ph\.?D))\b[^\n]{0,30})\s*\Z"
)
"""A last paragraph of one line that names a physician."""
_BLANK_LINE = re.compile(r"\n[ \t]*(?=\n)")
_INLINE_HEADER = re.compile(
    rf"(?<=\S)(?<!\bADDENDUM)(?<!\bAND)[ \t]+({f'{_NAMES}|{_SIGNED}'.upper()}):(?=\s)"
    rf"|(?<=[.!?])[ \t]+((?i:{_NAMES}|{_SIGNED})):(?=\s)"
)
_ANATOMY = re.compile(
    r"\b(?:LEFT|RIGHT|UPPER|LOWER|LOBES?|LUNGS?|PLEURA\w*|HEART|CARDI\w+|MEDIASTIN\w+|HIL(?:A|AR|UM)"
    r"|AORTA|VESSELS?|VASCUL\w+|AIRWAYS?|TRACHEA|DIAPHRAGMS?|ABDOM\w+|BON(?:ES?|Y)|OSSEOUS"
    r"|SKELET\w+|RIBS|SPINE|SOFT TISSUES?|CHEST WALL|TUBES?|LINES?|CATHETERS?|DEVICES?|OTHER"
    r"|PARENCHYMA\w*|INTERSTITIUM|AIRSPACES?|APICES|APEX|BASES|THORA\w+|STOMACH|NECK|SHOULDERS?"
    r"|SUPPORT|MONITORING|HARDWARE|SURGICAL|POST-?OPERATIVE|QUALITY|INSPIRATION|POSITION\w*"
    r"|EMPHYSEMA|HERNIA\w*|CALCIFICATIONS?|GRANULOMAS?|LYMPH\w*|ADENOPATHY)\b"
)
"""A line of a structured report, which belongs to the section that it stands in."""


def complete(
    sample: Sample, options: TableOptions, root: Path, redact: Callable[[str], str]
) -> Sample:
    """The sample with its prompt.

    Args:
        sample: its prompt is raw text, or its ``text_source`` names a file below ``root``.
        options: the table's.
        root: of the pictures and the files beside them.
        redact: replaces identifiers of the picture's header; applied to the raw text, made plain.

    Raises:
        Excluded: if its text is missing, unreadable or says nothing.
    """
    raw = sample.prompt
    if sample.text_source:
        raw = _read(root / sample.text_source, options.encoding)
    raw, undone = plain_text(raw)
    text = redact(raw)
    if options.prompt is not None:
        _refuse_empty(text, "its prompt has no words")
        return replace(sample, prompt=" ".join(text.split()), edits=undone)
    template, without_view = options.template(), options.template_without_view()
    if options.report is not None or options.report_suffix is not None:
        report = official_headers(text, options.headers)
        made = reports.to_prompt(
            report,
            sample.view,
            template=template,
            template_without_view=without_view,
            sources=options.prompt_sources,
            clean_up=options.clean_up,
        )
        if made is None:
            why = reports.emptied(report, options.prompt_sources, options.clean_up)
            raise Excluded("no-prompt", why or _without_sections(options.prompt_sources))
        return replace(
            sample, prompt=made.text, prompt_source=made.source, edits={**made.edits, **undone}
        )
    _refuse_empty(text, "its text has no words")
    cleaned, edits = clean(text, options.clean_up)
    _refuse_empty(cleaned, reports.left_nothing("text", options.clean_up))
    prompt = reports.fill_template(cleaned, sample.view, template, without_view)
    return replace(sample, prompt=prompt, edits={**edits, **undone})


def official_headers(text: str, own: Mapping[str, str] = MappingProxyType({})) -> str:
    """A report whose section headers stand as MIMIC-CXR's rules want them.

    Other archives start the first line with one, do not indent them, write them small
    (``Impression:``), leave the colon or the space behind it out, or lost their line breaks; their
    blank lines are empty, where MIMIC-CXR's hold a space. Lines of structured reports (``HEART:``,
    ``PNEUMOTHORAX:``) are no sections; any other name in capitals is one, as who signed may follow.
    ``own`` are an archive's headers in words of its own → sections.
    """
    text = _SIGNATURE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    if own:
        text = _translated(text, own)
    text = _INLINE_HEADER.sub(lambda match: f"\n {match[1] or match[2]}:", text)
    text = _LINE_HEADER.sub(_official, text)
    return "\n" + _BLANK_LINE.sub("\n ", text)


def _translated(text: str, own: Mapping[str, str]) -> str:
    """``text`` with headers of its own as the sections they stand for."""
    sections = list(own.values())
    names = "|".join(f"({re.escape(name.strip())})" for name in own)
    text = re.sub(rf"(?i)(?<=[.!?])[ \t]+(?=(?:{names}):\s)", "\n", text)
    return re.sub(
        rf"(?im)^[ \t]*(?:{names})[ \t]*(?::[ \t]*|$)",
        lambda line: f" {sections[(line.lastindex or 1) - 1].upper()}: ",
        text,
    )


def _official(line: re.Match[str]) -> str:
    if name := line[2] or line[3]:
        return f" {name.upper()}: "
    name = line[1].strip()
    if name.startswith("ADDENDUM"):  # "ADDENDUM IMPRESSION" would replace the impression
        name = "ADDENDUM"
    return f"{name}:" if _is_structured(name) else f" {name}:"


def _is_structured(name: str) -> bool:
    """Whether a line's name is an organ or a finding rather than a section."""
    if _ANATOMY.search(name):
        return True
    return not reports.is_section(name) and bool(read_mentions(name.lower()))


def _without_sections(sources: Sequence[str]) -> str:
    """What is said of a report that holds none of ``sources``."""
    wanted = ", ".join(sources)
    wanted = wanted.replace("last_paragraph", "last of several paragraphs")
    wanted = wanted.replace(reports.WHOLE, "text without headers")
    return f"its report has no {wanted} with words; 'text' takes texts whole"


def _refuse_empty(text: str, detail: str) -> None:
    if not reports.has_words(text):
        raise Excluded("no-prompt", detail)


def _read(path: Path, encoding: str) -> str:
    try:
        data = read_start(path, _MAX_TEXT + 1)
        if len(data) > _MAX_TEXT:
            raise Excluded("unreadable-report", f"its text is longer than {_MAX_TEXT} bytes")
        return data.decode(codec(encoding))
    except FileNotFoundError as error:
        raise Excluded("missing-report", f"no {path.suffix} file beside the picture") from error
    except UnicodeError as error:
        raise Excluded("unreadable-report", f"its text is not {encoding}: set encoding") from error
    except OSError as error:
        detail = f"its text cannot be read ({type(error).__name__})"
        raise Excluded("unreadable-report", detail) from error
