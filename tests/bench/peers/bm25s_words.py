"""bm25s as its documentation shows it: exact BM25 over the words of all documents, in memory."""

from collections.abc import Iterable

import bm25s
import numpy as np
import numpy.typing as npt
import Stemmer

# The longer of its two English lists, which is nearly Postgres': the shorter finds less in six of seven sets.
STOP_WORDS = {"english": "en_plus", "german": "de"}


class Bm25s:
    """An index of documents by their stemmed words, with the constants of our own."""

    def __init__(self, documents: Iterable[str], language: str) -> None:
        self._language, self._stemmer = language, Stemmer.Stemmer(language)
        self._model = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
        words = bm25s.tokenize(list(documents), stopwords=self._stop_words, stemmer=self._stemmer, show_progress=False)
        self._model.index(words, show_progress=False)

    @property
    def _stop_words(self) -> str:
        return STOP_WORDS[self._language]

    def scores(self, text: str) -> npt.NDArray[np.float32]:
        """Return the score of each document; a word that the text has twice counts twice."""
        [words] = bm25s.tokenize(
            [text], stopwords=self._stop_words, stemmer=self._stemmer, return_ids=False, show_progress=False
        )
        known = [word for word in words if word in self._model.vocab_dict]
        count = self._model.scores["num_docs"]
        return self._model.get_scores(known) if known else np.zeros(count, dtype=np.float32)

    def best(self, text: str, depth: int) -> list[int]:
        """Return the best `depth` documents that have any of the text's words, best first."""
        scores = self.scores(text)
        return [int(one) for one in np.argsort(-scores, kind="stable")[:depth] if scores[one] > 0]
