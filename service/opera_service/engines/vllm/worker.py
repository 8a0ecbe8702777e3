"""What we add to vLLM's workers: other weights put into the running model, completely, and rows read our way.

Runs in the worker processes; knows a directory of safetensors and nothing of versions.
"""

from __future__ import annotations

from typing import Any

from opera_service.engines.vllm import rows


class PolicyWorker:
    """Mixed into vLLM's worker class by `worker_extension_cls`."""

    model_runner: Any

    def opera_read_rows(self) -> None:
        """Read scored rows chunk by chunk, with entropies where they are wanted, from now on."""
        rows.install(self.model_runner)

    def opera_load(self, path: str) -> None:
        """Load the checkpoint folder `path` into the model."""
        self.model_runner.reload_weights(weights_path=path)
        self.opera_repack()

    def opera_repack(self) -> None:
        """Renew what vLLM derived from the output embedding.

        On CPU it computes logits from a packed copy. When that embedding is tied to the input embedding, new
        weights leave the copy stale (measured: 0.9-1.2 nats); where nothing is derived, this changes nothing.
        """
        model = self.model_runner.get_model()
        head = getattr(model, "lm_head", None)
        method = getattr(head, "quant_method", None)
        if head is not None and method is not None and getattr(model.config, "tie_word_embeddings", False):
            method.process_weights_after_loading(head)
