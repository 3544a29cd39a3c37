"""Identifiers are found however they are spelled, everyday words are not, ids are hashed."""

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from arra_med.datasets.base import Identifier
from arra_med.datasets.privacy import (
    Leak,
    Redactor,
    Watch,
    leak_message,
    own_leaks,
)
from arra_med.datasets.privacy.everyday_words import EVERYDAY
from arra_med.datasets.privacy.tokens import fold
from arra_med.schema import CHEXPERT_LABELS
from tests.datasets.labelled_sentences import ABSENT, PRESENT, TRAPS, UNCERTAIN

JANE = (
    Identifier("PatientName", "DOE^JANE^MARY"),
    Identifier("PatientID", "0004711234"),
    Identifier("PatientBirthDate", "19610412"),
)


def redact(text: str, *identifiers: tuple[str, str], allow: tuple[str, ...] = ()) -> str:
    return Redactor([Identifier(*pair) for pair in identifiers] or JANE, allow)(text)


@pytest.mark.parametrize(
    "text",
    [
        "DOE^JANE", "Jane Doe", "DOE, Jane", "Doe JANE", "jane doe", "Jane M. Doe", "DOE^JANE^MARY",
        "Jane Mary Doe", "Doe, Jane Mary", "doe_jane", "Jane-Doe", "JaneDoe", "doejane", "J. Doe",
        "Jane\nDoe", "DOE", "Jane", "0004711234", "4711234", "04711234", "471-1234", "47 11 234",
        "19610412", "1961-04-12", "04/12/1961", "12.04.1961", "April 12, 1961", "12 Apr 1961",
        "4/12/61", "12-APR-1961", "12. April 1961", "12th of April 1961", "610412", "12 avril 1961",
        "Do\u00ade", "J\u0061\u0301ne", "Jáne Doé", "ÐÖ", "đø", "Ｊａｎｅ",
    ],
)  # fmt: skip
def test_every_spelling_goes(text: str) -> None:
    assert redact(text) == "___"
    assert redact(f"Seen by us: {text}; no effusion.") == "Seen by us: ___; no effusion."


def test_labels_and_endings_stay() -> None:
    assert redact("Mrs. Doe's film, MRN4711234.") == "Mrs. ___'s film, MRN___."
    assert redact("doe_jane_4711234_PA.dcm") == "________PA.dcm"
    assert redact("DOE4711234PA.png") == "______PA.png"


@pytest.mark.parametrize(
    "text",
    [
        "Does the doer do it? Janet, Jan.",
        "14711234 and 47112345 and 471123",
        "1961, April 1961, 12 April 1962, 1961-12-05, 04/12/1916",
        "1.2.840.4711234.5.6",
        "hash 4711234f-00aa11bb-22cc33dd-44ee55ff",
        "",
    ],
)
def test_other_words_stay(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("SMALL^LONG", "a small effusion, long line", None),
        ("SMALL^LONG", "Small, Long was seen", "___ was seen"),
        ("Small^Anna", "Small effusion. A small one.", None),
        ("Small^Anna", "Mr. Small has a small effusion", "Mr. ___ has a small effusion"),
        ("Small^Anna", "A. Small came, Anna Small, SMALL^ANNA", "___ came, ___"),
        ("YOUNG^WILL", "the young will do", "the ___ do"),  # together they are the full name
        ("Head^Left", "left. Head and right hand", None),
        ("White^May", "may be white", None),
        ("Do^An", "do an MRI", None),
        ("Do^An", "Dr. Do, and Do An came", "Dr. ___, and ___ came"),
        ("Price^Brown", "DR PRICE: brown", "DR ___: brown"),
        ("Lung^Iris", "iris and lung are normal", None),
        ("CARDIAC SURGERY", "Cardiac silhouette is enlarged.", None),
        ("PULMONARY^CLINIC", "Pulmonary edema.", None),
        ("THORACIC SURGERY", "the thoracic spine", None),
        ("THORACIC SURGERY", "Referred by THORACIC SURGERY", "Referred by ___"),
        ("EDEMA^X", "Edema. X-ray of the chest", None),
        ("Staples^Anna", "surgical staples", None),
        ("Staples^Anna", "Ms. Staples: staples; Staples, Anna", "Ms. ___: staples; ___"),
        ("Staples^Anna", "A. Staples and Anna", "___ and ___"),
        ("RADIOLOGIE", "Radiologie: Herz normal", None),
        ("Ng^Li", "Mg and ng of Li", None),
        ("Ng^Li", "Ms Ng was seen", "Ms ___ was seen"),
        ("Kerley^Swan", "Kerley lines, Swan-Ganz catheter", None),
        ("ANONYMOUS", "anonymous", None),
        ("Covid0000", "COVID pneumonia", None),
        ("Covid0000", "covid0000 film", "___ film"),
    ],
)
def test_false_friends(name: str, text: str, expected: str | None) -> None:
    assert redact(text, ("PatientName", name)) == (text if expected is None else expected)


