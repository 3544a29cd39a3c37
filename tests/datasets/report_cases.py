"""Hand-written reports and what must come of them: one row, one rule or trap.

The sections were worked out by hand from the published procedure of MIMIC-CXR's authors
(``txt/section_parser.py``), the cleaned texts from what a reader would expect.
"""

from typing import NamedTuple

from arra_med.datasets.cleanup import CleanUp

FULL = "\n".join(
    (
        "                                 FINAL REPORT",
        " EXAMINATION:  CHEST (PA AND LAT)",
        " ",
        " INDICATION:  ___-year-old man with cough",
        " ",
        " FINDINGS: ",
        " ",
        " The lungs are clear.",
        " No effusion.",
        " ",
        " IMPRESSION: ",
        " ",
        " 1.  No acute process.",
        " 2.  Unchanged from ___.",
    )
)
ADDENDUM = "\n".join(
    (
        "                                 FINAL REPORT",
        " ADDENDUM  The line was moved after this film.",
        " WET READ: ___ ___ ___ 4:12 PM",
        "  Left effusion.  No pneumothorax.",
        " ______________________________________________________________________________",
        "                                 FINAL REPORT",
        " HISTORY:  Cough.",
        " ",
        " IMPRESSION:  Left effusion.",
    )
)

HEADER_NAMES = (
    ("IMPRESSION", "impression"),
    ("CONCLUSION", "impression"),
    ("FINDINGS AND IMPRESSION", "impression"),
    ("FINDINGS/IMPRESSION", "impression"),
    ("FINDINGS/ IMPRESSION", "impression"),
    ("IMPRESSOIN", "impression"),
    ("MPRESSION", "impression"),
    ("NDICATION", "impression"),  # as in the official table
    ("FINDING", "findings"),
    ("FINDGINGS", "findings"),
    ("REFERENCE FINDINGS", "findings"),
    ("REASON FOR EXAM", "indication"),
    ("REASON FOR EXAMINATION", "indication"),
    ("CLINICAL INDICATION", "indication"),
    ("IDICATION", "indication"),
    ("PFI", "history"),
    ("CLINICAL INFORMATION", "history"),
    ("WETREAD", "wet read"),
    ("WET READ", "wet read"),
    ("RECOMMENDATION(S)", "recommendations"),
    ("REFERENCE EXAM", "comparison"),
    ("COMPARRISON", "comparison"),
    ("EXAM", "examination"),
    ("TYPE OF EXAMINATION", "examination"),
    ("CHEST, TWO VIEWS", "findings"),
    ("FINAL IMPRESSION", "impression"),  # contains a main name
    ("IMPRESSION AND FINDINGS", "impression"),  # the first main name wins
    ("FINDINGS AND HISTORY", "findings"),
    ("PRIOR COMPARISON STUDY", "comparison"),
    ("CHEST HISTORY", "history"),  # a main name goes before words that describe the film
    ("AP PORTABLE CHEST", "findings"),  # describes the film
    ("PA AND LATERAL VIEWS", "findings"),
    ("LEFT RIBS", "findings"),
    ("BONE WINDOW", "findings"),
    ("  IMPRESSION ", "impression"),  # spaces around it
    ("TECHNIQUE", "technique"),
    ("CONCUSION", "concusion"),  # a misspelling the table does not know stays as it is
    ("SOMETHING ELSE", "something else"),
)

SECTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "usual report": (
        FULL,
        {
            "preamble": "FINAL REPORT",
            "examination": "CHEST (PA AND LAT)",
            "indication": "___-year-old man with cough",
            "findings": "The lungs are clear.\n No effusion.",
            "impression": "1.  No acute process.\n 2.  Unchanged from ___.",
        },
    ),
    "addendum and wet read above": (
        ADDENDUM,
        {
            "preamble": "FINAL REPORT\n ADDENDUM  The line was moved after this film.",
            "wet read": "___ ___ ___ 4:12 PM\n  Left effusion.  No pneumothorax.\n "
            "______________________________________________________________________________\n"
            "                                 FINAL REPORT",
            "history": "Cough.",
            "impression": "Left effusion.",
        },
    ),
    "header at the start of the file": (" IMPRESSION: clear", {"full report": "IMPRESSION: clear"}),
    "no space before": ("\nIMPRESSION: clear", {"full report": "IMPRESSION: clear"}),
    "one space before": ("\n IMPRESSION: clear", {"preamble": "", "impression": "clear"}),
    "several spaces before": ("\n   IMPRESSION: clear", {"preamble": "", "impression": "clear"}),
    "tab before": ("\n\tIMPRESSION: clear", {"full report": "IMPRESSION: clear"}),
    "no-break space before": ("\n\xa0IMPRESSION: a", {"full report": "IMPRESSION: a"}),
    "lower case": ("\n Impression: clear", {"full report": "Impression: clear"}),
    "all lower case": ("\n impression: clear", {"full report": "impression: clear"}),
    "no whitespace after": ("\n IMPRESSION:clear", {"full report": "IMPRESSION:clear"}),
    "nothing after": ("\n IMPRESSION:", {"full report": "IMPRESSION:"}),
    "two spaces after": ("\n IMPRESSION:  clear", {"preamble": "", "impression": "clear"}),
    "tab after": ("\n IMPRESSION:\tclear", {"preamble": "", "impression": "clear"}),
    "newline after": ("\n IMPRESSION:\n clear", {"preamble": "", "impression": "clear"}),
    "space before the colon": ("\n IMPRESSION : clear", {"preamble": "", "impression": "clear"}),
    "no colon": ("\n IMPRESSION clear", {"full report": "IMPRESSION clear"}),
    "digit in it": ("\n IMPRESSION 2: clear", {"full report": "IMPRESSION 2: clear"}),
    "full stop in it": ("\n DR. READ: clear", {"full report": "DR. READ: clear"}),
    "placeholder in it": ("\n ___ IMPRESSION: a", {"full report": "___ IMPRESSION: a"}),
    "empty name": ("\n  : clear", {"preamble": "", "": "clear"}),
    "brackets, slash, comma, hyphen": (
        "\n CHEST (PA/LAT), SEMI-UPRIGHT: clear",
        {"preamble": "", "findings": "clear"},
    ),
    "mid-line": (
        "\n HISTORY: a\n no IMPRESSION: b",
        {"preamble": "", "history": "a\n no IMPRESSION: b"},
    ),
    "second colon in a header's own line": (
        "\n IMPRESSION: CHEST: clear",
        {"preamble": "", "impression": "CHEST: clear"},
    ),
    "carriage returns": (
        "\r\n FINDINGS: a\r\n \r\n IMPRESSION: b\r\n",
        {"preamble": "", "findings": "a", "impression": "b"},
    ),
    "old line ends": (
        "\r FINDINGS: a\r IMPRESSION: b",
        {"preamble": "", "findings": "a", "impression": "b"},
    ),
    "neighbouring lines": (
        "\n FINDINGS: a\n IMPRESSION: b",
        {"preamble": "", "findings": "a", "impression": "b"},
    ),
    # The newline after a colon belongs to the header, so the next line is its own line.
    "header directly under a header": (
        "\n FINDINGS:\n IMPRESSION: b\n c",
        {"preamble": "", "findings": "IMPRESSION: b\n c"},
    ),
    "header under a header and its space": (
        "\n FINDINGS: \n IMPRESSION: b\n c",
        {"preamble": "", "impression": "b\n c"},
    ),
    "title above the report": (
        "\n CHEST, PA LATERAL: \n \n INDICATION: cough\n \n IMPRESSION: clear",
        {"preamble": "", "indication": "cough", "impression": "clear"},
    ),
    "empty repeated findings": (
        "\n FINDINGS: a\n FINDINGS: \n",
        {"preamble": "", "findings": "a"},
    ),
    "repeated impression": (
        "\n IMPRESSION: a\n IMPRESSION: b\n",
        {"preamble": "", "impression": "b"},
    ),
    "repeated under two names": (
        "\n IMPRESSION: a\n CONCLUSION: b\n",
        {"preamble": "", "impression": "b"},
    ),
    "repeated and empty elsewhere": (
        "\n HISTORY: a\n HISTORY: \n",
        {"preamble": "", "history": ""},
    ),
    "last paragraph": (
        "\n HISTORY: cough\n \n Lungs are clear.\n \n No effusion.",
        {
            "preamble": "",
            "history": "cough",
            "last_paragraph": "Lungs are clear.\n \n No effusion.",
        },
    ),
    "last paragraph only of the last section": (
        "\n HISTORY: a\n \n b\n DATE: c",
        {"preamble": "", "history": "a\n \n b", "date": "c"},
    ),
    "empty line without its space is no break": (
        "\n HISTORY: a\n\n b",
        {"preamble": "", "history": "a\n\n b"},
    ),
    "two spaces are no break": ("\n HISTORY: a\n  \n b", {"preamble": "", "history": "a\n  \n b"}),
    "no last paragraph beside findings": (
        "\n FINDINGS: a\n HISTORY: b\n \n c",
        {"preamble": "", "findings": "a", "history": "b\n \n c"},
    ),
    "last paragraph without headers": (
        "FINAL REPORT\n \n Clear.",
        {"full report": "FINAL REPORT", "last_paragraph": "Clear."},
    ),
    "last paragraph beside an empty impression": (
        "\n HISTORY: a\n \n b\n IMPRESSION: \n",
        {"preamble": "", "history": "a", "last_paragraph": "b"},
    ),
    "last paragraph of the preamble": (
        "FINAL REPORT\n \n Clear.\n \n IMPRESSION: \n",
        {"preamble": "FINAL REPORT", "last_paragraph": "Clear."},
    ),
    "break right before an empty header": (
        "FINAL REPORT\n \n IMPRESSION: \n",
        {"preamble": "FINAL REPORT", "last_paragraph": ""},
    ),
    "no headers": ("Clear lungs.", {"full report": "Clear lungs."}),
    "nothing": ("", {"full report": ""}),
    "only blank": (" \n \n ", {"full report": "", "last_paragraph": ""}),
}

