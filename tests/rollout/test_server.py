"""A real `vllm serve` with the plug-in beside one without it: plain HTTP, nothing of ours in between."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.rollout.conftest import BLOCK, NATS, Scored

from opera_vllm import FIRST_ROW

REFERENCE = 33


@dataclass
class Server:
    http: httpx.Client
    model: str

    def complete(self, prompt: list[int], **body: Any) -> dict[str, Any]:
        answer = self.http.post("/v1/completions", json={"model": self.model, "prompt": prompt, **body})
        return answer.raise_for_status().json()

    def roll_out(self, prompt: list[int], *, seed: int, tokens: int = 300) -> tuple[list[int], list[float]]:
        sampling = {"seed": seed, "temperature": 1.0, "max_tokens": tokens, "ignore_eos": True}
        (choice,) = self.complete(prompt, **sampling, return_token_ids=True, logprobs=0)["choices"]
        return choice["token_ids"], choice["logprobs"]["token_logprobs"]

    def score(self, ids: list[int], start: int) -> Scored:
        asked = {"max_tokens": 1, "temperature": 0, "prompt_logprobs": 0, "vllm_xargs": {FIRST_ROW: start - 1}}
        answer = self.complete(ids, **asked)
        first, *rows = answer["choices"][0]["prompt_logprobs"]
        assert first is None
        logprobs = [row[str(target)]["logprob"] for row, target in zip(rows, ids[start:], strict=True)]
        return Scored(ids, start, np.array(logprobs), answer["usage"]["prompt_tokens_details"]["cached_tokens"])


@contextmanager
def serve(model: Path, **environment: str) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "2048"]
    flags += ["--block-size", str(BLOCK), "--enforce-eager", "--enable-prompt-tokens-details"]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), *flags]
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1", **environment}
    log = Path(os.environ["VLLM_CACHE_ROOT"]).parent / f"vllm-{port}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as http:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait(http, process, log)
            yield Server(http, str(model))
        finally:
            process.terminate()
            process.wait(60)


def wait(http: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 240
    while time.monotonic() < until:
        try:
            if http.get("/health").is_success:
                return
        except httpx.TransportError:
            if process.poll() is not None:
                break
        time.sleep(0.5)
    pytest.fail(f"the server did not start; the end of {log}:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def server(model) -> Iterator[Server]:
    with serve(model) as running:
        yield running


@pytest.fixture(scope="module")
def without_plugin(model, prompt) -> dict[int, tuple[list[int], list[float]]]:
    """What a server without the plug-in wrote, by seed."""
    with serve(model, VLLM_PLUGINS="none") as bare:
        return {seed: bare.roll_out(prompt(seed), seed=seed) for seed in (1, 2, 3)}


def test_rollouts_are_those_of_a_server_without_it_and_scores_are_cheap(server, without_plugin, oracle, prompt):
    for seed, (response, logprobs) in without_plugin.items():
        assert server.roll_out(prompt(seed), seed=seed) == (response, logprobs)
        ids = prompt(seed) + response
        cuts = np.linspace(len(prompt(seed)), len(ids), 16).astype(int).tolist()
        scored = [server.score(ids[:cut] + prompt(9)[:REFERENCE], cut) for cut in cuts]
        assert max(map(oracle.error, scored)) < NATS
        computed = sum(one.computed for one in scored)
        assert computed <= 16 * (REFERENCE + BLOCK)
        assert computed < sum(len(one.ids) for one in scored) / 3


def test_32_scores_at_once_while_rollouts_run(server, without_plugin, oracle, prompt):
    ids = prompt(1) + without_plugin[1][0]
    asked = [(ids[:cut] + prompt(10)[:REFERENCE], cut) for cut in range(100, 100 + 32 * 8, 8)]
    with ThreadPoolExecutor(40) as threads:
        rollouts = {seed: threads.submit(server.roll_out, prompt(seed), seed=seed) for seed in without_plugin}
        scored = list(threads.map(lambda one: server.score(*one), asked))
    assert {seed: rollout.result() for seed, rollout in rollouts.items()} == without_plugin
    assert max(map(oracle.error, scored)) < NATS


def test_a_context_that_is_cached_whole(server, without_plugin, oracle, prompt):
    """Without the plug-in such a request loses rows, or gets some from memory that nobody wrote."""
    ids = prompt(2) + without_plugin[2][0]
    for _ in range(3):
        assert oracle.error(server.score(ids, 2 * BLOCK)) < NATS
    assert server.http.get("/health").is_success