@pytest.mark.parametrize("tag", ["ReferringPhysicianName", "CurrentPatientLocation"])
@pytest.mark.parametrize("value", ["TRAUMA", "CARDIAC SURGERY", "PULMONARY", "Emergency Radiology"])
def test_a_department_takes_no_finding_out_of_a_report(tag: str, value: str) -> None:
    sentences = [sentence for sentence, _ in (*PRESENT, *ABSENT, *UNCERTAIN, *TRAPS)]
    text = "\n".join([*CHEXPERT_LABELS, *sentences, "Old trauma of the thoracic spine."])
    assert redact(text, (tag, value)) == text


def test_what_findings_are_made_of_is_everyday() -> None:
    sentences = " ".join([*CHEXPERT_LABELS, *(sentence for sentence, _ in PRESENT)])
    words = set(re.findall(r"[a-z]{4,}", sentences.lower()))
    assert words - EVERYDAY == set()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MÜLLER^JÜRGEN", "Jürgen Müller"),
        ("MÜLLER^JÜRGEN", "Juergen Mueller"),
        ("MÜLLER^JÜRGEN", "Jurgen Muller"),
        ("Mueller^Juergen", "Müller, Jürgen"),
        ("Mu\u0308ller^Jurgen", "MÜLLER"),
        ("Strauß^Eva", "STRAUSS"),
        ("Łukasz^Øystein", "Lukasz Oystein"),
        ("O'BRIEN^PAT", "O’Brien"),
        ("OBRIEN^PAT", "O'Brien"),
        ("McDonald^Ann", "Mc Donald"),
        ("MAC DONALD^ANN", "MacDonald"),
        ("VAN DER BERG^JAN", "Jan van der Berg"),
        ("VAN DER BERG^JAN", "vanderBerg"),
        ("van&der&Berg^Jan", "van der Berg, Jan"),
        ("GARCIA LOPEZ^MARIA", "Maria Garcia-Lopez"),
        ("GARCIA LOPEZ^MARIA", "Lopez"),
        ("Smith-Jones^Ann", "Smith Jones"),
        ("Doe^Jane^^Dr.^MD", "Dr. Jane Doe, MD"),
        ("JANE DOE", "Doe, Jane"),
        ("Doe, Jane M.", "jane doe"),
        ("DOE JANE^^^^", "Jane Doe"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "山田太郎"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "山田 太郎"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "やまだ たろう"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Tarou Yamada"),
        ("Hong^Gildong=洪^吉洞=홍^길동", "홍길동"),
        ("Иванов^Пётр", "Петр Иванов"),
    ],
)
def test_names_of_the_world(name: str, text: str) -> None:
    found = redact(f"x: {text}.", ("PatientName", name))
    for word in re.findall(r"[^\W\d_]{3,}", text):
        assert word not in found or word in ("van", "der")
    assert "___" in found


def test_names_in_running_japanese_and_korean() -> None:
    name = ("PatientName", "Yamada^Tarou=山田^太郎")
    assert redact("患者山田太郎様の胸部", name) == "患者___様の胸部"
    assert redact("홍길동은 정상", ("PatientName", "Hong^Gildong=洪^吉洞=홍^길동")) == "___은 정상"


