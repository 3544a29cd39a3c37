"""Whether each mention of a finding in a sentence says present, absent or uncertain.

A sentence is read from left to right. Words such as "no" or "may represent" open a scope that runs
over lists ("no effusion, mass or pneumothorax") and ends where a new statement begins; then what
follows a mention ("has resolved", "cannot be excluded") is looked at. In the spirit of NegEx
(Chapman et al., J Biomed Inform 34, 2001) and of the CheXpert labeler; the rules are our own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from arra_med.datasets.labelling.mentions import LABELS, PATTERN
from arra_med.schema import ABSENT, PRESENT, UNCERTAIN


@dataclass(slots=True)
class Mention:
    """A phrase that names findings.

    Attributes:
        start: where it begins in the sentence.
        end: where it ends.
        labels: findings it names.
        value: 1 present, 0 absent, -1 uncertain, ``None`` not asserted at all ("rule out …").
    """

    start: int
    end: int
    labels: tuple[str, ...]
    value: int | None


_ADVERBS = r"(?:\w+ly |been |be |yet |longer |otherwise )*"
_SEEN = (
    r"(?:seen|identified|present|visuali[sz]ed|evident|appreciated|demonstrated|detected|noted"
    r"|observed|apparent|found|visible|suspected|shown|appreciable|discernible|recogni[sz]ed"
    r"|suggested|there|in evidence)"
)
_CHANGE = (
    r"(?:change[sd]?|increased?|decreased?|progress(?:ion|ed)|improve(?:ment|d)|worsen(?:ing|ed)"
    r"|differen(?:ce|t)|enlarged since|resolved?|resolution)"
)
_BUT_LITTLE = (
    r"(?:significant|substantial|appreciable|interval|evident|definite|other|relevant|major|marked"
    r"|overall|short|great|further|real|obvious|large|much|clear|gross|dramatic|complete(?:ly)?"
    r"|significantly|substantially|appreciably|markedly|greatly|fully|entirely|yet|been|acute)"
)
_EVENTS = re.compile(
    r"(?P<comma>,)|\b(?:"
    # nothing is denied: "no change in the effusion", "near complete resolution of"
    rf"(?P<neutral>(?:no|without|not) (?:{_BUT_LITTLE} )*{_CHANGE}(?: (?:in|of|to|from|since)\b)?"
    r"|not only|no doubt|(?:near(?:ly)?|almost|partial(?:ly)?|incomplete(?:ly)?|mostly|largely"
    r"|some|continued|ongoing)[- ](?:complete(?:ly)? )?(?:interval )?(?:resol(?:ution|ved)"
    r"|clear(?:ing|ed))(?: of)?"
    r"|to (?:ensure|document|confirm|assess|establish|follow|demonstrate)(?: for)?(?: complete)?"
    r" (?:resolution|clearing|stability)(?: of)?)\b"
    # nothing is asserted
    r"|(?P<unsaid>history of|h/o|hx of|(?:evaluat(?:e|ion|ing)|assess(?:ment|ing)?|eval"
    r"|screen(?:ing)?"
    r"|work-?up|query|look(?:ing)?) (?:for|of)|(?:to|please) (?:rule out|exclude|evaluate|assess)"
    r"|(?<!cannot )(?<!can not )(?<!not )(?<!n't )(?<!could )rule out|r/o|exclude"
    r"|if(?! any)|(?:to|in|for) (?:better |further )?(?:identify|detect|locali[sz]e|find"
    r"|characteri[sz]e|confirm)(?:ing)?"
    r"|detect(?:ing|ion of)|(?:clinical|clinically) (?:concern|suspicion|suspected|history"
    r"|diagnosis|question"
    r"|correlation)(?: (?:for|of|with))?|correlat\w+(?: \w+)? (?:for|as to|regarding)"
    r"|(?:prior|previous|old|remote|past)(?: \w+)? (?=infecti|pneumonia))\b"
    # a finding that cannot be excluded
    r"|(?P<open>(?:cannot|can not|can't|could not|couldn't|not|unable to|difficult to|hard to"
    r"|impossible to|may not|does not|do not)(?: \w+ly)? (?:exclude|rule out))\b"
    r"|(?P<denied>(?:not|cannot be|can not be|difficult to|hard to|nor)(?: \w+ly)?"
    rf" (?:excluded|ruled out|{_SEEN})|no longer(?: \w+ly)? {_SEEN})\b"
    # denial, over a list or over the next words alone
    r"|(?P<no>no|without|w/o|free of|free from|clear of|devoid of|negative for|absence of|lack of"
    r"|lacking|(?:(?:interval|complete) )*(?:resolution|clearing|clearance) of|neither|nor|never"
    r"|rather than|instead of|(?:interval )?removal of|rules? out|excludes|den(?:ies|ied)|none of"
    r"|no longer|(?:un|not )likely to (?:represent|be|reflect)|(?:do|does|did) not (?:\w+ly )?"
    r"(?:see|show|demonstrate|suggest|reveal|have|identify|indicate|support|represent|appear to)"
    r"|not (?:\w+ly )?(?:suggest\w*|indicat\w*|consistent with|compatible with|typical (?:of|for)"
    r"|represent\w*|due to|related to|show\w*|associated with|a|an|any|in))\b(?!\.)"
    r"|(?P<resolved>(?<!has )(?<!have )(?<!is )(?<!are )(?<!since )(?<!now )(?<!had )"
    r"resolved|unlikely|absent|removed)\b(?= \w)"
    # doubt, over what follows or over the next words alone
    r"|(?P<doubt>may|might|could|would (?:suggest|favou?r)|suggest(?:s|ed|ing|ive)?(?: of)?"
    r"|suspicious (?:for|of)|suspicion (?:for|of)|concern(?:s|ing)? (?:for|of|about|regarding|that)"
    r"|worri(?:some|ed) (?:for|about)|worry for|question(?:s|ing)? (?:of|whether|raised)"
    r"|consider(?:ed|ations?"
    r"|ing)?(?: \w+)?(?: includ\w+)?|differential\w*(?: diagnos\w+)?(?: includ\w+)?|versus|vs"
    r"|less likely|(?:likely|probabl[ey]|possibl[ey])(?: \w+){0,2} combination of|favou?r(?:s|ed"
    r"|ing)?|perhaps|cannot tell|raises?(?: the)?)\b"
    r"|(?P<maybe>likely|probabl[ey]|possibl[ey]|possibility of|questionabl[ey]|presumabl[ey]"
    r"|presumed|suspect(?:ed)?|equivocal|potential(?:ly)?|question|appears? to represent"
    r"|borderline|conceivabl[ey])\b"
    # a new statement
    r"|(?P<new>but|however|although|though|yet|except(?:ing)?(?: for)?|aside from|apart from"
    r"|other than|besides|whereas|while|nevertheless|nonetheless|otherwise|despite|in addition"
    r"|then)\b"
    r"|(?P<pass>(?:compatible|consistent|keeping|associated|correlat\w+|continuous) with)\b"
    r"|(?P<and>and/or|and|as well as|plus)\b|(?P<with>with)\b"
    rf"|{PATTERN}"
    r")|(?P<stop>[;:()]| - |--)"
)
_VERSUS = re.compile(r"\b(?:versus|vs)\b")
_ENDS = ("neutral", "new", "stop", "denied")
_OR = re.compile(r"\b(?:n?or)\b|/")
_VERB = re.compile(
    rf"\b(?:is|are|was|were|has|have|remains?|appears?|shows?|demonstrates?"
    rf"|persists?)\b(?! {_ADVERBS}"
    rf"{_SEEN}\b)"
)
_UNCHANGED = re.compile(r"\w (?:unchanged|stable|similar|in place)\b")
_NEW_SUBJECT = re.compile(
    r"\s*(?:and |with )?(?:there\b|the\b|this\b|these\b|it\b|a\b|again\b|stable\b|unchanged\b"
    r"|persistent\b|persisting\b|residual\b|status post|s/p|heart\b|lungs\b|now\b|chronic\b|old\b"
    r"|interval\b|heal(?:ed|ing)\b|mildly\b|slightly\b|moderately\b)"
)
_NEW_SIZED = re.compile(
    r"\s*(?:small|tiny|mild|minimal|trace|moderate|large|severe|bibasilar"
    r"|(?<=, )(?:left|right|bilateral)|subtle|patchy|increas\w+|decreas\w+|low|minor|slight"
    r"|multiple|several|some|calcified)\b"
)
_BROKEN_LINK = re.compile(
    r"\b(?:is|are|was|were|has|have|shows?|with|without|but|no|may|which|that|however|although"
    r"|though)\b"
)

_BEFORE_RESOLVED = (
    r"(?:(?:has|have|had|having|is|are|was|were|since|now|interval|also|been|all"
    r"|near|\w+ly|not)\b[ ,-]*)*"
)
_ELSEWHERE = (  # not seen there, or then, is not denied here and now
    r"(?! (?:previously|before|earlier|(?:on|in|at|with) (?:the |a |any |his |her )?"
    r"(?:most recent )?(?:priors?|previous|earlier|old|older|outside|comparison|preceding|last"
    r"|lateral|frontal|other)\b))"
)
_AFTER = re.compile(
    r"(?:(?<!\w)|(?=[:?]))(?:"  # "is" does not begin within "atelectasis"
    r"(?P<absent>(?:(?:is|are|was|were|has been|have been|had been|being)\b )?(?:not|no longer"
    r"|nowhere)(?! (?:previously|formerly|originally|initially)\b)"
    rf" {_ADVERBS}{_SEEN}\b{_ELSEWHERE}"
    rf"|{_BEFORE_RESOLVED}\b(?:resolved|disappeared|cleared)\b(?! from)"
    r"|(?:is|are|was|were) (?:\w+ly )?(?:absent|excluded|ruled out|gone|(?:very |highly "
    r"|felt )*unlikely"
    r"|not (?:\w+ )?likely|negative|none|no more)\b"
    r"|(?:has|have) (?:also )?been (?:\w+ly )?(?:removed|excluded|ruled out"
    r"|withdrawn|extracted)|\bremoved\b|: (?:none|no|absent|negative)\b|removal\b|unlikely\b"
    r"|(?:(?:is|are) )?(?:consistent with|compatible with|represent\w*|due to) (?:\w+ ){0,2}nipple"
    r"|(?:(?:is|are|appears?|remains?) (?:\w+ )?)?(?:within (?:the )?(?:normal limits"
    r"|limits of normal)"
    r"|normal\b))"
    r"|(?P<uncertain>(?:(?:is|are|was|were|remains?|be)\b )?(?:not|cannot be|can not be|can't be"
    r"|could not be|difficult to|hard to|impossible to)(?: \w+ly)* (?:excluded?|ruled? out)\b"
    r"|(?:is|are|was|were|remains?|be|as) (?:also |a |an |another |of |the |in |felt |to be |most "
    r"|more |less |\w+ly )*"
    r"(?:possib\w+|likely|suspected|questioned|questionable|considered|consideration|differential"
    r"|concern|probable|favou?red|equivocal|suggested|entertained)\b"
    r"|(?:may|might|could|can|should|would)(?: also)? (?:be|have|account|explain)\b"
    r"(?! (?:related|due|secondary|from|seen|better|chronic|old|acute|slightly|accentuat|exaggerat"
    r"|compatible|consistent"
    r"|artifact|projection))|(?:(?:is|are|was|were|remains?) )?(?:doubtful\b|(?:much |felt )?less"
    r" likely\b(?=\s*(?:[.,;)]|$)|\s+(?:and|given|in|but)\b))"
    r"|(?:(?:is|are|was|were) )?not (?:\w+ly )?well[- ]\w+|\?)"
    rf"|(?P<unsaid>(?:may|might|could|can) not be {_ADVERBS}{_SEEN}))"
)
_FADING = re.compile(
    r"\b(?:nearly|almost|partially|partly|incompletely|mostly|largely|not)\b.*resolved"
)
_SAID_AFTER = {"absent": ABSENT, "uncertain": UNCERTAIN, "unsaid": None}
_LONGEST_GAP = 45  # characters between a mention and what is said of it


def read_mentions(sentence: str) -> list[Mention]:
    """Every mention of a finding in a lower-case sentence, with what is asserted of it."""
    mentions: list[Mention] = []
    scope: int | None = PRESENT
    wide = False
    for event in _EVENTS.finditer(sentence):
        kind = event.lastgroup or ""
        if kind in LABELS:
            mentions.append(Mention(event.start(), event.end(), LABELS[kind], scope))
        elif kind in ("no", "resolved"):
            scope, wide = ABSENT, kind == "no"
        elif kind in ("doubt", "maybe", "open"):
            # "no opacity to suggest pneumonia" denies the pneumonia
            denied = scope == ABSENT and not _after_comma(sentence, event.start())
            if scope is not None and (kind == "open" or not denied):
                scope, wide = UNCERTAIN, (wide and scope == UNCERTAIN) or kind != "maybe"
        elif kind == "unsaid":
            scope, wide = None, True
        elif kind in _ENDS or (scope != PRESENT and _ends_scope(sentence, event, kind, wide)):
            scope, wide = PRESENT, False
    _look_behind(sentence, mentions)
    _versus(sentence, mentions)
    return [mention for mention in mentions if mention.labels]


def _after_comma(sentence: str, start: int) -> bool:
    return sentence[:start].rstrip().endswith(",")


def _ends_scope(sentence: str, event: re.Match[str], kind: str, wide: bool) -> bool:
    """Whether a comma, an "and" or a "with" begins a new statement."""
    if kind == "pass" or event.group() == "and/or":
        return False
    rest = sentence[event.end() :]
    if kind == "with" or not (wide or (kind == "comma" and _OR.search(rest))):
        return True
    if _NEW_SUBJECT.match(rest):
        return True
    if _NEW_SIZED.match(sentence, event.end()) and not _OR.search(rest):
        return True
    clause = re.split(r",|;|\band\b|\bbut\b", rest, maxsplit=1)[0]
    stated = _VERB.search(clause) or _UNCHANGED.search(clause)
    return bool(stated) and not _OR.search(clause)


def _look_behind(sentence: str, mentions: Sequence[Mention]) -> None:
    """Apply what is said after a mention to it and to those listed with it."""
    if not mentions:
        return
    for found in _AFTER.finditer(sentence):
        if _FADING.search(found.group()):
            continue
        before = [m for m in mentions if m.end <= found.start()]
        if not before or before[-1].value is None:
            continue
        gap = sentence[before[-1].end : found.start()]
        if len(gap) > _LONGEST_GAP or _BROKEN_LINK.search(gap) or re.search(r"[;:()]", gap):
            continue
        if "," in gap and found.lastgroup == "uncertain":
            continue
        value = _SAID_AFTER[found.lastgroup or ""]
        for mention in _listed_with(sentence, before):
            if value == ABSENT or mention.value == PRESENT:
                mention.value = value


def _listed_with(sentence: str, before: Sequence[Mention]) -> list[Mention]:
    """The last mention and those joined to it by "and", "or" and commas."""
    listed = [before[-1]]
    joined = False
    for mention in reversed(before[:-1]):
        gap = sentence[mention.end : listed[-1].start]
        link = gap == " " or re.search(r"\b(?:and|or)\b|/", gap)
        if (
            len(gap) > _LONGEST_GAP
            or _BROKEN_LINK.search(gap)
            or not (link or (joined and "," in gap))
        ):
            break
        joined = joined or bool(link)
        listed.append(mention)
    return listed


def _versus(sentence: str, mentions: Sequence[Mention]) -> None:
    """What stands before "versus" is as uncertain as what stands behind it."""
    for found in _VERSUS.finditer(sentence):
        before = [m for m in mentions if m.end <= found.start()]
        if not before or before[-1].value != PRESENT:
            continue
        gap = sentence[before[-1].end : found.start()]
        if len(gap) <= _LONGEST_GAP and not _BROKEN_LINK.search(gap):
            before[-1].value = UNCERTAIN
