"""Could a patient be recognised? What the search for copies of training pictures allows to say."""

import math
from collections.abc import Mapping
from typing import Any

from arra_med.eval.formatting import (
    Estimate,
    counted,
    decimal,
    finite,
    listed,
    percent,
    significant,
)
from arra_med.eval.memorisation_result import ByChance, matches_by_chance
from arra_med.eval.summary_answer import Answer, Verdict, cannot_say
from arra_med.eval.summary_evidence import (
    MIN_PICTURES,
    Results,
    independent_encoders,
    sentence,
)
from arra_med.eval.summary_sets import repeats_itself, unlike_real


def could_recognise(results: Results) -> Answer:
    """Are generated pictures copies of training pictures?"""
    return Answer.of(
        _verdict(results),
        question="Could a patient be recognised?",
        sentences=tuple(memorisation_sentences(results)),
        rule=(
            "Yes: a picture equals a training picture, or the interval of the share of near copies "
            "lies above all that the limits may let through by chance, given how many real "
            "pictures of other patients they rest on; some of the near copies may still be chance. "
            "Suspects: near copies, but not more than that allows for, or of a generator that "
            "repeats itself or draws nothing like a real image, near to which the limits, which "
            "rest on real pictures, say little. No copy found: none, and "
            "the search found at least 95 % of planted exact, slightly changed and JPEG copies; "
            f"coloured as good from {MIN_PICTURES} pictures. Cannot say: no search was run, it "
            "missed planted copies, or it found none and the generator was trained on another "
            "prepared folder. Whatever the answer, a copy that was altered strongly, or of a "
            "picture outside the training set, is not found."
        ),
    )


def memorisation_sentences(results: Results) -> list[str]:
    """What was searched, what was found, and whether the search can be believed."""
    search: Mapping[str, Any] | None = results.get("memorisation")
    if not search:
        return []
    share, matches = Estimate.read(search.get("share")), int(search.get("num_matches") or 0)
    searched = counted(search.get("n_train"), "training picture")
    drawn = counted(search.get("n_generated"), "generated picture")
    spaces = listed(str(space.get("name")) for space in search.get("spaces") or [])
    matched = int(search.get("num_train_matched") or 0)
    to = f", to {counted(matched, 'training picture')}" if matched else ""
    sentences = [
        f"Each of {drawn} was held against all {searched} by {spaces or 'an unnamed measure'}; "
        f"{matches:,} {'is' if matches == 1 else 'are'} as near as a copy{to}."
    ]
    constant = int(search.get("constant") or 0)
    if constant:
        sentences.append(
            f"{counted(constant, 'generated picture')} of one value throughout "
            f"{'was' if constant == 1 else 'were'} left out: blank pictures are alike and show "
            "nobody."
        )
    if share is not None and share.high is not None:
        sentences.append(
            "The interval of the share of near copies, which keeps the pictures of a patient's "
            f"prompts together, reaches up to {_bound(share.high)} in 100."
        )
    sentences += _chance_sentences(search)
    sentences += _control_sentences(search)
    own = sum(bool(match.get("own_patient")) for match in search.get("matches") or [])
    if own:
        sentences.append(
            f"{counted(own, 'listed picture')} {'resembles' if own == 1 else 'resemble'} a picture "
            "of the very patient whose prompt was drawn."
        )
    return sentences


def _chance_sentences(search: Mapping[str, Any]) -> list[str]:
    chance, drawn = by_chance(search), finite(search.get("n_generated"))
    if chance is None:
        return []
    held_out = counted(search.get("n_held_out"), "held-out picture")
    about = f", about {percent(chance.expected * drawn)} of {int(drawn):,}" if drawn else ""
    sentences = [
        f"The limits let through about {_rate(100 * chance.expected)} in 100 real pictures of "
        f"other patients{about}; resting on {held_out}, they may let through up to "
        f"{_bound(chance.most)} in 100."
    ]
    unresolved = [
        str(space.get("name")) for space in search.get("spaces") or [] if not space.get("resolved")
    ]
    if unresolved:
        sentences.append(
            "Too few held-out pictures to set the limit at the rate that was wanted for "
            f"{listed(unresolved)}: there it lies just below the nearest of them, and may let "
            f"through up to {_bound(chance.most_of_one)} in 100."
        )
    return sentences


def _control_sentences(search: Mapping[str, Any]) -> list[str]:
    needed = [row for row in search.get("controls") or [] if row.get("must_find")]
    beyond = [row for row in search.get("controls") or [] if not row.get("must_find")]
    sentences = []
    if needed:
        sentences.append(
            f"Planted copies found: {listed(map(_control, needed))}: the search "
            f"{'works' if search.get('detects') else 'MISSES copies'}."
        )
    if beyond:
        sentences.append(
            f"Copies altered more, which it need not find: {listed(map(_control, beyond))}."
        )
    return sentences


def _control(row: Mapping[str, Any]) -> str:
    return f"{row.get('kind')} {row.get('found')} of {row.get('n')}"