@pytest.mark.parametrize(
    ("tag", "value", "text", "expected"),
    [
        ("AccessionNumber", "AB-00123", "ab123, AB 00123, AB12", "___, ___, AB12"),
        ("StudyID", "12", "12 films", "12 films"),
        ("StudyID", "2021", "since 2021", "since 2021"),
        ("PatientID", "12-34", "12-34, 1234, 12 34", "___, ___, 12 34"),
        ("PatientID", "unknown", "unknown", "unknown"),
        ("PatientID", "P10000032", "p10000032/s1 and 10000032", "___/s1 and ___"),
        ("PatientID", "HMUELLER", "hmueller", "___"),
        ("PatientID", "CHEST", "chest", "chest"),
        ("PatientTelephoneNumbers", "+1 (555) 123-4567", "555.123.4567", "___"),
        ("StudyInstanceUID", "1.2.3.44.55", "1.2.3.44.55 1.2.3.44.556", "___ 1.2.3.44.556"),
        ("StudyInstanceUID", "1.2.3.44.55", "1.2.3.44.55.dcm", "___.dcm"),
        ("InstitutionName", "Saint Elsewhere", "at Saint Elsewhere", "at ___"),
        ("InstitutionName", "General Hospital", "a general hospital", "a general hospital"),
        ("PatientAddress", "12 Elm Street^^Springfield", "from 12 Elm Street", "from ___"),
        ("PatientBirthDate", "19000101", "19000101", "19000101"),
        ("PatientBirthDate", "nonsense", "nonsense", "nonsense"),
        ("EXIF Artist", "Jane Doe", "by Jane Doe", "by ___"),
        ("EXIF ImageDescription", "Diabetic Retinopathy", "Diabetic Retinopathy", None),
        ("EXIF ImageDescription", "Patient: Jane Doe", "Jane Doe", "___"),
        ("EXIF ImageDescription", "DOE^JANE", "Doe", "___"),
        ("EXIF UserComment", "MRN: 4711234 dob 1961-04-12", "4711234, 12 Apr 1961", "___, ___"),
        ("private (0011,1001)", "DOE^JANE", "Jane", "___"),
    ],
)
def test_other_kinds(tag: str, value: str, text: str, expected: str | None) -> None:
    assert redact(text, (tag, value)) == (text if expected is None else expected)


def test_counts_and_allowed_tags() -> None:
    redactor = Redactor(JANE)
    assert redactor("Jane Doe, 4711234; 4711234") == "___, ___; ___"
    redactor("born 1961-04-12")
    assert redactor.counts == {"PatientName": 1, "PatientID": 2, "PatientBirthDate": 1}
    assert redact("Jane 4711234", allow=("PatientID",)) == "___ 4711234"
    # A name that repeats an allowed pseudonym is the pseudonym.
    same = (("PatientID", "4711234"), ("PatientName", "4711234"))
    assert redact("4711234", *same, allow=("PatientID",)) == "4711234"
    nested = ("OtherPatientIDsSequence.PatientID", "998877")
    assert redact("998877", nested, allow=("PatientID",)) == "___"


def test_what_a_replacement_frees_is_replaced_too() -> None:
    ids = (("PatientID", "1234"), ("PatientName", "DOE^JANE"))
    assert redact("1234DOE", *ids) == "______"


NAME_WORDS = st.sampled_from(
    [
        "doe",
        "jane",
        "mary",
        "young",
        "small",
        "müller",
        "o'brien",
        "van",
        "li",
        "an",
        "garcia lopez",
    ]
)

FILLER = st.sampled_from(
    ["effusion", "12", "small", "the", "may", "a", "J.", "1961", "___", "April", "PA", "(x)", "0"]
)

GLUE = st.sampled_from([" ", ", ", "_", "^", "-", "\n", ".", "", "/"])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(NAME_WORDS, min_size=1, max_size=3),
    st.text("0123456789AB", min_size=4, max_size=9),
    st.lists(st.tuples(st.one_of(NAME_WORDS, FILLER, st.just("@id")), GLUE), max_size=12),
)
def test_redacted_text_holds_no_identifier(
    parts: list[str], number: str, pieces: list[tuple[str, str]]
) -> None:
    identifiers = (
        Identifier("PatientName", "^".join(parts)),
        Identifier("PatientID", number),
        Identifier("PatientBirthDate", "19610412"),
    )
    text = "".join(piece.replace("@id", number) + glue for piece, glue in pieces)
    redacted = Redactor(identifiers)(text)
    assert own_leaks(identifiers, {"prompt": redacted}) == ()
    for part in parts:
        if part in ("doe", "jane", "mary", "müller"):
            assert not re.search(rf"(?<![^\W\d_]){part}(?![^\W\d_])", redacted)
    assert Redactor(identifiers)(redacted) == redacted


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_wild_text_without_identifiers_is_untouched(text: str) -> None:
    # Folded as the redactor folds: DÖ, dø and ÐÖ are ways to write Doe.
    assume(not any(re.search(r"d\W*o|j\W*a|m\W*a|471|61", plain) for plain in fold(text)))
    redactor = Redactor(JANE)
    assert redactor(text) == text
    assert redactor.counts == {}


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(["PatientName", "PatientID"]))
def test_wild_identifiers_never_raise(value: str, text: str, tag: str) -> None:
    once = Redactor([Identifier(tag, value)])(f"{text} {value} {text}")
    assert Redactor([Identifier(tag, value)])(once) == once
    watch = Watch(b"salt")
    watch.add([Identifier(tag, value)])
    watch.find(text)


