"""Messages as trainers send them, rendered by templates that read, refuse, lose or spoil them."""

import jinja2
import pytest

from opera_client.errors import InvalidRequest
from opera_client.wire import Message
from opera_service.trajectories.chat_format import ChatFormat
from opera_service.trajectories.messages import between, rendered, spoken

from .test_chat_format import BRACKETS, CHATML, HARMONY, OPENS, SHOWS_LAST_THOUGHT, SWITCHES_OFF

USER = {"role": "user", "content": "Is it so?"}


def chat(template: str, *messages: dict[str, object]) -> str:
    environment = jinja2.Environment()
    environment.globals["raise_exception"] = _refuse
    compiled = environment.from_string(template)

    def render(given, opened):
        return compiled.render(messages=given, add_generation_prompt=opened)

    plain = [Message.model_validate(message).model_dump() for message in messages]
    return rendered(plain, render, ChatFormat.of(render, template))


def _refuse(reason: str) -> None:
    raise jinja2.TemplateError(reason)


def test_text_parts_are_joined_and_missing_content_is_empty():
    parts = {"role": "user", "content": [{"type": "text", "text": "Is "}, {"type": "text", "text": "it so?"}]}
    assert chat(CHATML, parts) == chat(CHATML, USER)
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    tool = {"role": "tool", "content": "yes"}
    for asking in ({"content": None}, {}):
        text = chat(CHATML, USER, {"role": "assistant", "tool_calls": [call], **asking}, tool)
        assert "<|im_start|>assistant\n<|im_end|>" in text
        assert "None" not in text


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, "part 0 .* type 'image_url'"),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_audio"}]},
            "part 1 .*input_audio",
        ),
        ({"role": "user", "content": [3]}, "type 'int'"),
        ({"role": "user", "content": [{"type": "text", "text": None}]}, "part 0"),
        ({"role": "user"}, "Field required"),
        ({"role": "user", "content": None}, "Field required"),
        ({"role": "", "content": "a"}, "role"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(message, words):
    with pytest.raises(ValueError, match=words):
        Message.model_validate(message)


@pytest.mark.parametrize(
    ("template", "prefill", "end"),
    [
        (CHATML, {"content": "The answer "}, "<|im_start|>assistant\nThe answer "),
        (CHATML, {"content": "<think>\nFirst,"}, "<|im_start|>assistant\n<think>\nFirst,"),
        (OPENS, {"content": "<think>\nFirst,"}, "<|A|><think>\nFirst,"),
        (OPENS, {"content": "First,"}, "<|A|><think>\nFirst,"),
        (SHOWS_LAST_THOUGHT, {"content": "<think>\nFirst,"}, "<|im_start|>assistant\n<think>\nFirst,"),
        (SHOWS_LAST_THOUGHT, {"reasoning_content": "First,"}, "<|im_start|>assistant\n<think>\nFirst,"),
        (SHOWS_LAST_THOUGHT, {"thinking": "No.", "content": "So"}, "assistant\n<think>\nNo.\n</think>\n\nSo"),
        (SWITCHES_OFF, {"content": "It "}, "<think>\n\n</think>\n\nIt "),
        (BRACKETS, {"reasoning": "No.", "content": "So"}, "[/INST][THINK]No.[/THINK]So"),
        (HARMONY, {"thinking": "No."}, "<|start|>assistant<|channel|>analysis<|message|>No."),
    ],
)
def test_a_last_assistant_message_is_continued(template, prefill, end):
    assert chat(template, USER, {"role": "assistant", **prefill}).endswith(end)


def test_a_tool_call_cannot_be_continued():
    with pytest.raises(InvalidRequest, match="add the tool's answer"):
        chat(CHATML, USER, {"role": "assistant", "tool_calls": [{"id": "1"}]})


def test_a_thought_reaches_the_template_by_the_name_it_knows():
    middle = {"role": "assistant", "content": "So", "reasoning_content": "No."}
    assert "[THINK]No.[/THINK]So</s>" in chat(BRACKETS, USER, middle, USER)


def test_arguments_of_a_tool_call_are_not_quoted_twice():
    template = CHATML.replace("{{ m.content }}", "{{ m.content }}{% for c in m.tool_calls or [] %}"
                              "{{ c.function.arguments | tojson }}{% endfor %}")  # fmt: skip
    call = {"function": {"name": "look", "arguments": '{"at": 1}'}}
    text = chat(template, USER, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "yes"})
    assert '{"at": 1}' in text


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{{ messages[99].content }}", "no element 99"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages | sum }}", "unsupported operand"),
    ],
)
def test_whatever_a_template_raises_is_one_typed_error(template, words):
    with pytest.raises(InvalidRequest, match=f"{words}.*give the prompt as text or token ids"):
        chat(template, USER)


