"""Radiology reports: their sections, and the prompt made from them.

The section rules are those with which the authors of MIMIC-CXR cut their reports (Johnson et al.,
MIMIC-CXR, Sci Data 2019; ``txt/section_parser.py`` in MIT-LCP/mimic-cxr), odd corners included, so
that what is taken as the impression here is what everybody else takes. The authors also list, by
study number, some fifty reports that they cut by hand, and fall back on the comparison section last
of all; the list is not followed, the fallback is a matter of ``sources``.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter

from arra_med.datasets.cleanup import CleanUp, clean
from arra_med.datasets.cleanup.sentences import PLACEHOLDER
from arra_med.errors import RequestError, did_you_mean

SOURCES = ("impression", "findings", "last_paragraph")
"""Sections a prompt is taken from, in order of preference."""
WHOLE = "full report"
"""The one section of a report without headers."""
TEMPLATE = "{view} view chest x-ray image, {text}"
TEMPLATE_WITHOUT_VIEW = "chest x-ray image, {text}"
NO_CLEAN_UP = CleanUp()

_HEADER = re.compile(r"\n ([A-Z ()/,-]+):\s")
_BREAK = "\n \n"
_POINTS = re.compile(  # to another place, in which the report says it
    r"""\W*(?:\d+\W+)?(?:please\s+)?
    (?:(?:the\s+)?same\s+)?
    (?:as|see|refer\s+to|per|wie|siehe)\s+
    (?:(?:is|was|in|the|those|described|detailed|discussed|noted|reported|given|outlined|stated|
    mentioned|seen|on|under|and|oben|unten|beschrieben|genannt|above|below|prior|previous|
    findings?|impression|conclusion|comments?|body|section|text|of|report|befund|beurteilung)\W*)+
    |\W*s\.\s?[ou]\.\W*|\W*above\W*""",
    re.IGNORECASE | re.VERBOSE,
)
# Section name -> how reports spell it. "ndication" counts as impression in the official table.
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "preamble": ("preamble",),
    "impression": (
        "impression", "conclusion", "findings and impression", "findings/impression",
        "findings/ impression", "ndication", "impresson", "imprression", "imoression",
        "impressoin", "imprssion", "impresion", "imperssion", "mpression", "impession",
    ),
    "findings": (
        "findings", "finding", "findins", "findindgs", "findgings", "findngs", "findnings",
        "finidngs", "reference findings", "chest, two views",
    ),
    "comparison": (
        "comparison", "comparisons", "comparison exam", "comparison film", "reference exam",
        "comparision", "comparsion", "comparrison", "comparisions",
    ),
    "indication": (
        "indication", "reason for examination", "reason for exam", "clinical indication",
        "idication",
    ),
    "history": (
        "history", "clinical history", "clinical information", "patient history", "pfi",
    ),
    "examination": ("examination", "exam", "type of examination"),
    "recommendations": ("recommendations", "recommendation", "recommendation(s)"),
    "wet read": ("wet read", "wetread"),
    "technique": ("technique",),
    "notification": ("notification",),
    "addendum": ("addendum",),
    "comment": ("comment",),
    "date": ("date",),
}  # fmt: skip
HEADED = tuple(name for name in _SPELLINGS if name != "preamble")
"""Sections that stand under a header."""
SECTIONS = tuple(dict.fromkeys((*SOURCES, *HEADED, "preamble", WHOLE)))
"""Names that the official rules give to a report's sections."""
_NAMES = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings}
_CONTAINED = ("impression", "findings", "history", "comparison", "addendum")
_DESCRIBES_THE_FILM = (
    "chest", "portable", "pa and lateral", "lateral and pa", "ap and lateral", "lateral and ap",
    "frontal and", "two views", "frontal view", "pa view", "ap view", "one view", "lateral view",
    "bone window", "frontal upright", "frontal semi-upright", "ribs", "pa and lat",
)  # fmt: skip


@dataclass(frozen=True)
class Prompt:
    """A prompt, the section it was made from, and how often each clean-up step changed something.

    ``edits`` covers the sections that were cleaned until one had something left to say.
    """

    text: str
    source: str
    edits: Mapping[str, int] = field(default_factory=dict)


def section_name(header: str) -> str:
    """The section a report's header stands for, by the official table and its two fallbacks."""
    name = header.lower().strip()
    if name in _NAMES:
        return _NAMES[name]
    for part in _CONTAINED:
        if part in name:
            return part
    return "findings" if any(part in name for part in _DESCRIBES_THE_FILM) else name


def is_section(header: str) -> bool:
    """Whether the official table and its fallbacks know a header."""
    return section_name(header) in _SPELLINGS


def check_sources(sources: Sequence[str], *, hint: str = "") -> None:
    """Refuse names that no section of a report ever gets.

    Raises:
        RequestError: listing the known ones, with the ``hint``.
    """
    unknown = [source for source in sources if source not in SECTIONS]
    if unknown or not sources:
        near = did_you_mean(unknown[0].lower(), SECTIONS) if unknown else ""
        raise RequestError(
            f"prompt_sources {list(sources)}: expected one or more of {', '.join(SECTIONS)}{hint}"
            f"{near}"
        )