def test_own_leaks_say_where_and_not_what() -> None:
    texts = {
        "key": "p4711234/s1/i1", "patient_id": "4711234", "source": "doe_jane.png",
        "prompt": "PA view, no effusion", "detail": "",
    }  # fmt: skip
    leaks = own_leaks(JANE, texts)
    assert set(leaks) == {
        Leak("PatientID", "key"), Leak("PatientID", "patient_id"), Leak("PatientName", "source"),
    }  # fmt: skip
    message = leak_message([*leaks, *leaks], Path("out/.partial/identifiers.csv"))
    for value in ("4711234", "doe", "jane"):
        assert value not in message.lower()
    assert "PatientID in key (2 times)" in message
    assert "privacy.allow=[PatientID]" in message
    assert "hash_ids" in message
    assert "out/.partial/identifiers.csv says in which rows" in message


def watching(*identifiers: Identifier, allow: tuple[str, ...] = ()) -> Watch:
    watch = Watch(b"salt")
    watch.add(identifiers, allow)
    return watch


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Jane Doe came", {"PatientName"}),
        ("DOE^JANE M", {"PatientName"}),
        ("Doe, Jane", {"PatientName"}),
        ("Jane M. Doe", {"PatientName"}),
        ("jane mary doe", {"PatientName"}),
        ("doe_jane_4711234.png", {"PatientName", "PatientID"}),
        ("p4711234/s1", {"PatientID"}),
        ("MRN4711234", {"PatientID"}),
        ("471-1234", {"PatientID"}),
        ("Jane and Doe", set()),
        ("Jane", set()),
        ("born 1961-04-12", set()),
        ("1.2.840.4711234.5.6", set()),
        ("4711234f-00aa11bb-22cc33dd-44ee55ff", set()),
        ("", set()),
    ],
)
def test_watch_finds_full_names_and_ids(text: str, expected: set[str]) -> None:
    assert watching(*JANE).find(text) == expected


def test_watch_finds_ids_in_groups_and_with_letters_anywhere_in_a_text() -> None:
    watch = watching(Identifier("AccessionNumber", "AB-00123"), Identifier("PatientID", "47112345"))
    for text in ("in AB 00123", "ab123", "x\nAB_00123\ty", "12 34\nAB-123", "2 of AB.00123, 7"):
        assert watch.find(text) == {"AccessionNumber"}, text
    for text in ("47 11 2345", "a 1 b 22 c d 4711 2345 e f 9 g", "9 9\n47112345", "é 47112345"):
        assert watch.find(text) == {"PatientID"}, text
    for text in ("47112346", "147112345", "47112345x", "4711\n\n2345 c"):
        assert watch.find(text) == set(), text


def test_watch_leaves_out_what_is_allowed_weak_or_everyday() -> None:
    assert len(watching(*JANE, allow=("PatientID", "PatientName"))) == 0
    weak = [
        Identifier("PatientName", "SMALL^LEFT"), Identifier("PatientName", "DOE"),
        Identifier("PatientID", "1234"), Identifier("PatientID", "ABCDEFG"),
        Identifier("StudyInstanceUID", "1.2.3.4.5.6"), Identifier("PatientBirthDate", "19610412"),
        Identifier("InstitutionName", "Saint Elsewhere"),
    ]  # fmt: skip
    assert len(watching(*weak)) == 0
    müller = watching(Identifier("PatientName", "MÜLLER^JÜRGEN=山田^太郎"))
    for text in ("Juergen Mueller", "Jürgen Müller", "Jurgen Muller", "患者山田太郎様"):
        assert müller.find(text) == {"PatientName"}


def test_watch_stores_nothing_in_clear_and_round_trips() -> None:
    watch = watching(*JANE)
    tree = json.loads(json.dumps(watch.to_json()))
    assert not re.search("doe|jane|4711234", json.dumps(tree).lower())
    again = Watch.from_json(tree)
    assert again.to_json() == watch.to_json()
    other = watching(Identifier("PatientID", "AB998877"))
    other.merge(again)
    assert other.find("AB998877, Jane Doe 4711234") == {"PatientID", "PatientName"}
    twice = len(other)
    other.add(JANE)
    assert len(other) == twice
    with pytest.raises(ValueError, match="different salts"):
        other.merge(Watch(b"pepper"))
    assert other.to_json() != Watch(b"pepper").to_json()


def test_redacting_a_report_takes_milliseconds() -> None:
    text = "The lungs are clear. There is no effusion or pneumothorax in 2021. " * 10
    start = time.perf_counter()
    for _ in range(20):
        Redactor(JANE)(text)
    assert (time.perf_counter() - start) / 20 < 0.05
