"""Taking out of a sentence what refers to earlier studies, and keeping the finding if possible.

"Stable cardiomegaly." becomes "Cardiomegaly.", "Compared to ___, new left effusion." becomes
"Left effusion.", "The right effusion has increased since ___." becomes "The right effusion.".
Sentences that speak of change alone ("No significant interval change.", "Previously seen nodule
is no longer seen.") are dropped, and so is whatever would still compare after the edit. What
describes this picture stays: increased markings, prior surgery, old fractures, no acute change.
"""

import functools
import re
from itertools import pairwise

from arra_med.datasets.cleanup.sentences import says_nothing

_P = r"(?:_{2,}|X{4,})"
_TIME = (
    rf"(?:(?<![\w/:-])[\w/:-]*{_P}[\w/:-]*|\d{{1,4}}[/-]\d{{1,4}}(?:[/-]\d{{2,4}})?"
    r"|\d{1,2}:\d{2}(?: ?[ap]\.?m\b\.?)?|(?:19|20)\d\d|yesterday|the same day"
    rf"|earlier (?:in|on|that) (?:the )?(?:same )?day|earlier the same (?:day|{_P})|earlier"
    r"|(?:one|two|three|four|several|\d+) (?:hours?|days?|weeks?|months?|years?)"
    r" (?:ago|earlier|prior)"
    # "may" is a verb unless it is written as a month
    r"|(?:january|february|march|april|(?-i:May)|may(?= \d)|june|july|august|september|october"
    r"|november|december)"
    r"(?: \d{1,2}\b)?(?:,? (?:19|20)\d\d)?)"
)
_EARLIER_WORD = (
    r"(?:prior|priors|previous|earlier|preceding|last|latest|(?:most )?recent|comparison|outside"
    r"|old|older|remote)"
)
_BARE = (
    r"(?:priors?|previous|earlier|comparison)\b(?= ?(?:[.,;:)]|$)| (?:with|and|the|there|in|at)\b)"
)
_KIND = (
    rf"(?:{_EARLIER_WORD}|available|multiple|several|numerous|many|some|same[- ]day"
    rf"|immediate(?:ly)?|serial|initial|baseline|chest|thoracic|spine|abdom\w+|portable|single|two|PA|AP|frontal"
    rf"|lateral|supine|upright|plain|CT|MR|PET|and|{_P})"
)
_STUDY = (
    r"(?:stud(?:y|ies)|exam(?:ination)?s?|(?:radio|roentgeno|tomo)graphs?|(?:computed )?tomograms?"
    r"|films?|x-?rays?|X-X{4,}|images?|imaging|scans?|CTs?|CXRs?|MRIs?|PET/CT|views?|ones?|series|time)"
    r"(?: (?:of the )?(?:chest|thorax|abdomen|pelvis|neck|(?:thoracic )?spine)"
    r"(?: (?:scans?|exam(?:ination)?s?|stud(?:y|ies)|radiographs?|x-?rays?))?)?"
)
_DET = r"(?:(?:the|a|an|any|this|that|his|her|patient's) )?"
# Atomic groups and small bounds: kinds, studies and joints share words, and a long row of them
# must not be parsed in every possible way.
_UNIT = rf"(?>{_DET}(?:(?:{_KIND},? ){{0,7}}{_STUDY}\b|(?:{_KIND} ){{0,4}}(?:{_TIME}|{_BARE})))"
_JOINT = (
    r"(?:,? \(?(?:(?:dated|from|of|on|(?:performed|obtained|taken|done)(?: on| in)?|at|and|or|in"
    r"|through|with) )?(?:of |on |from )?)"
)
EARLIER = rf"(?>{_UNIT}(?:{_JOINT}{_UNIT}){{0,6}}\)?)"
"""An earlier study: "the prior radiograph from ___ at 3:15", "___", "yesterday"."""
_EXPLICIT = (
    rf"(?>{_DET}(?:{_KIND} ){{0,3}}?{_EARLIER_WORD} (?:{_KIND} ){{0,5}}{_STUDY}\b"
    rf"(?:{_JOINT}{_UNIT}){{0,6}})"
)
_COMPARED = (
    rf"(?:{_P} )?(?:(?:as|when|if|in|by|is) ){{0,2}}(?:compared|comparison|comparing|relative)"
    rf"(?: is| was)?(?: made)? (?:to|with|from|against) {EARLIER}"
)
_REFERENCE = rf"(?:{_COMPARED}|since {EARLIER}|(?:versus|vs\.?) {_EXPLICIT})"
_TO = rf"(?:{_REFERENCE}|(?:from|to|with|than|as)(?: (?:in|on|at|seen on))? {EARLIER}|as before)"
_HOW = (
    r"(?:(?:overall|essentially|grossly|relatively|largely|generally|slightly|mildly|minimally|also"
    r"|moderately|markedly|significantly|somewhat|fairly|otherwise|substantially|roughly|nearly"
    r"|approximately|again|now|perhaps|possibly|clinically|radiographically|probably|very|still) )*"
)
_DEGREE = r"(?:(?:slight|subtle|marked|significant|mild|minimal|further|small|moderate) )?"
_SAME = (
    r"(?:stable|unchanged|unaltered|similar|persistent|redemonstrated|re-demonstrated|constant"
    r"|the same|new)"
)
_CHANGED = r"(?:increased|decreased|worsened|progressed|enlarged|worse|larger|smaller|improved)"
_GROWING = r"(?:worsening|worsened|increasing|decreasing|enlarging|improving)"
_WHERE = (
    r"(?: in (?:the )?(?:overall )?(?:appearance|size|position|positioning|configuration|contours?"
    r"|extent|location|number|severity|alignment|caliber|shape|degree|distribution|morphology)"
    r"(?:(?:,| and| or|, and) (?:appearance|size|position|configuration|contours?|extent|shape"
    r"|location|number|severity|alignment|morphology))*)"
)
_BE = (
    r"(?:is|are|was|were|(?:has|have) been|(?:has|have) remained|remains?|remaining|appears?|looks?"
    r"|seems?)"
)
_END = r"(?=\s*(?:[.,;:)!?]|$)|\s+(?:with|without|as|and|but)\b)"
# The end of a clause, or a phrase that hangs on to the finding.
_STOP = r"(?=\s*(?:[.,;:)!?]|$)|\s+(?:with|without|as|given)\b)"
_SEEN = (
    r"(?:seen|noted|described|demonstrated|identified|visualized|visualised|shown|reported|observed"
    r"|appreciated|mentioned|documented|imaged|questioned|evident|visible|present|known|measured)"
)
_ASPECT = (
    r"(?:appearance|appearances|position|positioning|size|configuration|alignment|course|extent)"
)
_STRUCTURE = (
    r"(?:(?:overall|cardiac|cardio-?mediastinal|mediastinal|hilar|heart|pulmonary|lung|aortic"
    r"|and) )*"
    r"(?:silhouettes?|contours?|size|vasculature|vascularity|mediastinum|volumes|hila|chest|heart"
    r"|exam(?:ination)?|appearance|lungs)"
)

