"""Groups of the demo's world, encoded for real with the byte tokenizer."""

from collections.abc import Callable, Sequence

import pytest

from opera_client.wire import Group, Trajectory
from opera_service.rewards.catalog.opera import OperaConfig
from opera_service.trajectories.byte_tokenizer import ByteTokenizer
from opera_service.trajectories.encode import encode_group
from opera_service.trajectories.encoded import EncodedGroup
from opera_service.trajectories.field_tokenizer import FieldTokenizer

Encode = Callable[..., EncodedGroup]


@pytest.fixture(scope="session")
def encode() -> Encode:
    tokenizer = ByteTokenizer()

    def encoded(responses: Sequence[str], *, prompt: str = "A question.\n", reference: str = "42") -> EncodedGroup:
        group = Group(prompt=prompt, reference=reference, trajectories=[Trajectory(response=r) for r in responses])
        encoding = encode_group(group, 0, FieldTokenizer(tokenizer, tokenizer.vocab_size, 100_000), OperaConfig())
        assert encoding.group is not None
        assert not encoding.errors
        return encoding.group

    return encoded