def _verdict(results: Results) -> Verdict:
    search: Mapping[str, Any] | None = results.get("memorisation")
    if equal := identical(results):
        words = (
            "1 generated picture equals a training picture."
            if equal == 1
            else f"{equal:,} generated pictures equal training pictures."
        )
        return (f"Yes: {_copies(equal)}", "poor", words)
    if not search:
        reason = str(results.get("memorisation_note") or "").strip()
        return cannot_say(
            f"Training pictures were not searched: {sentence(reason)}"
            if reason
            else "Training pictures were not searched."
        )
    matches, share = int(search.get("num_matches") or 0), Estimate.read(search.get("share"))
    if matches:
        return _of_matches(results, search, matches, share)
    if not search.get("detects"):
        return cannot_say("The search missed planted copies, so finding none proves nothing.")
    if results.get("model_note"):
        return cannot_say(
            "No picture is as near as a copy to a training picture of the evaluated folder, but "
            "the generator learned from another folder's, which were not searched."
        )
    enough = (finite(search.get("n_generated")) or 0) >= MIN_PICTURES
    high = None if share is None else share.high
    bound = "" if high is None else f" Their share may still reach {_bound(high)} in 100."
    return (
        "No copy found",
        "good" if enough else "mixed",
        f"No picture is as near to a training picture as a copy.{bound}{_blind_to(search)}",
    )


def _of_matches(
    results: Results, search: Mapping[str, Any], matches: int, share: Estimate | None
) -> Verdict:
    """Whether there are more near copies than chance allows; those of chance are no copies.

    What chance allows is known of pictures that are like real ones. Others, of an untrained
    generator say, may all lie near one soft training picture and show nobody.
    """
    near = (
        f"{counted(matches, 'picture')} {'is' if matches == 1 else 'are'} as near to a training "
        "picture as a copy"
    )
    chance, drawn = by_chance(search), finite(search.get("n_generated"))
    if (
        chance
        and drawn
        and share
        and share.low is not None
        and share.low > most_by_chance(search, chance)
    ):
        if other := _other_than_real(results):
            return (f"Suspects: {matches:,}", "mixed", f"{near}, but {other}")
        expected = percent(chance.expected * drawn)
        reason = f"{near}, more than chance allows, which brings about {expected}."
        counts = counted(matches, "match", "matches")
        return (f"Yes: {counts}, about {expected} by chance", "poor", reason)
    reason = f"{near}; within the interval, chance allows for as many. Look at them below."
    return (f"Suspects: {matches:,}", "mixed", reason)


def _other_than_real(results: Results) -> str:
    """Why what chance allows is not known of such pictures; empty if it is."""
    encoders = independent_encoders(results)
    if repeats_itself(results):
        what = "the generator repeats itself: such a picture"
    elif encoders and all(map(unlike_real, encoders)):
        what = "hardly any of them looks like a real image: such a picture"
    else:
        return ""
    return f"{what} may lie near a soft training picture without showing it. Look at them below."


def _blind_to(search: Mapping[str, Any]) -> str:
    """Which altered copies would mostly go unnoticed."""
    missed = [
        str(row.get("kind"))
        for row in search.get("controls") or []
        if not row.get("must_find") and 2 * (finite(row.get("found")) or 0) < (row.get("n") or 0)
    ]
    return f" Altered copies ({listed(missed)}) would go unnoticed." if missed else ""


def by_chance(search: Mapping[str, Any]) -> ByChance | None:
    """What the limits let through; ``None`` if it is not known what they rest on."""
    rate, held_out = finite(search.get("false_match_rate")), finite(search.get("n_held_out"))
    spaces = search.get("spaces") or []
    if not rate or not held_out or not spaces:
        return None
    return matches_by_chance(rate, len(spaces), int(held_out))


def most_by_chance(search: Mapping[str, Any], chance: ByChance) -> float:
    """The largest share of matches that chance explains: by theory, or as measured if more."""
    measured = [
        estimate.value
        for space in search.get("spaces") or []
        if (estimate := Estimate.read(space.get("false_matches"))) is not None
    ]
    return max([chance.most, *measured])


def identical(results: Results) -> int:
    """Generated pictures that equal a training picture in every pixel."""
    preflight: Mapping[str, Any] = results.get("preflight") or {}
    copies: Mapping[str, Any] = preflight.get("copies_of_training") or {}
    return int(copies.get("num") or 0)


def _copies(count: int) -> str:
    return "1 copy" if count == 1 else f"{count:,} copies"


def _rate(value: float) -> str:
    """A small rate per 100 with two digits."""
    return significant(value, 2).removesuffix(".0")


def _bound(share: float) -> str:
    """An upper end per 100, rounded up, so that the words promise no more than the number."""
    value = 100 * share
    digits = 2 if value < 0.09 else 1 if value < 9.9 else 0
    # the subtrahend keeps what is a round number but for its last bit
    return decimal(math.ceil(value * 10**digits - 1e-9) / 10**digits, digits)
