"""Chat messages as trainers send them become messages that a chat template reads right.

A thought has several names, arguments of tool calls may be JSON in a string, a last assistant message is to be
continued. What a template would silently leave out is refused. Knows no tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from opera_client.errors import InvalidRequest
from opera_client.wire import THOUGHT_KEYS
from opera_service.failures import reason_of
from opera_service.trajectories.chat_format import ChatFormat, Render


def rendered(messages: Sequence[Mapping[str, Any]], render: Render, form: ChatFormat) -> str:
    """Return the prompt's text, ready for the assistant; a last assistant message is continued, not closed.

    Raises `InvalidRequest` when the template refuses the messages or leaves out what one says.
    """
    plain = [_plain(message, f"message {number}", form) for number, message in enumerate(messages)]
    prefill = ""
    if plain and plain[-1]["role"] == "assistant":
        if plain[-1].get("tool_calls"):
            raise InvalidRequest(
                "the last message is an assistant's tool call, which cannot be continued; add the tool's answer"
            )
        prefill = written(plain.pop(), form)
    text = _render(plain, render)
    if prefill and text.rstrip().endswith(form.tags.open) and prefill.lstrip().startswith(form.tags.open):
        prefill = prefill.lstrip().removeprefix(form.tags.open).lstrip("\n")
    return text + prefill


def written(message: Mapping[str, Any], form: ChatFormat) -> str:
    """Return an assistant's message as the model writes it: thought, tags, answer."""
    thought = next((message[key] for key in THOUGHT_KEYS if message.get(key)), None)
    content = str(message.get("content") or "")
    if thought is None:
        return content
    block = form.tags.opening + str(thought)
    if not content:
        return block
    gap = "\n" if form.tags.opening.endswith("\n") and not str(thought).endswith("\n") else ""
    return block + gap + form.tags.bridge + content


def spoken(message: Mapping[str, Any], render: Render, form: ChatFormat) -> str:
    """Return one turn of the assistant as the model writes it, with its tool calls, without its end.

    Raises `InvalidRequest` when the template does not say how its tool calls are written.
    """
    if not message.get("tool_calls"):
        return written(message, form)
    plain = _plain(message, "the turn", form)
    opened = _render([_ASKED], render)
    try:
        whole = render([_ASKED, plain], False)
    except Exception as error:
        raise InvalidRequest(
            f"the model's chat template refused tool calls ({reason_of(error)}); {_OF_A_TURN}"
        ) from error
    names = [call["function"]["name"] for call in plain["tool_calls"] if _names_a_function(call)]
    text = whole.removeprefix(opened)
    if text == whole or not names or not all(name in text for name in names):
        raise InvalidRequest(f"the model's chat template does not write the tool calls of this turn; {_OF_A_TURN}")
    return text.removesuffix(form.endings[0]) if form.endings else text


def between(messages: Sequence[Mapping[str, Any]], render: Render, form: ChatFormat) -> str:
    """Return what the template writes from an assistant's last word to its next turn's first: `messages` between.

    Raises `InvalidRequest` when it refuses them or leaves one out.
    """
    plain = [_plain(message, f"message {number}", form) for number, message in enumerate(messages)]
    try:
        text = _render([_ASKED, _ANSWERED, *plain], render)
    except InvalidRequest as error:
        raise InvalidRequest(error.message.replace(_REMEDY, _OF_A_TURN)) from error
    _, found, rest = text.partition(_ANSWERED["content"])
    if not found:
        raise InvalidRequest(f"the model's chat template leaves out an assistant's turn; {_OF_A_TURN}")
    return rest


def _names_a_function(call: object) -> bool:
    return isinstance(call, Mapping) and isinstance(call.get("function"), Mapping) and "name" in call["function"]


def _plain(message: Mapping[str, Any], name: str, form: ChatFormat) -> dict[str, Any]:
    found = {key: value for key, value in message.items() if value is not None}
    found.setdefault("content", "")  # a template would write None as a word
    thoughts = [found.pop(key) for key in THOUGHT_KEYS if key in found]
    if thoughts and not all(isinstance(one, str) for one in thoughts):
        raise InvalidRequest(f"{name}: its thought is no text")
    if thoughts and thoughts[0]:
        found[form.thought_key or THOUGHT_KEYS[0]] = thoughts[0]
    if isinstance(found.get("tool_calls"), list):
        found["tool_calls"] = [_with_arguments(call) for call in found["tool_calls"]]
    return found


def _with_arguments(call: object) -> object:
    """Templates write arguments as JSON themselves; a string that holds JSON would be quoted twice."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except (KeyError, TypeError, ValueError):
        return call
    return {**call, "function": {**function, "arguments": arguments}} if isinstance(arguments, dict) else call


def _render(messages: Sequence[Mapping[str, Any]], render: Render) -> str:
    try:
        text = render(messages, True)
        lost = _left_out(messages, text)
    except Exception as error:  # noqa: BLE001  a template is a program of somebody else's
        text, lost = "", reason_of(error)
    if lost and any(message["role"] == "developer" for message in messages):
        # What OpenAI's newer models call the developer is the system to all others.
        renamed = [{**one, "role": "system"} if one["role"] == "developer" else one for one in messages]
        return _render(renamed, render)
    if lost:
        raise InvalidRequest(f"the model's chat template refused the messages ({lost}); {_REMEDY}")
    return text


_REMEDY = "give the prompt as text or token ids"
_OF_A_TURN = "give the turn's `token_ids`"
_ASKED = {"role": "user", "content": "Which medlar?"}
_ANSWERED = {"role": "assistant", "content": "Otters concur."}
"""Stand for the turns before: a template that drops earlier thoughts has none to drop."""


def _left_out(messages: Sequence[Mapping[str, Any]], text: str) -> str | None:
    """Say which message is not in the prompt; thoughts of earlier turns may be dropped, that is the custom."""
    for number, message in enumerate(messages):
        content = message["content"].strip()
        if message["role"] == "assistant":
            content = content[-40:].strip()
        if content and not _inside(content, text):
            return f"it leaves out message {number} of role {message['role']!r}"
    return None


def _inside(content: str, text: str) -> bool:
    """Whether every line of `content` is in the prompt: templates trim, indent and write JSON."""
    lines = (line.strip() for line in content.splitlines())
    return all(
        line in text or json.dumps(line)[1:-1] in text or json.dumps(line, ensure_ascii=False)[1:-1] in text
        for line in lines
    )
