import pytest

from opera_service.trajectories.control_prompts import CHINESE, ENGLISH, control_paragraphs
from opera_service.trajectories.encoding_config import ReflectionConfig
from opera_service.trajectories.reflection import is_reflective


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("What is twelve plus eight?", ENGLISH),
        ("user\n十二加八等于多少？\nassistant\n", CHINESE),
        ("Translate 你好 into English, please.", ENGLISH),
        ("请用 Python 写一个函数。", CHINESE),
        ("12 + 8 = ?", ENGLISH),
        ("", ENGLISH),
    ],
)
def test_controls_follow_the_prompts_language(prompt, expected):
    assert control_paragraphs(prompt) == expected


@pytest.mark.parametrize("control", [*ENGLISH, *CHINESE])
def test_a_control_is_one_reflective_paragraph(control):
    assert control.endswith("\n\n")
    assert "\n\n" not in control.removesuffix("\n\n")
    assert is_reflective(control, ReflectionConfig())
