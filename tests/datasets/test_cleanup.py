import pickle
import re
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from arra_med.datasets.cleanup import CleanUp, clean
from tests.datasets.cleaned_text import blocks_kept, invented_words, looks_broken, sides
from tests.datasets.report_cases import ALL, CLEANED, EARLIER, LISTS, MARKS, NOTES


@pytest.mark.parametrize("case", CLEANED, ids=lambda case: case.text[:48])
def test_cleaned_texts(case):
    assert clean(case.text, case.options)[0] == case.cleaned


@pytest.mark.parametrize("case", CLEANED, ids=lambda case: case.text[:48])
def test_no_case_alters_a_side_or_a_negation(case):
    assert blocks_kept(case.text, clean(case.text, case.options)[0])


def test_everything_is_off_unless_asked_for():
    text = "1. Stable  left effusion since ___.\n 2. Discussed with Dr. ___ at 3:15."
    assert clean(text, CleanUp()) == (text, {})


def test_each_step_counts_what_it_did():
    text = "1. Stable left effusion with XXXX atelectasis. No change.\n 2. Discussed with Dr. ___."
    assert clean(text, LISTS)[1] == {"join-lists": 2}
    assert clean(text, NOTES)[1] == {"remove-notifications": 1}
    assert clean(text, EARLIER)[1] == {"remove-comparisons": 2}
    assert clean(text, MARKS)[1] == {"remove-placeholders": 2}
    assert clean(text, ALL) == (
        "Left effusion with atelectasis.",
        {
            "join-lists": 2,
            "remove-notifications": 1,
            "remove-comparisons": 2,
            "remove-placeholders": 1,
        },
    )
    assert clean("Clear lungs.", ALL) == ("Clear lungs.", {})


def test_steps_do_not_touch_each_others_words():
    text = "1. Stable effusion. 2. XXXX opacity. 3. Discussed with Dr. Who."
    assert clean(text, MARKS)[0] == "1. Stable effusion. 2. Opacity. 3. Discussed with Dr. Who."
    assert clean(text, EARLIER)[0] == "1. Effusion. 2. XXXX opacity. 3. Discussed with Dr. Who."


def test_options_travel_to_workers():
    assert pickle.loads(pickle.dumps(ALL)) == ALL


# Realistic pieces; a sentence is one finding, perhaps said to be on a side, denied, compared,
# with placeholders, told to somebody.
_NEGATION = st.sampled_from(["", "No ", "No new ", "No evidence of ", "There is no ", "Without "])
_STATE = st.sampled_from(
    ["", "", "stable ", "unchanged ", "new ", "persistent ", "XXXX ", "increasing ", "again seen "]
)
_SIDE = st.sampled_from(["", "left ", "right ", "bilateral ", "left greater than right ", "R "])
_FINDING = st.sampled_from(
    ["pleural effusion", "pneumothorax", "lower lobe opacity", "PICC line", "2.5 cm nodule"]
)
_TAIL = st.sampled_from(
    [
        "",
        " is unchanged",
        " is unchanged since the prior study and may represent pneumonia",
        " since ___ may represent pneumonia",
        " has increased since ___",
        ", not seen on the left on the prior study",
        " compared to the prior study from ___",
        ", larger than on ___",
        " is no longer seen",
        " has resolved on the right",
        ", without change from ___ on the left",
        " with XXXX",
        " in the left XXXX",
        " measuring XXXX cm, free of change",
        ", discussed with Dr. ___ at 3:15 p.m. on the right",
        " was communicated to Dr. ___ by phone",
        "; the heart is stable and the lungs are not changed",
        ", and there is no longer a left line",
    ]
)
_SENTENCES = st.builds(
    lambda *parts: ("".join(parts)[:1].upper() + "".join(parts)[1:]).strip() + ".",
    _NEGATION, _STATE, _SIDE, _FINDING, _TAIL,
)  # fmt: skip
_OPTIONS = st.builds(
    CleanUp,
    join_lists=st.booleans(),
    remove_notifications=st.booleans(),
    remove_comparisons=st.booleans(),
    remove_placeholders=st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(_SENTENCES, _OPTIONS)
def test_a_sentence_keeps_all_its_guarded_words_or_goes(sentence, options):
    cleaned, _ = clean(sentence, options)
    assert not cleaned or sides(cleaned) == sides(sentence)
    assert not invented_words(sentence, cleaned)


@settings(max_examples=150, deadline=None)
@given(st.lists(_SENTENCES, min_size=1, max_size=5), st.booleans(), _OPTIONS)
def test_a_report_is_cleaned_sentence_by_sentence(sentences, numbered, options):
    assume(options != CleanUp())
    marks = [f"{index}. " if numbered else "" for index in range(1, len(sentences) + 1)]
    text = "\n ".join(mark + sentence for mark, sentence in zip(marks, sentences, strict=True))
    cleaned, edits = clean(text, options)
    alone = [clean(sentence, options)[0] for sentence in sentences]
    unnumbered = re.sub(r"(?:^|(?<=\. ))\d\. ", "", cleaned)
    assert unnumbered.split() == " ".join(filter(None, alone)).split()
    assert edits == {kind: number for kind, number in edits.items() if number > 0}
    if numbered and options.join_lists:
        assert edits["join-lists"] == len(sentences)
    if options.remove_placeholders:
        assert not re.search(r"_{2,}|X{4,}", cleaned)
        assert not looks_broken(cleaned)


_WORDS = st.sampled_from(
    re.split(
        " ",
        "XXXX ___ no left L R Dr. prior the and stable study unchanged since compared to 1. 2) , . "
        "( ) 3:15 is not new interval discussed with x-XXXX ___-year-old \n effusion T12. 1.5 cm",
    )
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_WORDS, max_size=25), _OPTIONS)
def test_any_words_can_be_cleaned(words, options):
    text = " ".join(words)
    cleaned, _ = clean(text, options)
    if options == CleanUp():
        assert cleaned == text
        return
    assert cleaned == " ".join(cleaned.split())
    assert not invented_words(text, cleaned)
    if options.remove_placeholders:
        assert not re.search(r"_{2,}|X{4,}", cleaned)


@pytest.mark.parametrize(
    "text",
    ["X" * 3000, "_" * 3000, "prior " * 500 + "study", "XXXX " * 300, "since CT and ___ " * 100],
)
def test_odd_texts_do_not_take_forever(text):
    started = time.monotonic()
    clean(text, ALL)
    assert time.monotonic() - started < 10