def split_sections(text: str) -> dict[str, str]:
    """Cut a report into its sections.

    A header is ``"\\n ([A-Z ()/,-]+):\\s"``: a newline, a space, a name of capitals, space and
    ``( ) / , -`` only, a colon, one whitespace (space, tab or newline). The search for the next
    header starts at the end of a header's own line. Empty impressions and findings are dropped;
    if neither is left and the last section has a blank-line break, what follows its first break
    is ``last_paragraph``. Line ends are read as Python reads them from a text file.

    Where this is wider or narrower than one might write the rule down, the published pattern is
    followed: a line may begin with more than one space (they count as part of the name); a
    header on the first line of a file, or at the very left, is none; after a header that stands
    alone on its line, the line that follows directly is not looked at, because its newline was
    taken as the header's whitespace; a blank line is one that holds exactly a space.

    Args:
        text: the whole report.

    Returns:
        Section name to raw stripped text, in the report's order; the last of repeated sections
        wins. A report without headers is one section, ``full report``.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    sections = _cut(text)
    sections = [
        (name, body)
        for name, body in sections
        if name not in ("impression", "findings") or body.strip()
    ]
    if not any(name in ("impression", "findings") for name, _ in sections):
        name, body = sections[-1]
        before, found, after = body.partition(_BREAK)
        if found:
            sections[-1:] = [(name, before), ("last_paragraph", after)]
    return {name: body.strip() for name, body in sections}


def _cut(text: str) -> list[tuple[str, str]]:
    header = _HEADER.search(text)
    if header is None:
        return [(WHOLE, text)]
    sections = [("preamble", text[: header.start(1)])]
    while header is not None:
        start = header.end()
        following = _HEADER.search(text, max(start, text.find("\n", start)))
        end = len(text) if following is None else following.start()
        sections.append((section_name(header.group(1)), text[start:end]))
        header = following
    return sections


def check_template(template: str, *, fields: Sequence[str] = ("view", "text")) -> str:
    """Return a prompt template whose places are all known and that has a place for the text.

    Raises:
        RequestError: otherwise.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise RequestError(f"prompt template {template!r} is not well formed: {error}") from error
    unknown = [name for _, name, _, _ in parts if name is not None and name not in fields]
    formatted = [name for _, name, spec, how in parts if name is not None and (spec or how)]
    if unknown or formatted or "text" not in [name for _, name, _, _ in parts]:
        places = ", ".join(f"{{{field}}}" for field in fields)
        raise RequestError(
            f"prompt template {template!r} must hold {{text}} and no other places than {places}"
        )
    return template


def has_words(text: str) -> bool:
    """Whether a text says anything of its own.

    Placeholders of removed identifiers say nothing, nor does one that only points elsewhere (``As
    above.``, ``See findings.``).
    """
    said = PLACEHOLDER.sub("", text)
    return any(character.isalpha() for character in said) and not _POINTS.fullmatch(said)


def fill_template(text: str, view: str | None, template: str, template_without_view: str) -> str:
    """A prompt from whitespace-normalised ``text``; without a view the other template is used.

    Raises:
        ValueError: if ``template_without_view`` is needed and itself asks for a view.
    """
    words = " ".join(text.split())
    if view is not None:
        return template.format(view=view, text=words)
    if "{view}" in template_without_view:
        raise ValueError(f"{template_without_view!r} asks for a view where none is known")
    return template_without_view.format(text=words)


def to_prompt(
    text: str,
    view: str | None,
    *,
    template: str = TEMPLATE,
    template_without_view: str = TEMPLATE_WITHOUT_VIEW,
    sources: Sequence[str] = SOURCES,
    clean_up: CleanUp = NO_CLEAN_UP,
) -> Prompt | None:
    """Turn a whole report into a prompt.

    Args:
        text: the report.
        view: the picture's view; ``None`` takes ``template_without_view``.
        template: with places ``{view}`` and ``{text}``.
        template_without_view: with a place ``{text}`` only.
        sources: section names in order of preference; the first that still says something
            after cleaning is used.
        clean_up: the cleaning steps; none by default.

    Returns:
        The prompt, or ``None`` if no source says anything.

    Raises:
        ValueError: if ``view`` is missing and ``template_without_view`` asks for one.
    """
    sections = split_sections(text)
    edits: Counter[str] = Counter()
    for source in sources:
        body, counted = clean(sections.get(source, ""), clean_up)
        edits.update(counted)
        if has_words(body):
            prompt = fill_template(body, view, template, template_without_view)
            return Prompt(prompt, source, dict(edits))
    return None


def emptied(text: str, sources: Sequence[str], clean_up: CleanUp) -> str:
    """Why a report without a prompt has none, if the clean-up is why.

    Args:
        text: the report, for which :func:`to_prompt` gave ``None``.
        sources: those it was given.
        clean_up: the one it was given.

    Returns:
        A sentence that names the steps and the sections they left nothing of; ``""`` if no section
        said anything before.
    """
    sections = split_sections(text)
    held = [source for source in sources if has_words(sections.get(source, ""))]
    return left_nothing(", ".join(held).replace("_", " "), clean_up) if held else ""


def left_nothing(of: str, clean_up: CleanUp) -> str:
    """The sentence for a text of which the clean-up left nothing: ``of`` says which."""
    return f"clean_up ({', '.join(clean_up.steps_on())}) left nothing of its {of}"
