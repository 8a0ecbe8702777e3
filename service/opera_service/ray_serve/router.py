"""Routes all members of a group to one replica, and everything else to the less busy of two.

Runs inside Serve's proxies. A group's replica is the highest by rendezvous hashing, which all proxies compute
alike; a proxy that has routed a member of a group stays with its choice while that replica lives, so that a new
replica splits no group that has begun. It knows one header.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from hashlib import sha256

from ray.serve._private.request_router import PowerOfTwoChoicesRequestRouter
from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from opera_client._routing import GROUP_HEADER

REMEMBERED = 65_536
"""Groups that a proxy remembers the replica of."""
MEMBER_PATHS = ("/reward/member", "/openrlhf/reward")
"""Where groups gather. A caller that names none gets one replica for all, as OpenRLHF, which sends no header."""
_HEADER = GROUP_HEADER.lower().encode()


class GroupRouter(PowerOfTwoChoicesRequestRouter):  # type: ignore[misc]
    """See the module."""

    # Serve's own router hands a chosen replica to whichever request waits longest. Ours must go where it was put.
    _fulfill_next_pending_request = RequestRouter._fulfill_next_pending_request

    def initialize_state(self) -> None:
        """Begin with no group routed anywhere."""
        self.homes: OrderedDict[bytes, ReplicaID] = OrderedDict()

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the one replica of the request's group, or two to choose from."""
        group = None if pending_request is None else group_of(pending_request.args)
        if pending_request is None or group is None or not candidate_replicas:
            return await super().choose_replicas(candidate_replicas, pending_request)  # type: ignore[no-any-return]
        pending_request.routing_context.should_backoff = True  # a full replica is asked again, not passed over
        by_id = {replica.replica_id: replica for replica in candidate_replicas}
        home = self.homes.get(group)
        if home not in by_id:
            home = max(by_id, key=lambda replica: rank(group, replica.unique_id))
            self.homes[group] = home
            if len(self.homes) > REMEMBERED:
                self.homes.popitem(last=False)
        self.homes.move_to_end(group)
        return [[by_id[home]]]


def rank(group: bytes, replica: str) -> bytes:
    """Return the replica's rank for a group: the same in every process."""
    return sha256(group + b"\0" + replica.encode()).digest()


def group_of(args: list[object]) -> bytes | None:
    """Return the group that a request from Serve's HTTP proxy is for; None when any replica will do."""
    if not args or not isinstance(args[0], bytes):
        return None
    # Serve's own message from its proxy to a replica, which unpickles it, too.
    scope = pickle.loads(args[0])._asgi_scope
    named = (bytes(value) for name, value in scope["headers"] if name == _HEADER)
    return next(named, scope["path"].encode() if scope["path"] in MEMBER_PATHS else None)
