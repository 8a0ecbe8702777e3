"""Conventions found by rendering: templates written here in the manner of the families in use."""

import jinja2
import pytest

from opera_service.trajectories.chat_format import ChatFormat
from opera_service.trajectories.think_tags import DEFAULT

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHOWS_LAST_THOUGHT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}"
    "<think>\n{{ (m.reasoning_content or '').strip('\n') }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SWITCHES_OFF = SHOWS_LAST_THOUGHT.replace(
    "<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}"
)
OPENS = (
    "{% for m in messages %}"
    "{% if m.role == 'assistant' %}<|A|>{{ m.content.split('</think>')[-1] }}<|end_of_text|>"
    "{% else %}<|U|>{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|A|><think>\n{% endif %}"
)
BRACKETS = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% else %}"
    "{% if m.thinking %}[THINK]{{ m.thinking }}[/THINK]{% endif %}{{ m.content }}</s>{% endif %}{% endfor %}"
)
HARMONY = (
    "{% for m in messages %}{% if m.role == 'user' %}<|start|>user<|message|>{{ m.content }}<|end|>{% else %}"
    "{% if m.thinking %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m.content }}{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
SEED = CHATML.replace("{{ m.content }}", "{% if m.reasoning_content %}<seed:think>{{ m.reasoning_content }}"
                      "</seed:think>{% endif %}{{ m.content }}")  # fmt: skip
NAMES_ONLY = "{# <reasoning> and </reasoning> are this model's tags #}" + CHATML
ROLE_ENDS = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
REFUSES_ALL = "{{ 1 / 0 }}"


def form(template: str) -> ChatFormat:
    compiled = jinja2.Environment().from_string(template)
    return ChatFormat.of(
        lambda messages, opened: compiled.render(messages=messages, add_generation_prompt=opened), template
    )


@pytest.mark.parametrize(
    ("template", "opening", "bridge", "header"),
    [
        (CHATML, DEFAULT.opening, DEFAULT.bridge, "<|im_start|>assistant\n"),
        (SHOWS_LAST_THOUGHT, "<think>\n", "</think>\n\n", "<|im_start|>assistant\n"),
        (SWITCHES_OFF, "<think>\n", "</think>\n\n", "<|im_start|>assistant\n"),
        (OPENS, "<think>\n", "</think>\n\n", "<|A|>"),
        (BRACKETS, "[THINK]", "[/THINK]", ""),
        (
            HARMONY,
            "<|channel|>analysis<|message|>",
            "<|end|><|start|>assistant<|channel|>final<|message|>",
            "<|start|>assistant",
        ),
        (SEED, "<seed:think>", "</seed:think>", "<|im_start|>assistant\n"),
        (NAMES_ONLY, "<reasoning>\n", "</reasoning>\n\n", "<|im_start|>assistant\n"),
        (REFUSES_ALL, DEFAULT.opening, DEFAULT.bridge, ""),
    ],
)
def test_tags_and_header(template, opening, bridge, header):
    found = form(template)
    assert (found.tags.opening, found.tags.bridge, found.header) == (opening, bridge, header)
    assert found.tags.open == opening.strip()
    assert found.tags.close == bridge.strip()


@pytest.mark.parametrize(
    ("template", "endings"),
    [
        (CHATML, ("<|im_end|>\n", "<|im_end|>\n<|im_start|>user\n")),
        (OPENS, ("<|end_of_text|>", "<|end_of_text|><|U|>")),
        (HARMONY, ("<|return|>", "<|end|><|start|>user<|message|>")),
        (ROLE_ENDS, ("", "<|user|>\n")),
        (REFUSES_ALL, ()),
    ],
)
def test_what_follows_an_answer(template, endings):
    assert form(template).endings == endings


def test_the_name_of_the_thought():
    assert [form(one).thought_key for one in (SEED, BRACKETS, CHATML)] == ["reasoning_content", "thinking", None]


def test_no_template_no_conventions():
    assert ChatFormat.of(lambda *_: "", None) == ChatFormat()
