"""Another's vLLM over its real routes, served in this process over the one running engine."""

from __future__ import annotations

import logging

import httpx
import numpy as np
import pytest

from opera_client.errors import Unavailable
from opera_service.engines.base import GenerationRequest
from opera_service.engines.vllm import http as vllm_http
from opera_service.engines.vllm.rollout import RolloutEngine
from opera_service.scoring.tree import ROOT, TreeBuilder

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def connect(engine, *flags: str) -> RolloutEngine:
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    llm = engine.running()._llm
    args = make_arg_parser(FlexibleArgumentParser()).parse_args(
        ["--model", engine._model, "--skip-tokenizer-init", *flags]
    )
    app = build_app(args, ("generate",), llm.model_config)
    await init_app_state(llm, app.state, args, ("generate",))
    return await vllm_http.connect(
        "http://vllm", vocab_size=engine.info.vocab_size, transport=httpx.ASGITransport(app)
    )


TELLS = "--enable-prompt-tokens-details"


async def test_prefixes_are_shared(engine, old, group):
    http = await connect(engine, TELLS)
    assert http.info.route == "prefix-cache"
    tree = group(70, prompt=64, cuts=[[32, 96, 410], [200, 201]], reference=8)
    for _ in range(2):
        (scores,) = await http.score([tree])
        assert old.error(tree, scores) < 1e-4
    assert scores.tokens_computed < tree.num_tokens
    assert http.health().ok
    await http.aclose()


async def test_a_server_that_hides_its_cache_computes_every_context_in_full(engine, old, group, caplog):
    with caplog.at_level(logging.WARNING, "opera_service"):
        http = await connect(engine)
    assert TELLS in caplog.text
    tree = group(71, prompt=40, cuts=[[33, 64]], reference=5)
    (scores,) = await http.score([tree])
    assert old.error(tree, scores) < 1e-4
    assert scores.tokens_computed == tree.naive_tokens
    assert http.info.route == "recomputed"
    await http.aclose()


async def test_most_likely_tokens(engine, old):
    http = await connect(engine, TELLS)
    ids = np.random.default_rng(72).integers(0, 512, 60)
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, ids[:50]), ids[50:])
    tree = builder.build(want_top=3)
    (scores,) = await http.score([tree])
    np.testing.assert_array_equal(scores.top_ids, np.argsort(-old.logits(ids)[49:59], axis=1)[:, :3])
    assert old.error(tree, scores) < 1e-4
    await http.aclose()


async def test_branches_equal_the_engine_in_process(engine):
    http = await connect(engine)
    request = GenerationRequest(np.arange(20, dtype=np.int32), n=2, max_tokens=6, seed=3)
    (over_http,) = await http.generate([request])
    (in_process,) = await engine.generate([request])
    assert [list(one.token_ids) for one in over_http] == [list(one.token_ids) for one in in_process]
    await http.aclose()


async def test_a_server_that_is_not_there():
    with pytest.raises(Unavailable, match="--vllm-url"):
        await vllm_http.connect("http://127.0.0.1:9", vocab_size=512)
