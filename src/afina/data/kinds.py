"""Kinds of question: clusters of questions by their words, named by the words that are typical of each. No model is needed.

Words and parts of words weighted by TF-IDF, in fewer dimensions (SVD), then k-means; the number of kinds is the one whose kinds
lie farthest apart (silhouette). The same questions and seed give the same kinds, whatever the number of threads.

scikit-learn is loaded where it is used: that takes a second or two, and a run that finds its data prepared asks for no kinds.
``Finder`` has it loaded in a process of its own while this one does other work.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from afina.core.child import Child, as_bytes, from_bytes, serve

Matrix = np.ndarray[Any, np.dtype[np.float64]]

MOST_SAMPLED = 5_000  # a kind's share is then right to 1.4 points
_FITTED = 2_000  # kinds are found on these; the other sampled questions go to the nearest
_JUDGED = 1_000  # questions whose distances decide the number of kinds: it takes their square
_READ_CHARACTERS = 300  # of a question
_FEWEST = 24  # questions; with fewer, each cluster would be an accident
_APART = 0.04  # silhouette below which there is one kind only
_DIMENSIONS = 48
_WORDS, _EXAMPLES = 5, 3

# What a person says in every kind of question; English's articles and pronouns come with scikit-learn.
_SPANISH = """
a acá ahí ahora al algo alguna algunas alguno algunos allí ante antes aquel aquella aquello aquellos aquí así aun aún
aunque bajo bien cada casi como cómo con contra cosas cual cuál cuales cualquier cuando cuándo cuánta cuántas cuánto
cuántos da dado dan dar de debe deben debo decir del desde después día dice donde dónde dos e el él ella ellas ello
ellos en entonces entre era eran eres es esa esas ese eso esos está esta estaba estado están estar estas este esto estos
estoy fue fueron gracias ha había hace hacen hacer hacia haga hago han hasta hay haya he hemos hola incluso ir la las le
les lo los luego más me mejor menos mi mí mientras mis mismo mucha muchas mucho muchos muy nada ni ningún ninguna no nos
nosotros nuestra nuestro o os otra otras otro otros para pero poco por porque posible primero pueda puede pueden puedes
puedo pues que qué quería querría quien quién quiero quiere quisiera se sea sean según ser si sí sido siempre sin sobre
sois solo sólo son soy su sus suyo tal también tampoco tan tanto te tendré tengo tener ti tiene tienen tienes toda todas
todavía todo todos tras tu tú tus un una unas uno unos usted ustedes va vamos van vez vosotros voy vuestra vuestro y ya
yo favor buenos buenas días tardes necesito
"""
_ENGLISH = """
hello hi please thanks thank want wanna need help like know does did doing don im ll ve isn doesn just got let tell
"""


@dataclass(frozen=True)
class KindOfQuestion:
    """Questions that resemble each other. ``share`` and ``count`` are of the sampled ones, ``rows`` their places among all."""

    words: tuple[str, ...]
    share: float
    count: int
    examples: tuple[str, ...]
    rows: tuple[int, ...]


def kinds(questions: Sequence[str], seed: int, most: int = 8) -> list[KindOfQuestion]:
    """The kinds of these questions, the most frequent first; none where they are too few to tell.

    At most ``MOST_SAMPLED`` of them, drawn by ``seed``, are looked at. ``examples`` are nearest to their kind's middle.
    """
    chosen = range(len(questions))
    sampled = sorted(random.Random(seed).sample(chosen, MOST_SAMPLED)) if len(questions) > MOST_SAMPLED else list(chosen)
    texts = [questions[row][:_READ_CHARACTERS] for row in sampled]
    if len(set(texts)) < _FEWEST:
        return []
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):  # sums of floats depend on how threads share them
        places = _places(texts, seed)
        if places is None:
            return []
        labels, middles = _clusters(places, seed, most)
    near = np.einsum("nd,nd->n", places, middles[labels])
    named = _typical_words(texts, labels, len(middles))
    found = []
    for label, words in enumerate(named):
        rows = np.flatnonzero(labels == label)
        if len(rows):
            order = rows[np.argsort(-near[rows], kind="stable")]
            examples = tuple(dict.fromkeys(_beginning(questions[sampled[place]]) for place in order[:50]))[:_EXAMPLES]
            found.append(
                KindOfQuestion(words, len(rows) / len(texts), len(rows), examples, tuple(sampled[place] for place in rows))
            )
    return sorted(found, key=lambda kind: (-kind.count, kind.rows))


class Finder:
    """A process that gets ready to find kinds, and then does. Close it, or use ``with``."""

    def __init__(self) -> None:
        self._child = Child("from afina.data.kinds import work; work()", {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._child.kill()
        self._child.close()

    def kinds(self, questions: Sequence[str], seed: int) -> list[KindOfQuestion]:
        """As the function of this name; by that one where the process has ended."""
        try:
            (found,) = self._child.ask([as_bytes([list(questions), seed])])
        except (OSError, EOFError):
            return kinds(questions, seed)
        return [
            KindOfQuestion(tuple(one["words"]), one["share"], one["count"], tuple(one["examples"]), tuple(one["rows"]))
            for one in from_bytes(found)
        ]


def work() -> None:
    """What a ``Finder``'s process does from its start to its end."""
    import sklearn.cluster
    import sklearn.decomposition
    import sklearn.feature_extraction.text
    import sklearn.metrics  # noqa: F401  # all of it is there when the questions come

    def answer(request: list[bytes]) -> Sequence[bytes]:
        questions, seed = from_bytes(request[0])
        return [as_bytes([asdict(kind) for kind in kinds(questions, seed)])]

    serve(answer)


