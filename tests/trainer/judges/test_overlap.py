"""chrF and ROUGE-L against what their definitions give by hand."""

import pytest

pytest.importorskip("sacrebleu")
pytest.importorskip("rouge_score")

from opera_trainer.judges.overlap import chrf, rouge_l


def test_a_copy_is_one_and_nothing_in_common_is_zero():
    for measure in (chrf, rouge_l):
        assert measure("the dog ran home", "the dog ran home") == pytest.approx(1.0)
        assert measure("xyz", "the dog ran home") == 0.0
        assert measure("", "the dog ran home") == 0.0


def test_rouge_l_is_the_f1_of_the_longest_common_subsequence():
    # LCS of 3 words; precision 3/4, recall 3/5.
    assert rouge_l("the dog quickly ran", "the big dog ran home") == pytest.approx(2 * 0.75 * 0.6 / 1.35)


def test_chrf_of_single_letters_is_the_f2_of_their_overlap():
    # Only 1-grams exist on either side: precision 1/1, recall 1/1 for "a"; "b" shares none.
    assert chrf("a", "a") == pytest.approx(1.0)
    assert chrf("b", "a") == 0.0


def test_a_chinese_character_is_a_word():
    assert rouge_l("我很好", "我好") == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))
