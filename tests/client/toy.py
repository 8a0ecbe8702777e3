"""A scripted service that speaks the wire: it does the arithmetic of a toy reward and fails as it is told."""

import asyncio
import json
from collections.abc import Callable

MODEL = {"name": "toy", "revision": "sha256:0", "weight_version": "7", "dtype": "float64", "engine": "toy"}


def toy_reward(response: str) -> float:
    return len(response) / 100


def toy_group(position: int, group: dict) -> dict:
    trajectories = [
        {
            "id": t.get("id", str(place)),
            "status": "ok",
            "reward": toy_reward(t["response"]),
            "components": {"length": toy_reward(t["response"])},
        }
        if t["response"]
        else {
            "id": t.get("id", str(place)),
            "status": "error",
            "error": {"code": "empty_response", "message": "no tokens"},
        }
        for place, t in enumerate(group["trajectories"])
    ]
    scored = sum(t["status"] == "ok" for t in trajectories)
    return {
        "group_id": group.get("group_id", str(position)),
        "size": len(trajectories),
        "scored": scored,
        "initial_mean_logprob": -2.0 if scored else None,
        "reference_tokens": 3,
        "trajectories": trajectories,
    }


def toy_reward_answer(request: dict, model: dict = MODEL) -> dict:
    return {
        "model": model,
        "reward": request["reward"],
        "preset": request["preset"],
        "config_hash": "c0",
        "groups": [toy_group(i, g) for i, g in enumerate(request["groups"])],
        "usage": {"tokens_naive": 100, "tokens_computed": 10, "scored_tokens": 3},
        "timing_ms": {"encode": 1.0, "queue": 2.0, "engine": 3.0, "total": 6.0},
    }


def toy_rank_answer(request: dict) -> dict:
    def item(position: int, asked: dict) -> dict:
        lengths = [len(c) for c in asked["candidates"]]
        ranking = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
        return {
            "id": asked.get("id", str(position)),
            "status": "ok",
            "ranking": ranking,
            "candidates": [
                {"status": "ok", "score": float(n), "rank": ranking.index(i)} for i, n in enumerate(lengths)
            ],
        }

    answer = toy_reward_answer({"reward": "", "preset": "", "groups": []})
    return {
        **{key: answer[key] for key in ("model", "usage", "timing_ms")},
        "items": [item(i, asked) for i, asked in enumerate(request["items"])],
    }


class Service:
    """An ASGI app. `script` holds what to do instead of answering, one entry a request; `fail` decides by it."""

    def __init__(self) -> None:
        self.script: list[tuple[int, dict, bytes] | Callable] = []
        self.fail: Callable[[dict], tuple[int, dict, bytes] | None] = lambda request: None
        self.seen: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.events: list[str] = []
        self.delay: Callable[[], float] = lambda: 0.0
        self.hold: Callable[[dict], bool] = lambda request: False
        """Whether the answer to a request is kept back for now."""
        self.in_flight = self.most_in_flight = 0
        self.answer: Callable[[str, dict], dict] = self._answer

    def _answer(self, path: str, request: dict) -> dict:
        if path == "/reward":
            return toy_reward_answer(request)
        if path == "/rank":
            return toy_rank_answer(request)
        if path == "/model":
            return {**MODEL, "route": "", "vocab_size": 9, "max_context": 99, "max_batch_tokens": 99}
        if path == "/health":
            return {"status": "ok"}
        raise AssertionError(path)

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            status, headers, body = await self._handle(scope, receive)
        finally:
            self.in_flight -= 1
        named = [(k.lower().encode(), v.encode()) for k, v in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": named})
        await send({"type": "http.response.body", "body": body})

    async def _handle(self, scope: dict, receive: Callable) -> tuple[int, dict, bytes]:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        request = json.loads(body) if body else {}
        self.seen.append(request)
        self.headers.append({k.decode().lower(): v.decode() for k, v in scope["headers"]})
        step = self.script.pop(0) if self.script else self.fail(request)
        await asyncio.sleep(self.delay())
        while self.hold(request):  # noqa: ASYNC110  another thread lets it go
            await asyncio.sleep(0.01)
        if callable(step):
            raise step()
        if step is not None:
            return step
        return 200, {}, json.dumps(self.answer(scope["path"], request)).encode()

    async def _live(self, receive: Callable, send: Callable) -> None:
        await receive()
        self.events.append("started")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.events.append("stopped")
        await send({"type": "lifespan.shutdown.complete"})


def refusal(status: int, code: str, headers: dict | None = None, **more: object) -> tuple[int, dict, bytes]:
    body = {"error": {"code": code, "message": "do something", "retryable": False, **more}}
    return status, headers or {}, json.dumps(body).encode()


def group(*responses: str, **more: object) -> dict:
    return {
        "prompt": "p",
        "reference": "r",
        "trajectories": [{"response": response} for response in responses],
        **more,
    }
