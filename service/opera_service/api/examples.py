"""Example bodies for /docs, and the answers that the dummy engine gives to them (a test keeps them true)."""

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
REWARD_RESULT = None
RANK_REQUEST = {
    "items": [
        {"id": "x", "prompt": "What is 17 + 25?\n", "prefix": "<think>\n17 + 25 is 32.\n\n",
         "candidates": ["Wait, 7 + 5 carries.", "So it is 32."], "by": "branch"},
    ]
}  # fmt: skip
RANK_RESULT = None
SCORE_REQUEST = {
    "items": [{"id": "s", "context": "17 + 25 = ", "target": "42", "entropy": True}],
    "detail": "tokens",
}
SCORE_RESULT = None
COMPLETION_REQUEST = {
    "model": "dummy",
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
OPENRLHF_REQUEST = {
    "query": ["What is 17 + 25?\n<think>\n7 + 5 carries.\n\n</think>\n\n42"],
    "prompts": ["What is 17 + 25?\n"],
    "labels": ["42"],
}
