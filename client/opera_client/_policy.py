"""The calls about the policy's weights: which serve, and others in their place. A part of `AsyncRewardClient`."""

from __future__ import annotations

from pathlib import Path

from opera_client._connection import Connection
from opera_client._http import ask
from opera_client._parse import validated
from opera_client._retry import Backoff, Deadline
from opera_client._weights import WeightBody
from opera_client.wire import PolicyInfo, PolicyLoadRequest, PolicyLoadResult


class PolicyCalls:
    """Needs the client's connection, its timeout in seconds, and its retries."""

    _connection: Connection
    _timeout: float | None
    _backoff: Backoff

    async def policy(self) -> PolicyInfo:
        """Return which weights serve, since when, and the canary that tells weights apart."""
        http = await self._connection.open()
        return await ask(
            http, PolicyInfo, "GET", "/policy", deadline=Deadline(self._timeout), backoff=self._backoff
        )

    async def push_weights(
        self,
        weights: Path | str | bytes,
        version: str,
        *,
        canary_logprob: float | None = None,
        request_id: str | None = None,
    ) -> PolicyLoadResult:
        """Send weights and return when they serve; needs an admin key.

        A retry after a lost answer is harmless: the same weights under the same version change nothing.

        Args:
            weights: a safetensors file, a folder of one checkpoint, or the bytes of a file, as
                `safetensors.torch.save(model.state_dict())` makes them. Names are those of `state_dict()`.
            version: names these weights for ever; later answers carry it.
            canary_logprob: the mean log-probability of `policy().canary` on the sender's own model. Weights that
                give another number are refused.
            request_id: sent as `X-Request-Id`.

        Raises:
            OperaError: the old weights serve on. `InvalidWeights` names the tensor, `CanaryMismatch` both numbers.
        """
        deadline = Deadline(self._timeout)
        validated(
            PolicyLoadRequest, {"path": "-", "weight_version": version, "canary_logprob": canary_logprob}, ""
        )
        body = WeightBody.of(weights)
        headers = {
            "X-Weight-Version": version,
            "X-Checksum-Sha256": await body.sha256(),
            "Content-Length": str(body.size),
        }
        if canary_logprob is not None:
            headers["X-Canary-Logprob"] = repr(float(canary_logprob))
        http = await self._connection.open()
        return await ask(
            http, PolicyLoadResult, "PUT", "/policy/weights", content=body.pieces, headers=headers,
            deadline=deadline, backoff=self._backoff, request_id=request_id,
        )  # fmt: skip

    async def load_policy(
        self, path: str, version: str, *, canary_logprob: float | None = None, request_id: str | None = None
    ) -> PolicyLoadResult:
        """Let the service read weights from its own disk, below a `--policy-root`; else as `push_weights`."""
        fields = {"path": str(path), "weight_version": version, "canary_logprob": canary_logprob}
        body = validated(PolicyLoadRequest, fields, "")
        http = await self._connection.open()
        return await ask(
            http, PolicyLoadResult, "POST", "/policy/load", body=body, deadline=Deadline(self._timeout),
            backoff=self._backoff, request_id=request_id,
        )  # fmt: skip