def _beginning(question: str) -> str:
    """What was read of a question; a longer one ends with … behind a whole word."""
    text = question.strip()
    if len(text) <= _READ_CHARACTERS:
        return text
    cut = text[: _READ_CHARACTERS - 1]
    return (cut.rsplit(maxsplit=1)[0] if len(cut.split()) > 1 else cut) + "…"


def _places(texts: Sequence[str], seed: int) -> Matrix | None:
    """Each text as a direction (N, D) of length 1; None where the texts have no words in common."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    count = len(texts)
    fitted = texts[:: max(1, count // _FITTED)]
    parts = []
    for analyzer, ngrams, most in (("word", (1, 1), 4_000), ("char_wb", (4, 4), 6_000)):
        vectors = TfidfVectorizer(
            analyzer=analyzer,
            ngram_range=ngrams,
            max_features=most,
            min_df=2,
            max_df=0.5,
            sublinear_tf=True,
            stop_words=_stop_words() if analyzer == "word" else None,
            dtype=np.float64,
        )
        try:
            vectors.fit(fitted)
        except ValueError:  # no word stands in two texts
            continue
        if len(vectors.vocabulary_) > 2:
            size = min(_DIMENSIONS, len(vectors.vocabulary_) - 1)
            svd = TruncatedSVD(size, algorithm="randomized", n_iter=2, random_state=seed).fit(vectors.transform(fitted))
            # Words say more about a kind than letters do.
            parts.append(normalize(svd.transform(vectors.transform(texts))) * (1.0 if analyzer == "word" else 0.5))
    return normalize(np.hstack(parts)) if parts else None


def _clusters(places: Matrix, seed: int, most: int) -> tuple[np.ndarray[Any, np.dtype[np.int32]], Matrix]:
    """Labels (N,) and middles (K, D): of 2 to ``most`` kinds the number whose kinds lie farthest apart, or one."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import silhouette_score

    fitted = places[:: max(1, len(places) // _FITTED)]
    judged = fitted[:: max(1, len(fitted) // _JUDGED)]
    best, best_score = None, _APART
    for count in range(2, min(most, len(fitted) // 8) + 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different places than kinds: the score tells
            model = KMeans(count, n_init=2, random_state=seed).fit(fitted)
        labels = model.predict(judged)
        if 1 < len(set(labels)) < len(judged):
            score = float(silhouette_score(judged, labels, metric="cosine"))
            if score > best_score:
                best, best_score = model, score
    if best is None:
        return np.zeros(len(places), np.int32), places.mean(axis=0, keepdims=True)
    return best.predict(places), best.cluster_centers_


def _typical_words(texts: Sequence[str], labels: np.ndarray[Any, np.dtype[np.int32]], count: int) -> list[tuple[str, ...]]:
    """For each kind the words whose share of its texts is most above their share of the others."""
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(binary=True, stop_words=_stop_words(), token_pattern=r"(?u)\b[^\W\d_]{2,}\b", min_df=2)
    try:
        present = counter.fit_transform(texts)
    except ValueError:  # no word stands in two texts
        return [()] * count
    words = counter.get_feature_names_out()
    shares = np.vstack([np.asarray(present[labels == label].mean(axis=0)).ravel() for label in range(count)])
    sizes = np.bincount(labels, minlength=count)
    whole = np.asarray(present.mean(axis=0)).ravel()
    typical = []
    for label in range(count):
        rest = (whole * len(texts) - shares[label] * sizes[label]) / max(1, len(texts) - sizes[label])
        # Both often here and rarely elsewhere: the difference of square roots weighs the two alike.
        score = np.sqrt(shares[label]) - np.sqrt(np.maximum(rest, 0))
        order = np.argsort(-score, kind="stable")[:_WORDS]
        typical.append(tuple(str(words[place]) for place in order if score[place] > 0))
    return typical


def _stop_words() -> list[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return sorted(ENGLISH_STOP_WORDS.union(_SPANISH.split(), _ENGLISH.split()))
