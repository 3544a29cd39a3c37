"""From the numbers of an evaluation to plain words, by rules that the report prints.

Every function is pure: ``results.json`` as a mapping in, sentences out. No sentence says more
than its numbers: an answer is "yes" only where a stated rule allows it, and "cannot say" wherever
the evidence is not independent, too small or not there.
"""

from arra_med.eval.caveats import fails, open_questions
from arra_med.eval.goals import goals_reached
from arra_med.eval.summary_answer import Answer
from arra_med.eval.summary_asked import show_what_was_asked
from arra_med.eval.summary_errors import invent_or_miss
from arra_med.eval.summary_evidence import Results
from arra_med.eval.summary_privacy import could_recognise
from arra_med.eval.summary_sets import look_right, varied

__all__ = ["Answer", "answers"]


def answers(results: Results) -> list[Answer]:
    """The answers on the report's first page, in the order in which they are read."""
    return [
        look_right(results),
        show_what_was_asked(results),
        invent_or_miss(results),
        varied(results),
        could_recognise(results),
        fails(results),
        goals_reached(results),
        open_questions(results),
    ]