# Drop the sentence: what is said is a change itself, or is not there (any more).
_CHANGE_ITSELF = re.compile(
    r"\b(?:no longer|resol(?:ved|ving|ution)|clear(?:ed|ing)|disappear\w*|regress\w+|extubated"
    r"|(?:been|interval|now|since) removed|interval (?:\w+ )?removal|changed|(?:re)?accumulat\w+"
    r"|(?:has|have) (?:[a-z]+ly |also |been |since )*(?:removed|improved|withdrawn|retracted"
    r"|advanced|repositioned|replaced|exchanged|migrated|diminished|lessened|shifted)"
    rf"|(?:no|not|without|any|little|minimal|nor|or|slight) (?:(?:[a-z]+ly|interval|significant"
    r"|appreciable|relevant|substantial|definite|definitive|overall|major|other|real|further|short"
    r"|evidence of|interim|acute) )*(?:change|progression)"
    r"(?! of\b)|(?:was|were) removed|removal of"
    r"|(?:significant|interval|slight|marked|mild|overall|some)(?: interval)?"
    r" (?:improvement|change)"
    r"|improvement (?:in|of)|improved since|improv(?:ed|ing) (?:lung|aeration|inspir\w+)"
    rf"|(?:is|are|appears?) {_HOW}(?:improved|less (?:apparent|conspicuous))|disease progression"
    r"|not (?:\w+ )?(?:present|seen|visible|visualized|evident) on)\b(?! to document)",
    re.IGNORECASE,
)
# "No new effusion" does not say that there is none.
_NOTHING_NEW = re.compile(
    r"\b(?:no|not|without|nor|any|never|den(?:y|ies|ied))\b"
    r"(?:(?: (?!but\b)[\w/-]+){0,8}?|[^.;:]*?,? (?:or|nor)) "
    r"(?:new(?:ly)?|worsen(?:ing|ed)|increasing|enlarging|growing|progressive)\b",
    re.IGNORECASE,
)
_NEXT_STEPS = re.compile(
    r"\b(?:recommend\w*|follow[- ]?up|suggest(?:ed)? (?:repeat|follow)|ensure|document"
    r"|if (?:clinically|available))\b",
    re.IGNORECASE,
)
# … and comparatives, whose other side may be what was taken out.
_GREATER = re.compile(
    rf"\b(?:is|are|appears?|seems?) {_HOW}(?:smaller|larger|bigger|worse|better|lower|higher"
    r"|greater|denser|more|less)\b|\b(?:(?:in|de)crease|reduction) (?:in|of)\b"
    r"|\b(?:has|have) (?:[a-z]+ly )*(?:(?:in|de)creased|worsened|enlarged|progressed)\b",
    re.IGNORECASE,
)
# What an earlier picture showed is no finding of this one.
_ABOUT_EARLIER = re.compile(
    rf"^(?:on|in) {_EXPLICIT}|^previously,? (?:there|the|a|an)\b|\b(?:was|were) (?:\w+ )*"
    rf"(?:on|in) {_EXPLICIT}|\b(?:on|in) {_EXPLICIT}.*\b(?:was|were|had)\b"
    r"|\b(?:was|were|had been) previously\b",
    re.IGNORECASE,
)
# Quick look: a sentence without any of these stays as it is.
_MENTIONS = re.compile(
    r"stable|unchang|unalter|similar|persist|continu|constant|demonstrat|again|interval|interim|new"
    r"|prior|previous|earlier|preceding|recent|compar|since|before|as on|chang|progress|increas|old"
    r"|decreas|wors|enlarg|improv|larger|smaller|remain|now|exist|resol|clear|longer|disappear|regress|remov"
    r"|accumul|withdr|retract|advanc|reposition|replac|exchang|migrat|dimin|lessen|shift|extubat"
    r"|the same|not [a-z]+ on",
    re.IGNORECASE,
)
# What still speaks of an earlier study once everything below was taken out.
_STILL_COMPARES = re.compile(
    rf"\b(?:unchanged|interval(?! follow)|interim|redemonstrat\w+|re-demonstrat\w+|again|previously"
    rf"|persistent|persists?|persisting|stable(?! vital)|{_EXPLICIT}|{_COMPARED}|since {EARLIER}"
    r"|as before|improved|new(?:ly)?|for comparison|comparisons?)\b",
    re.IGNORECASE,
)


