"""The extractor plug-in interface: a frozen encoder whose features FD and KID compare."""

from arra_med.eval.evaluator import Evaluator


class Extractor(Evaluator):
    """A frozen encoder; its ``forward`` gives ``(B, dimension)`` float32 features.

    Attributes:
        dimension: length of a feature vector.
    """

    dimension: int
