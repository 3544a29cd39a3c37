"""What the summary says of copies follows from the numbers by the printed rule."""

from typing import Any

import pytest

from arra_med.eval.goals import goal_rows
from arra_med.eval.summary_privacy import could_recognise
from arra_med.settings import Goal
from tests.eval.test_summary import ends


def searched(results: Any, **changes: Any) -> dict[str, Any]:
    return results | {"memorisation": results["memorisation"] | changes}


@pytest.mark.parametrize(
    ("matches", "low", "high", "detects", "n", "verdict", "tone"),
    [
        (0, 0.0, 0.0061, True, 600, "No copy found", "good"),
        (0, 0.0, 0.0366, True, 99, "No copy found", "mixed"),
        (0, 0.0, 0.0061, False, 600, "Cannot say", "unknown"),
        (6, 0.0037, 0.0216, True, 600, "Suspects: 6", "mixed"),  # 1 in 100, as stated
        (12, 0.0104, 0.0347, True, 600, "Suspects: 12", "mixed"),  # 400 held out allow for 2.7
        (30, 0.0340, 0.0706, True, 600, "Yes: 30 matches, about 6 by chance", "poor"),
        (30, 0.0340, 0.0706, False, 600, "Yes: 30 matches, about 6 by chance", "poor"),
    ],
)
def test_could_recognise(
    results: Any, matches: int, low: float, high: float, detects: bool, n: int,
    verdict: str, tone: str,
) -> None:  # fmt: skip
    share = ends(matches / n, low, high)
    changed = searched(
        results, num_matches=matches, share=share, detects=detects, n_generated=n, matches=[]
    )
    answer = could_recognise(changed)
    assert (answer.verdict, answer.tone) == (verdict, tone)
    assert any("exact 200 of 200" in sentence for sentence in answer.sentences)


def test_matches_of_chance_are_not_called_copies(results: Any) -> None:
    """20 held-out pictures, two limits just below the nearest of them: 2 of 21 come as near."""
    spaces = [space | {"resolved": False} for space in results["memorisation"]["spaces"]]
    few = {"n_held_out": 20, "n_generated": 200, "spaces": spaces}
    by_chance = searched(results, **few, num_matches=60, share=ends(0.3, 0.2374, 0.3686))
    answer = could_recognise(by_chance)
    assert answer.verdict == "Suspects: 60"
    assert "chance allows for as many" in answer.headline
    assert (
        "The limits let through about 9.5 in 100 real pictures of other patients, about 19 of 200; "
        "resting on 20 held-out pictures, they may let through up to 34 in 100."
    ) in answer.sentences
    assert (
        "Too few held-out pictures to set the limit at the rate that was wanted for cnn-64 and "
        "pixels: there it lies just below the nearest of them, and may let through up to 17 in 100."
    ) in answer.sentences
    copied = searched(results, **few, num_matches=100, share=ends(0.5, 0.4287, 0.5713))
    answer = could_recognise(copied)
    assert answer.verdict == "Yes: 100 matches, about 19 by chance"
    assert answer.headline == (
        "100 pictures are as near to a training picture as a copy, more than chance allows, which "
        "brings about 19."
    )
    by_chance["preflight"] = {"copies_of_training": {"num": 2, "pairs": []}}
    assert could_recognise(by_chance).verdict == "Yes: 2 copies"


def test_what_the_limits_rest_on_must_be_known_to_accuse(results: Any) -> None:
    changes = {"num_matches": 600, "share": ends(1.0, 0.99, 1.0)}
    assert could_recognise(searched(results, **changes)).verdict.startswith("Yes: 600 matches")
    for unknown in ({"spaces": []}, {"n_held_out": None}, {"false_match_rate": None}):
        answer = could_recognise(searched(results, **changes, **unknown))
        assert answer.verdict == "Suspects: 600"


def test_pictures_unlike_real_ones_do_not_accuse(results: Any) -> None:
    """Of an untrained generator all may lie near one soft training picture."""
    every = searched(results, num_matches=600, num_train_matched=1, share=ends(1.0, 0.99, 1.0))
    answer = could_recognise(every)
    assert answer.verdict == "Yes: 600 matches, about 6 by chance"
    assert any("600 are as near as a copy, to 1 training picture." in s for s in answer.sentences)
    alike = every["similarity"] | {"diversity_generated": ends(0.97, 0.95, 0.99)}
    unlike = [row | {"precision": 0.001} for row in every["fidelity"]]
    for changes, words in (
        ({"similarity": alike}, "the generator repeats itself"),
        ({"fidelity": unlike}, "hardly any of them looks like a real image"),
    ):
        answer = could_recognise(every | changes)
        assert (answer.verdict, answer.tone) == ("Suspects: 600", "mixed")
        assert words in answer.headline
    copied = every | {"similarity": alike}
    copied["preflight"] = {"copies_of_training": {"num": 2, "pairs": []}}
    assert could_recognise(copied).verdict == "Yes: 2 copies"


def test_a_copy_pixel_for_pixel_is_a_copy_even_without_a_search(results: Any) -> None:
    results["preflight"]["copies_of_training"] = {"num": 1, "pairs": [["a-0", "b"]]}
    results |= {"memorisation": None, "memorisation_note": "switched off"}
    assert could_recognise(results).verdict == "Yes: 1 copy"
    results["preflight"] = None
    answer = could_recognise(results)
    assert answer.verdict == "Cannot say"
    assert answer.headline == "Training pictures were not searched: Switched off."


def test_the_bound_of_a_share_is_never_rounded_down(results: Any) -> None:
    none = {"num_matches": 0, "share": ends(0.0, 0.0, 0.006123)}
    assert "may still reach 0.7 in 100" in could_recognise(searched(results, **none)).headline


def test_no_copy_of_pictures_that_trained_nothing_proves_nothing(results: Any) -> None:
    results["model_note"] = "The generator was trained on another prepared folder."
    none = searched(results, num_matches=0, share=ends(0.0, 0.0, 0.0061), matches=[])
    answer = could_recognise(none)
    assert answer.verdict == "Cannot say"
    assert "learned from another folder's, which were not searched" in answer.headline
    suspects = searched(results, num_matches=6, share=ends(0.01, 0.0037, 0.0216))
    assert could_recognise(suspects).verdict == "Suspects: 6"
    [goal] = goal_rows([Goal(measure="copies_per_100", at_most=50)], none)
    assert goal["met"] is None
    assert "learned from pictures that were not searched" in goal["note"]