_CONDITION = re.compile(r"if\b", re.IGNORECASE)
_OLD_FILMS = re.compile(rf"\b(?:{_EXPLICIT}|comparisons?)\b", re.IGNORECASE)


def _rule(pattern: str, replacement: str = " ") -> tuple[str, str]:
    return pattern, replacement


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """On first use: every command imports this module, and all rules together take a second."""
    return re.compile(pattern, re.IGNORECASE)


_RULES = (
    # "<reference>, there has been interval development of a …" and other beginnings
    _rule(
        rf"^(?:{_P}:? )?(?:(?:AP|PA|and|lateral|frontal|portable|upright|single|views?|of|the"
        rf"|chest),? )*{_REFERENCE}(?:[,:;]| -+)? ?"
    ),
    _rule(
        r"\bthere(?:'s| is| are| has| have)(?: been)?(?: an?)?(?: \w+ly)? interval "
        r"(?:development|placement|insertion|appearance)(?: of)? "
    ),
    _rule(
        rf"\b(?:there (?:is|are|has been|have been) )?(?:an? )?{_HOW}(?:interval )?"
        r"(?:re-?demonstration(?: and \w+ appearance)?|persistence) of (?:an? |the )?"
    ),
    _rule(
        rf"^(?:there (?:is|are|has been|have been) )?(?:an? )?{_HOW}{_DEGREE}interval (?:\w+ )?"
        r"(?:development|placement|insertion|appearance|increase|worsening|progression|enlargement"
        r"|decrease)(?: in(?: the)? (?:size|extent|number)(?: and number)?)? (?:of|in)"
        r" (?:an? |the )?"
    ),
    _rule(r"^(?:slight |mild |further )?(?:in|de)crease(?: in size)? (?:of|in) (?:an? |the )?"),
    _rule(
        rf"^(?:(?:once )?again,? |as before,? )(?:{_SEEN}|redemonstrated) (?:is|are)(?: an?| the)? "
    ),
    _rule(r"^re-?demonstrated (?:is|are)(?: an?| the)? "),
    _rule(r"^(?:we )?again (?:note|see|demonstrate)(?: an?| the)? "),
    # relative clauses: ", which is unchanged since ___"
    _rule(
        rf"[,(]* ?\b(?:which|that|this|and this|but this) {_BE}(?: to be)? {_HOW}"
        rf"(?:{_SAME}|{_CHANGED} (?={_TO})){_WHERE}?(?: {_TO})?{_END}"
    ),
    # "stable cardiomediastinal contours": without its state, nothing is said of it
    _rule(
        rf"(?:^(?:the )?|,? and |, ?){_HOW}(?:stable|unchanged|similar),? "
        rf"(?:{_ASPECT} of (?:the )?)?{_STRUCTURE}(?:,? (?:and )?{_STRUCTURE})*{_END}"
    ),
    _rule(
        rf",? ?\b(?:which|that) (?:have been|has been|was|were) (?:there|{_SEEN}) (?:on|in|since)"
        rf" (?:{_EXPLICIT}|{EARLIER})"
    ),
    # predicates: "… is unchanged from ___", "… has increased"
    _rule(
        rf" (?:also )?{_BE}(?: to be)? {_HOW}(?:{_SAME}|{_GROWING}){_WHERE}?(?: {_TO})?"
        rf"{_STOP}"
    ),
    _rule(rf" {_BE}(?: to be)? {_HOW}{_SAME}{_WHERE}?(?: {_TO})?,? and (?=(?:may|might|could)\b)"),
    _rule(rf" {_BE} {_HOW}{_CHANGED}{_WHERE}?,? {_TO}{_END}"),
    _rule(
        rf" (?:has|have) {_HOW}(?:since )?(?:increased|decreased|worsened|progressed|enlarged)"
        rf"{_WHERE}?(?:,? {_TO})?{_END}"
    ),
    _rule(
        rf"\b({_BE}) {_HOW}{_SAME}{_WHERE}?(?: {_TO})?,? (?:and|but) (?=(?:within|normal|not|top"
        r"|upper|borderline|enlarged|tortuous|unremarkable|at|in|calcified|prominent|without"
        r"|[a-z]+ly)\b)",
        r"\1 ",
    ),
    # a state after the finding: "…, unchanged", "… and stable compared to the prior study"
    _rule(
        rf"\b(?:is |are )?(?:in |is |are )(?:an? )?{_HOW}(?:stable|unchanged|similar),? "
        rf"(?:{_ASPECT}|location)"
        rf"(?: {_TO})?{_END}"
    ),
    _rule(
        rf"(?:,? (?:and|but)|[,(])?,? ?(?<!\w){_HOW}"
        rf"(?:{_SAME}|{_GROWING}|{_CHANGED}){_WHERE}?,? ?\(?{_TO}{_END}"
    ),
    _rule(rf", {_HOW}(?:stable|unchanged|similar){_WHERE}?,(?= (?:is|are|was|were)\b)"),
    _rule(r"(?<!^)\b(?:stable|unchanged) and (?=(?:unremarkable|normal|within)\b)", ""),
    _rule(rf"(?:,? (?:and|but)|[,(])?,? ?\b{_HOW}(?:stable|unchanged|similar){_WHERE}?{_STOP}"),
    # earlier studies themselves
    _rule(rf",? ?\(?{_REFERENCE}\)?,?"),
    _rule(
        r",? ?(?:as |also |better |best |first |originally |more |readily )*"
        rf"(?:{_SEEN} )?(?:on|in|by|from|to|than"
        rf"(?: on)?) {_EXPLICIT}"
    ),
    _rule(rf",? ?\bas (?:seen )?(?:before|previously)(?: {_SEEN})?|\bpreviously[- ]?{_SEEN}\b"),
    # words before the finding
    _rule(
        rf"\b{_HOW}(?:stable|unchanged|similar|persistent|continued) "
        rf"(?:{_ASPECT})(?: and {_ASPECT})? (?:(?:of|to) )?(?:an? |the )?(?=[a-z])"
    ),
    _rule(r"\b(is|are) (?:again )?re-?demonstrated\b", r"\1 seen"),
    _rule(r"\bre-?demonstrated\b|\b(?:once )?again\b,?"),
    _rule(r"\bremains?\b(?! (?:in|at|within|on|of)\b)(?=( [a-z]))", "\x00"),
    _rule(r"\bnewly[- ](?:placed|inserted|developed|seen|noted|apparent|evident)\b"),
    _rule(
        rf"\b{_HOW}(?:stable|unchanged|persistent(?:ly)?|persisting|improved|new(?:ly)?"
        rf"|pre-?existing|continued(?! (?:clin|conc|foll|att))|{_GROWING})"
        r"(?:[- ]appearing)?(?: interval)?,? (?=\w)"
    ),
    _rule(r"^(?:and|but) "),
    _rule(r"\bsimilar (?=(?:left|right|bilateral|bibasilar|mild|moderate|small|large)\b)"),
    _rule(r"\bpersists?\b"),
    _rule(r"\bnow (?=(?:an? )?(?:minimal|mild|moderate|severe|small|large)\b)"),
    _rule(rf"\b{_HOW}interval (?:increased|decreased|worsened)\b|\bin the interval\b"),
)

