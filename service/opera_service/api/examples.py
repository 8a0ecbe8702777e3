"""Example bodies for /docs, and the answers that the dummy engine gives to them (a test keeps them true)."""

from typing import Any


def _usage(naive: int, computed: int, scored: int) -> dict[str, Any]:
    tokens = {"tokens_naive": naive, "tokens_computed": computed, "scored_tokens": scored}
    spared = {"cache_hits": 0, "tokens_cached": 0, "recomputed_contexts": 0}
    return {**tokens, **spared, "route": "table", "route_reason": ""}


_MODEL = {
    "name": "dummy",
    "revision": "bigram-13",
    "weight_version": "0",
    "dtype": "float64",
    "engine": "dummy",
}
REWARD_REQUEST = {
    "groups": [
        {
            "group_id": "q1",
            "prompt": "What is 17 + 25?\n",
            "reference": "42",
            "trajectories": [
                {"id": "a", "response": "<think>\n17 + 25 is 32.\n\nWait, 7 + 5 carries: 42.\n\n</think>\n\n42"},
                {"id": "b", "response": "<think>\nI would say 32.\n\n</think>\n\n32"},
                {"id": "c", "response": ""},
            ],
        }
    ]
}
REWARD_RESULT = {
    "model": _MODEL,
    "second_model": None,
    "reward": "opera",
    "preset": "hardened",
    "config_hash": "506a4accecfb42dc3da8e340e1eaca8f4878d7bc6a62fb266a6ecb55a70d858c",
    "components": ["relative", "reflection", "answer", "precision", "relevance", "thought", "value"],
    "groups": [
        {
            "group_id": "q1",
            "size": 3,
            "scored": 2,
            "initial_mean_logprob": -4.981114,
            "reference_tokens": 2,
            "initial_token_logprobs": None,
            "reference_token_texts": None,
            "trajectories": [
                {
                    "id": "a",
                    "status": "ok",
                    "reward": 0.291586,
                    "components": {
                        "relative": 0.291586,
                        "reflection": 0.0,
                        "answer": 0.0,
                        "precision": 0.0,
                        "relevance": 0.0,
                        "thought": 0.0,
                        "value": -1.2,
                    },
                    "mean_logprob": -4.981114,
                    "sum_logprob": -9.962228,
                    "perplexity": 145.636556,
                    "segments": [
                        {
                            "index": 0,
                            "start": 1,
                            "end": 18,
                            "text": "17 + 25 is 32.",
                            "reflective": False,
                            "mean_logprob": -4.981114,
                            "gain": 0.0,
                            "credited": False,
                            "token_logprobs": None,
                        },
                        {
                            "index": 1,
                            "start": 18,
                            "end": 44,
                            "text": "Wait, 7 + 5 carries: 42.",
                            "reflective": True,
                            "mean_logprob": -4.981114,
                            "gain": 0.0,
                            "credited": False,
                            "token_logprobs": None,
                        },
                    ],
                    "token_logprobs": None,
                    "response_tokens": 49,
                    "steps": None,
                    "token_weights": None,
                    "token_rewards": None,
                    "references": None,
                    "flags": ["no_spread"],
                    "error": None,
                },
                {
                    "id": "b",
                    "status": "ok",
                    "reward": 0.291586,
                    "components": {
                        "relative": 0.291586,
                        "reflection": 0.0,
                        "answer": 0.0,
                        "precision": 0.0,
                        "relevance": 0.0,
                        "thought": 0.0,
                        "value": -1.2,
                    },
                    "mean_logprob": -4.981114,
                    "sum_logprob": -9.962228,
                    "perplexity": 145.636556,
                    "segments": [
                        {
                            "index": 0,
                            "start": 1,
                            "end": 19,
                            "text": "I would say 32.",
                            "reflective": False,
                            "mean_logprob": -4.981114,
                            "gain": 0.0,
                            "credited": False,
                            "token_logprobs": None,
                        }
                    ],
                    "token_logprobs": None,
                    "response_tokens": 24,
                    "steps": None,
                    "token_weights": None,
                    "token_rewards": None,
                    "references": None,
                    "flags": ["no_spread"],
                    "error": None,
                },
                {
                    "id": "c",
                    "status": "error",
                    "reward": None,
                    "components": None,
                    "mean_logprob": None,
                    "sum_logprob": None,
                    "perplexity": None,
                    "segments": None,
                    "token_logprobs": None,
                    "response_tokens": None,
                    "steps": None,
                    "token_weights": None,
                    "token_rewards": None,
                    "references": None,
                    "flags": [],
                    "error": {
                        "code": "empty_response",
                        "message": "the response has no tokens; leave it out, or send what was written",
                        "retryable": False,
                        "field": "groups.0.trajectories.2.response",
                        "request_id": None,
                    },
                },
            ],
            "diagnostics": {"margin": 0.05, "spread": 0.0, "informative": 0.0, "copies": 0.0},
            "message": "the members cannot be told apart by more than this scorer's noise, so all get the same "
            "reward; if most groups are like this, sample at a higher temperature or take a larger scorer",
        }
    ],
    "usage": _usage(457, 199, 26),
    "timing_ms": {"encode": 2.1, "queue": 0.4, "engine": 35.0, "total": 39.2},
    "ema_baseline": None,
}
RANK_REQUEST = {
    "items": [
        {"id": "x", "prompt": "What is 17 + 25?\n", "prefix": "<think>\n17 + 25 is 32.\n\n",
         "candidates": ["Wait, 7 + 5 carries.", "So it is 32."], "by": "branch"},
    ]
}  # fmt: skip
RANK_RESULT = {
    "model": _MODEL,
    "items": [
        {
            "id": "x",
            "status": "ok",
            "ranking": [0, 1],
            "candidates": [
                {
                    "status": "ok",
                    "score": -5.876304,
                    "mean_logprob": -5.876304,
                    "sum_logprob": -117.526087,
                    "perplexity": 356.489338,
                    "tokens": 20,
                    "rank": 0,
                    "error": None,
                },
                {
                    "status": "ok",
                    "score": -6.163336,
                    "mean_logprob": -6.163336,
                    "sum_logprob": -73.960037,
                    "perplexity": 475.01027,
                    "tokens": 12,
                    "rank": 1,
                    "error": None,
                },
            ],
            "error": None,
        }
    ],
    "usage": _usage(102, 65, 32),
    "timing_ms": {"encode": 2.1, "queue": 0.4, "engine": 35.0, "total": 39.2},
}
EXPAND_REQUEST = {
    "items": [
        {"id": "x", "prompt": "What is 17 + 25?\n", "prefix": "<think>\n17 + 25 is 32.\n\n", "n": 2,
         "guiding_words": ["Wait", "However"], "stop": ["But", "\n\n"], "max_tokens": 2, "top_p": 0.9, "seed": 35},
    ]
}  # fmt: skip
EXPAND_RESULT = {
    "model": _MODEL,
    "items": [
        {
            "id": "x",
            "status": "ok",
            "ranking": [1, 0],
            "candidates": [
                {
                    "status": "ok",
                    "score": -6.05894,
                    "mean_logprob": -6.05894,
                    "sum_logprob": -36.353637,
                    "perplexity": 427.92139,
                    "tokens": 6,
                    "rank": 1,
                    "error": None,
                    "text": "WaitO1",
                    "token_ids": [87, 97, 105, 116, 79, 49],
                    "guiding_word": "Wait",
                    "finish_reason": "length",
                    "stopped_by": None,
                },
                {
                    "status": "ok",
                    "score": -5.22501,
                    "mean_logprob": -5.22501,
                    "sum_logprob": -47.025087,
                    "perplexity": 185.862966,
                    "tokens": 9,
                    "rank": 0,
                    "error": None,
                    "text": "However4c",
                    "token_ids": [72, 111, 119, 101, 118, 101, 114, 52, 99],
                    "guiding_word": "However",
                    "finish_reason": "length",
                    "stopped_by": None,
                },
            ],
            "error": None,
        }
    ],
    "usage": _usage(85, 48, 15) | {"generated_tokens": 4},
    "timing_ms": {"encode": 2.1, "queue": 0.4, "engine": 35.0, "total": 140.0, "generate": 100.0},
}
SCORE_REQUEST = {
    "items": [{"id": "s", "context": "17 + 25 = ", "target": "42", "entropy": True}],
    "detail": "tokens",
}
SCORE_RESULT = {
    "model": _MODEL,
    "items": [
        {
            "id": "s",
            "status": "ok",
            "sum_logprob": -10.367693,
            "mean_logprob": -5.183847,
            "perplexity": 178.367625,
            "tokens": 2,
            "mean_entropy": 5.399138,
            "token_ids": [52, 50],
            "token_texts": ["4", "2"],
            "token_logprobs": [-5.426601, -4.941093],
            "token_entropies": [5.399138, 5.399138],
            "other_contexts": None,
            "error": None,
        }
    ],
    "usage": _usage(12, 11, 2),
    "timing_ms": {"encode": 2.1, "queue": 0.4, "engine": 35.0, "total": 39.2},
}
COMPLETION_REQUEST = {
    "prompt": ["17 + 25 = 42"],
    "echo": True,
    "logprobs": 1,
    "max_tokens": 1,
    "temperature": 0,
}
MEMBER_REQUEST = {
    "run_id": "my-run",
    "step": 12,
    "group_id": "q1",
    "group_size": 1,
    "member_id": "q1-0",
    "wait_s": 60,
    "prompt": "What is 17 + 25?\n",
    "reference": "42",
    "response": "<think>\n17 + 25 is 32.\n\nWait, 7 + 5 carries: 42.\n\n</think>\n\n42",
}
HINT_REQUEST = {
    "run_id": "my-run",
    "group_id": "q1",
    "member_id": "q1-0",
    "seq": 0,
    "append": {"token_ids": [55, 32, 43]},
    "prompt": "What is 17 + 25?\n",
    "reference": "42",
}
VERIFY_REQUEST = {
    "responses_create_params": {"input": [{"role": "user", "content": "What is 17 + 25?"}]},
    "response": {
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "7 + 5 carries."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "42"}]},
        ]
    },
    "expected_answer": "42",
}
OPENRLHF_REQUEST = {
    "query": ["What is 17 + 25?\n<think>\n7 + 5 carries.\n\n</think>\n\n42"],
    "prompts": ["What is 17 + 25?\n"],
    "labels": ["42"],
}
