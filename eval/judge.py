"""The judge plug-in interface: a frozen classifier that says which findings a picture shows."""

from collections.abc import Mapping
from types import MappingProxyType

from arra_med.eval.evaluator import Evaluator


class Judge(Evaluator):
    """A frozen multi-label classifier, never the teacher of the run it judges.

    Its ``forward`` gives ``(B, len(findings))`` float32 probabilities.

    Attributes:
        findings: the label names it judges, in the order of its outputs.
        not_judged: label names it was meant to judge and does not, each with the reason.
    """

    findings: tuple[str, ...]
    not_judged: Mapping[str, str] = MappingProxyType({})
