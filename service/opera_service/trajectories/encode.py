"""A group of the wire becomes token ids: every trajectory by itself, so that a bad one spoils no other.

Knows the wire and tokenizers; no reward, no engine. Right and wrong (`outcome`) are judged elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np

from opera_client.errors import EmptyContext, EmptyResponse, InvalidRequest, OperaError
from opera_client.wire import Group, Trajectory
from opera_service.scoring.tree import Ids, as_ids
from opera_service.trajectories.control_prompts import control_paragraphs
from opera_service.trajectories.encode_ids import LINE_END, differ, encode_ids, without_end
from opera_service.trajectories.encode_text import encode_text, standalone
from opera_service.trajectories.encode_turns import encode_turns
from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory
from opera_service.trajectories.encoding_config import EncodingConfig, ResolvedEncoding
from opera_service.trajectories.field_tokenizer import FieldTokenizer, given_field
from opera_service.trajectories.group_path import GroupPath
from opera_service.trajectories.patience import must_be_wanted
from opera_service.trajectories.reference import Reference, read_references
from opera_service.trajectories.think import PromptThought, prompt_thought
from opera_service.trajectories.tokenizer import Tokenizer
from opera_service.trajectories.turn_texts import texts_differ
from opera_service.trajectories.turn_tokens import read_turns


@dataclass(frozen=True)
class GroupEncoding:
    """What became of one group."""

    group: EncodedGroup | None
    """The good trajectories in the order of the request; None when there is none."""
    errors: dict[int, OperaError]
    """By position in the request: why a trajectory could not be encoded."""


def encode_group(
    group: Group,
    index: int,
    fields: FieldTokenizer,
    rules: EncodingConfig,
    path: GroupPath | None = None,
    *,
    needs_reference: bool = True,
) -> GroupEncoding:
    """Encode the group at `index` of a request; `rules` is a reward's configuration.

    `path` says how errors call the group's fields; by default by their place in the request. A wrong prompt or
    reference is an error of every trajectory. Without `needs_reference` there is none, given or not. Raises
    nothing of a request's making.
    """
    path = path or GroupPath(index)
    fields = replace(fields, add_special_tokens=rules.context.add_special_tokens)
    try:
        if not needs_reference:
            group = group.model_copy(update={"reference": None, "reference_token_ids": None})
        resolved = ResolvedEncoding.of(rules, fields.tokenizer.tags)
        common = _Common.read(group, path, fields, resolved, needs_reference=needs_reference)
    except OperaError as error:
        return GroupEncoding(None, dict.fromkeys(range(len(group.trajectories)), error))
    encoded: list[EncodedTrajectory] = []
    errors: dict[int, OperaError] = {}
    for position, trajectory in enumerate(group.trajectories):
        must_be_wanted()
        try:
            if trajectory.has_turns:
                encoded.append(common.encode_turns(trajectory, position, path))
            else:
                encoded.append(common.encode(trajectory, position, path.response(position)))
        except OperaError as error:
            errors[position] = error
    if not encoded:
        return GroupEncoding(None, errors)
    return GroupEncoding(
        EncodedGroup(
            id=str(index) if group.group_id is None else group.group_id,
            task=group.task,
            prompt_ids=common.prompt_ids,
            initial=common.initial,
            bridge=common.bridge,
            reference_ids=common.reference.ids,
            reference=common.reference.text,
            alternatives=tuple((one.text, one.ids) for one in common.references[1:]),
            close=common.close,
            line_end=common.line_end,
            trajectories=tuple(encoded),
            controls=common.controls,
            prompt=common.prompt,
            start=common.start,
        ),
        errors,
    )


@dataclass(frozen=True)
class _Common:
    """What all trajectories of a group share."""

    fields: FieldTokenizer
    rules: ResolvedEncoding
    prompt: str
    prompt_ids: Ids
    opened: PromptThought
    initial: Ids
    bridge: Ids
    references: tuple[Reference, ...]
    close: Ids
    line_end: Ids
    controls: tuple[Ids, ...]
    chat: bool
    """The prompt came as messages, so the model's template writes what stands between turns, too."""
    flags: tuple[str, ...]
    """Of every trajectory: what is odd about prompt and references."""

    @classmethod
    def read(
        cls,
        group: Group,
        path: GroupPath,
        fields: FieldTokenizer,
        rules: ResolvedEncoding,
        *,
        needs_reference: bool,
    ) -> _Common:
        tokenizer, context = fields.tokenizer, rules.context
        prompt_ids = fields.prompt(group.prompt, group.prompt_token_ids, path.field("prompt"))
        prompt_field = given_field(path.field("prompt"), group.prompt_token_ids)
        prompt = tokenizer.decode(prompt_ids, skip_special=True)
        opened = prompt_thought(tokenizer.to_bytes(prompt_ids), rules.think, tokenizer.header.encode())
        if context.mode == "text":
            prompt_ids = fields.checked(standalone(prompt, tokenizer), prompt_field)
            initial = standalone(prompt + rules.think.open, tokenizer)
        elif opened == "unopened":
            initial = np.concatenate([prompt_ids, tokenizer.encode_inside(context.opening or "")])
        else:
            initial = prompt_ids
        if not len(prompt_ids):
            raise EmptyContext("the prompt has no tokens; give what the policy was asked", field=prompt_field)
        references = (
            read_references(group, path.field("reference"), fields, rules)
            if needs_reference
            else [Reference("", as_ids([]))]
        )
        # Where the prompt has closed the thought, nothing is left to close.
        close = tokenizer.encode_inside("" if opened == "closed" else context.bridge or "")
        bridge = np.concatenate([close, tokenizer.encode_inside(context.label)])
        longest = max(len(one.ids) for one in references)
        fixed = len(initial) + len(bridge) + longest
        fields.check_length(prompt_field, prompt=len(initial), bridge=len(bridge), reference=longest)
        paragraphs = control_paragraphs(prompt) if context.controls else ()
        controls = map(tokenizer.encode_inside, paragraphs)
        return cls(
            fields=fields,
            rules=rules,
            prompt=prompt,
            prompt_ids=prompt_ids,
            opened=opened,
            initial=fields.checked(initial, prompt_field),
            bridge=fields.checked(bridge, "config.context.bridge"),
            references=tuple(references),
            close=close,
            line_end=tokenizer.encode_inside(LINE_END),
            controls=tuple(ids for ids in controls if fixed + len(ids) <= fields.max_context),
            chat=isinstance(group.prompt, list),
            flags=tuple(dict.fromkeys(chain(_prompt_flags(group, tokenizer), *(one.flags for one in references)))),
        )

    @property
    def start(self) -> Ids:
        """What this tokenizer puts before every text, where the prompt has it."""
        start = as_ids(self.fields.tokenizer.start_ids)
        return start if np.array_equal(self.prompt_ids[: len(start)], start) else start[:0]

    @property
    def reference(self) -> Reference:
        return self.references[0]

    def encode(self, trajectory: Trajectory, position: int, field: str) -> EncodedTrajectory:
        name = str(position) if trajectory.id is None else trajectory.id
        given = trajectory.response_token_ids
        response = self.fields.tokens(trajectory.response, given, field)
        field = given_field(field, given)
        if not len(response):
            raise EmptyResponse("the response has no tokens; leave it out, or send what was written", field=field)
        tokenizer, text = self.fields.tokenizer, trajectory.response
        if self.rules.context.mode == "text":
            found = encode_text(
                name, response, text,
                prompt=self.prompt, initial=self.initial, tokenizer=tokenizer, rules=self.rules,
                check=lambda context: self.check_fits(len(self.fields.checked(context, field)), field),
            )  # fmt: skip
            return replace(found, flags=(*found.flags, *self.flags))
        found = encode_ids(
            name, response, text,
            prompt=self.prompt_ids, initial=self.initial, opened=self.opened,
            tokenizer=tokenizer, rules=self.rules,
        )  # fmt: skip
        return self._fitting(found, field)

    def encode_turns(self, trajectory: Trajectory, position: int, path: GroupPath) -> EncodedTrajectory:
        """Encode a trajectory that says which tokens are the policy's."""
        field = path.own(position, "turns" if trajectory.turns is not None else "response_mask")
        if self.rules.context.mode == "text":
            raise InvalidRequest(
                "this preset decodes a response and tokenises it again, which knows no turns; use another preset, "
                "or context.mode ids",
                field=field,
            )
        name = str(position) if trajectory.id is None else trajectory.id
        named = partial(path.own, position)
        tokens = read_turns(trajectory, self.fields, named, self.prompt_ids, chat=self.chat)
        # Before the work: encoding copies the whole path for every turn.
        start, end = tokens.turns[-1]
        length = start + without_end(tokens.ids[start:end], self.fields.tokenizer)
        self.check_fits(len(self.prompt_ids) + length, field)
        found = encode_turns(
            name, tokens,
            prompt=self.prompt_ids, initial=self.initial, opened=self.opened,
            tokenizer=self.fields.tokenizer, rules=self.rules,
        )  # fmt: skip
        if texts_differ(trajectory, tokens, self.fields.tokenizer):
            found = replace(found, flags=(*found.flags, "text_ids_differ"))
        return self._fitting(found, field)

    def _fitting(self, found: EncodedTrajectory, field: str) -> EncodedTrajectory:
        self.check_fits(len(found.full), field)
        return replace(found, flags=(*found.flags, *self.flags))

    def check_fits(self, context: int, field: str) -> None:
        """Raise `ContextTooLong` when bridge and reference do not fit after `context` tokens."""
        prompt = min(len(self.prompt_ids), context)
        self.fields.check_length(
            field,
            prompt=prompt,
            response=context - prompt,
            bridge=len(self.bridge),
            reference=max(len(one.ids) for one in self.references),
        )


def _prompt_flags(group: Group, tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return `prompt_text_ids_differ` where a text stands beside ids that say something else; they are read."""
    text, ids = group.prompt, group.prompt_token_ids
    if not isinstance(text, str) or ids is None or not differ(text, as_ids(ids), tokenizer):
        return ()
    return ("prompt_text_ids_differ",)