_FINITE = re.compile(
    r"\b(?:is|are|was|were|has|have|remains?|appears?|there|demonstrates?|shows?|persists?)\b",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"; |,? (?:and|but|while|although|however,?) (?=(?:there|the|no|an?|right|left|heart|lungs?)\b)"
    r"|, (?:and|but|while|although|however,?) ",
    re.IGNORECASE,
)


def without_comparisons(sentence: str) -> str:
    """``sentence`` without its references to earlier studies, or ``""``.

    Seams are left to the caller to tidy, and to refuse where a side or a negation went with them.
    """
    clauses = _clauses(sentence)
    edited = [_edited(clause) for clause in clauses]
    if edited == clauses:
        return sentence
    if len(clauses) == 1:
        return edited[0]
    kept = [clause.strip(" ,;.") for clause in edited if clause.strip(" ,;.")]
    return ". ".join(clause[0].upper() + clause[1:] for clause in kept)


def _clauses(sentence: str) -> list[str]:
    """Main clauses of a sentence, if each has a verb of its own; else the sentence."""
    cuts = [0, *(found.end() for found in _CLAUSE.finditer(sentence)), len(sentence)]
    clauses = [sentence[begin:end] for begin, end in pairwise(cuts)]
    if len(clauses) > 1 and all(_FINITE.search(clause) for clause in clauses):
        ends = [found.group() for found in _CLAUSE.finditer(sentence)]
        return [clause.removesuffix(end) for clause, end in zip(clauses, [*ends, ""], strict=True)]
    return [sentence]


def _edited(clause: str) -> str:
    if not _MENTIONS.search(clause) or (_CONDITION.match(clause) and not _OLD_FILMS.search(clause)):
        return clause
    advice = _NEXT_STEPS.search(clause)
    if _ABOUT_EARLIER.search(clause) or _NOTHING_NEW.search(clause):
        return ""
    if _OLD_FILMS.search(clause) if advice else _CHANGE_ITSELF.search(clause):
        return ""
    text = clause
    for pattern, replacement in _RULES:
        text = " ".join(
            _compiled(pattern).sub(_remains if replacement == "\x00" else replacement, text).split()
        )
    if text == clause:
        return clause if not _STILL_COMPARES.search(clause) else ""
    if _STILL_COMPARES.search(text) or _GREATER.search(text):
        return ""
    return "" if says_nothing(text) else text


def _remains(found: re.Match[str]) -> str:
    return "is" if found.group().lower() == "remains" else "are"
