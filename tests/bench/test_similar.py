"""What the benchmarks of search measure is right: their measures by hand-computed examples, and the texts they make."""

import math

import pytest

from tests.bench import made_tickets, made_words, ranking
from tests.bench.topics import BLOCK, Texts

pytestmark = pytest.mark.one_postgres


def test_ndcg_by_hand() -> None:
    """Gains 3, 2 and 1; found are the second, a wrong one and the best."""
    right = {7: 3.0, 8: 2.0, 9: 1.0}
    best = 3 + 2 / math.log2(3) + 1 / 2
    assert ranking.ndcg([8, 1, 7], right) == pytest.approx((2 + 3 / 2) / best)  # 3.5 of 4.76
    assert ranking.ndcg([8, 1, 7], right) == pytest.approx(0.7350, abs=1e-4)
    assert ranking.ndcg([7, 8, 9], right) == 1
    assert ranking.ndcg([], right) == 0
    assert ranking.ndcg([1, 2, 7], right, depth=2) == 0


def test_recall_by_hand() -> None:
    assert ranking.recall([1, 2, 3], [2, 3, 4, 5]) == 0.5
    assert ranking.recall(list(range(20)), list(range(5, 40))) == 0.5  # ten places, and five of them are right
    assert ranking.recall([4, 9], [9], depth=1) == 0


def test_overlap_counts_equal_scores_as_equal() -> None:
    best = [5.0, 4.0, 3.0]
    assert ranking.overlap([5.0, 3.0, 3.0], best) == 1
    assert ranking.overlap([5.0, 2.9, 2.0], best) == pytest.approx(1 / 3)
    assert ranking.overlap([], best) == 0
    assert ranking.overlap([], []) == 1


@pytest.mark.parametrize("words", [made_words.ENGLISH, made_words.GERMAN])
def test_made_tickets_are_the_same_each_time_and_have_right_answers(words: made_words.Words) -> None:
    once, again = (made_tickets.collections(words, problems=20) for _ in range(2))
    assert once == again
    for collection in once:
        assert collection.language == words.language
        assert len(collection.questions) == 20
        for question in collection.questions:
            least, most = made_tickets.TICKETS
            assert least <= len(question.right) <= most
            assert max(question.right) < len(collection.documents)


def test_the_part_of_a_code_that_people_type_is_in_the_code() -> None:
    """So that there is a right answer to it."""
    questions = made_tickets.collections(made_words.ENGLISH, problems=40)[2]
    for question in questions.questions:
        code = question.text.split(" ")[0].lower()
        assert all(code in questions.documents[number].lower() for number in question.right)


def test_texts_of_topics_are_the_same_each_time_wherever_one_begins() -> None:
    texts, again = (Texts(general=500, special=500) for _ in range(2))
    whole = list(texts.tickets(2 * BLOCK + 5, only_here="ours"))
    assert len(whole) == 2 * BLOCK + 5
    assert list(again.tickets(2 * BLOCK + 5, first=BLOCK, only_here="ours")) == whole[BLOCK:]
    assert 0.4 < sum("ours" in text.split() for text in whole) / len(whole) < 0.6
    assert 50 < sum(len(text.split()) for text in whole) / len(whole) < 80
    assert list(texts.tickets(5, stream=1)) != whole[:5]
    assert texts.questions(3, [10]) == again.questions(3, [10])
