"""Prompts as weighted counts of their words and pairs of words (TF-IDF), over a vocabulary."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

_WORD = r"[^\W\d_]{2,}"  # neither numbers nor the placeholders of removed names
_WORDS_TOGETHER = (1, 2)


def frequent_terms(texts: Sequence[str], patients: Sequence[str], *, least: int) -> list[str]:
    """Words and pairs of words that the texts of at least ``least`` patients hold, sorted.

    What is rarer could be a person's name, and the vocabulary is kept in a file.
    """
    from sklearn.feature_extraction.text import CountVectorizer  # takes seconds to import

    counter = CountVectorizer(token_pattern=_WORD, ngram_range=_WORDS_TOGETHER, binary=True)
    try:
        holds = counter.fit_transform(texts)
    except ValueError:  # scikit-learn's way to say that there is no word
        return []
    _, of = np.unique(np.asarray(patients), return_inverse=True)
    ones = np.ones(len(of))
    by_patient = scipy.sparse.csr_matrix((ones, (of, np.arange(len(of))))) @ holds
    enough = np.asarray((by_patient > 0).sum(axis=0)).ravel() >= least
    return [str(term) for term in counter.get_feature_names_out()[enough]]


class Terms:
    """Counts the terms of a vocabulary.

    Args:
        vocabulary: terms, in the order of the coordinates.
        idf: ``(V,)`` weight of each; :meth:`fit` finds them.
    """

    def __init__(self, vocabulary: Sequence[str], idf: NDArray[np.float64] | None = None) -> None:
        from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

        self._counter = CountVectorizer(
            token_pattern=_WORD, ngram_range=_WORDS_TOGETHER, vocabulary=list(vocabulary)
        )
        self._weighting = TfidfTransformer(sublinear_tf=True)
        if idf is not None:
            self._weighting.idf_ = idf

    def fit(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Learn and return the ``(V,)`` weights, ln((1 + n) / (1 + n with the term)) + 1."""
        self._weighting.fit(self._counter.transform(texts))
        return np.asarray(self._weighting.idf_, dtype=np.float64)

    def __call__(self, texts: Sequence[str]) -> Any:  # noqa: ANN401 - scipy's sparse matrix
        """``(N, V)`` sparse, rows of length 1, or 0 for a text without any of the terms."""
        return self._weighting.transform(self._counter.transform(texts))