LISTS = CleanUp(join_lists=True)
NOTES = CleanUp(remove_notifications=True)
EARLIER = CleanUp(remove_comparisons=True)
MARKS = CleanUp(remove_placeholders=True)
ALL = CleanUp(
    join_lists=True, remove_notifications=True, remove_comparisons=True, remove_placeholders=True
)


class Case(NamedTuple):
    options: CleanUp
    text: str
    cleaned: str


CLEANED = (
    # lists
    Case(LISTS, "1. No acute process.\n 2. Stable heart.", "No acute process. Stable heart."),
    Case(LISTS, "1. Clear lungs 2) no effusion", "Clear lungs. No effusion."),
    Case(LISTS, "1) Clear;\n 2) large heart", "Clear. Large heart."),
    Case(LISTS, "1.No effusion. 2.___ opacity.", "No effusion. ___ opacity."),
    Case(LISTS, "1. Nodule. 2. 1.7 cm mass.", "Nodule. 1.7 cm mass."),
    Case(LISTS, "1. No acute disease.", "No acute disease."),
    Case(LISTS, "As follows: 1. A line. 2. A tube.", "As follows: A line. A tube."),
    Case(LISTS, "A 1.5 cm nodule in T12. No effusion.", "A 1.5 cm nodule in T12. No effusion."),
    Case(LISTS, "1. Fracture of left rib 2. 2. Clear.", "Fracture of left rib 2. Clear."),
    Case(LISTS, "Fracture of ribs 3 and 4. Clear.", "Fracture of ribs 3 and 4. Clear."),
    Case(LISTS, "Compared with 1/2/2012. 2 views.", "Compared with 1/2/2012. 2 views."),
    Case(LISTS, "2 views of the chest at 3:15.", "2 views of the chest at 3:15."),
    Case(LISTS, "Wedging of T12 and L1. Clear.", "Wedging of T12 and L1. Clear."),
    Case(LISTS, "4. Tube too high.", "4. Tube too high."),  # does not begin with one
    Case(LISTS, "Either (1) edema or (2) pneumonia.", "Either (1) edema or (2) pneumonia."),
    # notifications
    Case(NOTES, "Left effusion. Discussed with Dr. ___ by phone at 3:15.", "Left effusion."),
    Case(NOTES, "Findings were communicated to Dr. ___ at 3:15 p.m. on ___.", ""),
    Case(NOTES, "Dr. ___ was paged at 3 p.m. The lungs are clear.", "The lungs are clear."),
    Case(NOTES, "These findings were telephoned to ___ at 12:05.", ""),
    Case(NOTES, "Findings were relayed to ED QA nurses via email at 11:03 am.", ""),
    Case(NOTES, "Findings were entered into the critical results dashboard by Dr. ___.", ""),
    Case(NOTES, "NOTIFICATION: discussed with ___, M.D. on the telephone.", ""),
    Case(NOTES, "Result notification XXXX Primordial.", ""),
    Case(NOTES, "A wet read was entered by Dr. ___. Clear.", "Clear."),
    Case(
        NOTES,
        "Large right pneumothorax, discussed with Dr. ___ at 3:15 pm.",
        "Large right pneumothorax.",
    ),
    Case(NOTES, "No pneumothorax, which was communicated to Dr. ___.", "No pneumothorax."),
    Case(
        NOTES,
        "1. Effusion. 2. Dr. ___ was notified by phone. 3. Tube.",
        "1. Effusion. 2. Tube.",
    ),
    Case(NOTES, "Nodule as discussed above.", "Nodule as discussed above."),
    Case(
        NOTES,
        "The cavity communicates with the left bronchus.",
        "The cavity communicates with the left bronchus.",
    ),
    Case(NOTES, "A so-called tree-in-bud pattern.", "A so-called tree-in-bud pattern."),
    # comparisons
    Case(EARLIER, "Stable cardiomegaly.", "Cardiomegaly."),
    Case(EARLIER, "Mild stable cardiomegaly.", "Mild cardiomegaly."),
    Case(EARLIER, "No significant interval change.", ""),
    Case(EARLIER, "No new consolidation.", ""),  # an old one may be there
    Case(EARLIER, "There are no new or worsening focal opacities.", ""),
    Case(EARLIER, "No focal consolidation, effusion, or new nodule.", ""),
    Case(EARLIER, "No pneumothorax but new left effusion.", "No pneumothorax but left effusion."),
    Case(EARLIER, "The nodule is no longer seen.", ""),
    Case(EARLIER, "Right effusion is not significantly changed.", ""),
    Case(EARLIER, "No change in right effusion.", ""),
    Case(EARLIER, "Cardiomegaly is unchanged from ___.", "Cardiomegaly."),
    Case(EARLIER, "Left effusion is stable since May 2012.", "Left effusion."),
    Case(
        EARLIER,
        "New left basilar opacity since ___ may represent pneumonia.",
        "Left basilar opacity may represent pneumonia.",
    ),
    Case(
        EARLIER,
        "Right opacity is unchanged since the prior study and may represent pneumonia.",
        "Right opacity may represent pneumonia.",
    ),
    Case(EARLIER, "The cardiomediastinal silhouette is stable.", ""),
    Case(EARLIER, "Heart size is normal and stable.", "Heart size is normal."),
    Case(EARLIER, "The heart remains enlarged.", "The heart is enlarged."),
    Case(EARLIER, "Left effusion has increased since ___ at 3:15 a.m.", "Left effusion."),
    Case(EARLIER, "The previously seen left effusion has resolved.", ""),
    Case(EARLIER, "Interval removal of left chest tube.", ""),
    Case(EARLIER, "Interval placement of a right PICC, tip in SVC.", "Right PICC, tip in SVC."),
    Case(
        EARLIER,
        "Compared to the prior study there is a left effusion.",
        "There is a left effusion.",
    ),
    Case(EARLIER, "AP chest compared to ___: Clear lungs.", "Clear lungs."),
    Case(EARLIER, "Compared to ___, the left effusion is smaller.", ""),
    Case(EARLIER, "On a prior CT, the right upper lobe was consolidated.", ""),
    Case(EARLIER, "Again seen is a left effusion.", "Left effusion."),
    Case(EARLIER, "Left PICC in unchanged position.", "Left PICC."),
    Case(EARLIER, "Scarring in the left base, unchanged.", "Scarring in the left base."),
    Case(EARLIER, "Left nodule (unchanged).", "Left nodule."),
    Case(EARLIER, "Mass, which is stable since ___, on the left.", "Mass, on the left."),
    Case(
        EARLIER,
        "The heart is large and the right effusion is unchanged.",
        "The heart is large. The right effusion.",
    ),
    Case(EARLIER, "Heart large, stable mediastinal contours.", "Heart large."),
    Case(EARLIER, "Recommend comparison with prior films.", ""),
    Case(EARLIER, "Increased interstitial markings.", "Increased interstitial markings."),
    Case(EARLIER, "Prior granulomatous disease.", "Prior granulomatous disease."),
    Case(EARLIER, "No acute osseous change.", "No acute osseous change."),
    Case(EARLIER, "Right effusion larger than left.", "Right effusion larger than left."),
    Case(
        EARLIER,
        "Worse on the right compared to the left.",
        "Worse on the right compared to the left.",
    ),
    Case(EARLIER, "1. Clear. 2. Stable exam. 3. Tube.", "1. Clear. 2. Tube."),
    # placeholders
    Case(MARKS, "XXXX opacity in the left base.", "Opacity in the left base."),
    Case(MARKS, "There is a XXXX opacity.", "There is an opacity."),
    Case(MARKS, "Seen with Dr. ___ at ___.", ""),
    Case(MARKS, "PICC line placed by Dr. ___ on ___.", "PICC line placed."),
    Case(MARKS, "___-year-old man with pneumonia.", "Man with pneumonia."),
    Case(MARKS, "Normal chest x-XXXX.", "Normal chest."),
    Case(MARKS, "Sternotomy XXXX, CABG clips.", "Sternotomy, CABG clips."),
    Case(MARKS, "Effusion, XXXX, and edema.", "Effusion, and edema."),
    Case(MARKS, "Nodule (XXXX) on the right.", "Nodule on the right."),
    Case(MARKS, "Atelectasis due to XXXX.", "Atelectasis."),
    Case(MARKS, "No XXXX of a pleural effusion.", ""),
    Case(MARKS, "Pulmonary XXXX are normal.", ""),
    Case(MARKS, "The lungs are XXXX.", ""),
    Case(MARKS, "Blunting of the left costophrenic XXXX.", ""),
    Case(MARKS, "Edema, less XXXX infection.", ""),
    Case(MARKS, "XXXX, XXXX. Clear. ___.", "Clear."),
    Case(MARKS, "The left-XXXX line.", ""),  # a side inside a word that goes
    # together
    Case(
        ALL,
        "1. Stable left effusion, unchanged from ___.\n 2. XXXX opacity.\n 3. Discussed with ___.",
        "Left effusion. Opacity.",
    ),
    Case(ALL, "No interval change from ___.", ""),
    Case(CleanUp(), " 1. Stable\n ___ ", " 1. Stable\n ___ "),
)
