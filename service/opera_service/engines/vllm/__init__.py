"""Token trees scored by vLLM at the cost of their distinct tokens: our own (`engine`) or another's (`rollout`).

Knows no text, no reward and none of this service's own HTTP. Nothing here is imported without `--engine vllm…`:
`engine`, `starting`, `core`, `scheduler` and `worker` need vLLM installed; `plan`, `settings`, `rollout`,
`http` and `http_api` do not.
"""