DROPS = (
    "{% for m in messages %}{% if m.role in ('system', 'user', 'assistant') %}<{{ m.role }}>{{ m.content | trim }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_what_a_template_would_silently_leave_out_is_refused():
    with pytest.raises(InvalidRequest, match="leaves out message 1 of role 'tool'"):
        chat(DROPS, USER, {"role": "tool", "content": "42 degrees"})


def test_a_developer_is_the_system_where_the_template_knows_no_developer():
    spoken = {"role": "developer", "content": "Be brief."}
    assert chat(DROPS, spoken, USER) == "<system>Be brief.<user>Is it so?<assistant>"
    assert "<|im_start|>developer\nBe brief." in chat(CHATML, spoken, USER)


TOOLS = (
    "{% for m in messages %}"
    "{% if m.role == 'tool' %}"
    "{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}"
    "\n<tool_response>\n{{ m.content }}\n</tool_response>"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>\n{% endif %}"
    "{% else %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content and loop.last %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m.content }}"
    "{% for call in m.tool_calls or [] %}\n<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}"
    "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""In the manner of Qwen3: earlier thoughts are dropped, tools speak as users."""
CALL = {"type": "function", "function": {"name": "add", "arguments": '{"a": 17}'}}


def of_a_turn(template: str):
    compiled = jinja2.Environment().from_string(template)

    def render(given, opened):
        return compiled.render(messages=given, add_generation_prompt=opened)

    return render, ChatFormat.of(render, template)


def test_what_stands_between_two_turns_is_the_templates():
    said = [{"role": "tool", "content": "42"}, {"role": "tool", "content": "43"}]
    assert between(said, *of_a_turn(TOOLS)) == (
        "<|im_end|>\n<|im_start|>user\n<tool_response>\n42\n</tool_response>\n<tool_response>\n43\n</tool_response>"
        "<|im_end|>\n<|im_start|>assistant\n"
    )
    assert between([], *of_a_turn(TOOLS)) == "<|im_end|>\n<|im_start|>assistant\n"
    assert between([USER], *of_a_turn(OPENS)) == "<|end_of_text|><|U|>Is it so?<|A|><think>\n"


def test_a_turn_is_written_as_the_model_writes_it():
    turn = {"role": "assistant", "content": "Let me add.", "reasoning_content": "Hm.", "tool_calls": [CALL]}
    assert spoken(turn, *of_a_turn(TOOLS)) == (
        '<think>\nHm.\n</think>\n\nLet me add.\n<tool_call>\n{"arguments": {"a": 17}, "name": "add"}\n</tool_call>'
    )
    assert spoken({"role": "assistant", "content": "a<think>b"}, *of_a_turn(TOOLS)) == "a<think>b"


@pytest.mark.parametrize("template", [CHATML, OPENS])
def test_tool_calls_that_a_template_does_not_write_are_refused(template):
    with pytest.raises(InvalidRequest, match="give the turn's `token_ids`"):
        spoken({"role": "assistant", "content": "", "tool_calls": [CALL]}, *of_a_turn(template))


def test_what_a_template_refuses_between_turns_is_said():
    with pytest.raises(InvalidRequest, match="give the turn's `token_ids`"):
        between([{"role": "tool", "content": "42"}], *of_a_turn(BRACKETS.replace("</s>", "{{ 1 / 0 }}")))
