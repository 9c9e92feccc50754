"""The groups that each topic of an index belongs to; see ``topic_traits`` for what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dupmae_toolkit.analysis import count_words
from dupmae_toolkit.evaluation import topic_traits as traits
from dupmae_toolkit.evaluation.topic_traits import Group, Vocabulary
from dupmae_toolkit.records import Document, Representations
from dupmae_toolkit.search.hybrid_index import HybridIndex

#: From topic to the topic's answer; None if the index holds none.
Answers = Mapping[str, Document | None]


def first_answer(grades: Mapping[str, int], known: Mapping[str, Document]) -> Document | None:
    """The document of the highest grade, the first by id; ``known``: those of the index."""
    held = [(-grade, name) for name, grade in grades.items() if grade > 0 and name in known]
    return known[min(held)[1]] if held else None


def groups_of(
    index: HybridIndex, vectors: Representations, answers: Answers, idf_power: float
) -> list[list[Group]]:
    """For each topic, its groups; vectors: of the topics, with their texts."""
    texts = texts_of(vectors)
    vocabulary = Vocabulary(index.manifest.vocabulary(index.path))
    shares = _lexical_scores(index, vectors, answers, idf_power, vocabulary)
    words = [list(count_words(text)) for text in texts]
    frequencies = index.word_frequencies({word for mine in words for word in mine})
    groups = []
    for topic, text, mine in zip(vectors.ids, texts, words, strict=True):
        held = None if frequencies is None else {word: frequencies[word] for word in mine}
        found = traits.term_groups(text, vocabulary, held, len(index))
        answer = answers[topic]
        found += traits.length_groups(text, answer.contents if answer else None)
        if answer is not None:
            match = traits.match_group(text, answer.contents)
            found += [match] if match else []
            found.append(traits.expansion_group(*shares[topic]))
        groups.append(found)
    return groups


def texts_of(vectors: Representations) -> Sequence[str]:
    assert vectors.texts is not None
    return vectors.texts


def _lexical_scores(
    index: HybridIndex,
    vectors: Representations,
    answers: Answers,
    idf_power: float,
    vocabulary: Vocabulary,
) -> dict[str, tuple[float, float]]:
    """The answer's lexical score by tokens that stand in both texts, and by all tokens."""
    masked = vectors.lexical.tocsr().copy()
    for row, (topic, text) in enumerate(zip(vectors.ids, texts_of(vectors), strict=True)):
        answer = answers[topic]
        if answer is None:
            continue
        mine = slice(masked.indptr[row], masked.indptr[row + 1])
        columns = masked.indices[mine]
        both = vocabulary.stands_in(columns, text)
        both &= vocabulary.stands_in(columns, answer.contents)
        masked.data[mine] = np.where(both, masked.data[mine], 0)
    masked.eliminate_zeros()
    request = index.request(1, "lexical", idf_power=idf_power)
    ids = [[answer.id] if (answer := answers[topic]) else [] for topic in vectors.ids]
    literal = index.scores(replace(vectors, lexical=masked), ids, request)
    whole = index.scores(vectors, ids, request)
    return {
        topic: (sum(some.values()), sum(every.values()))
        for topic, some, every in zip(vectors.ids, literal, whole, strict=True)
    }
