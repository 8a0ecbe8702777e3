"""The served model's tokenizer: /tokenizer_info, /tokenize, /detokenize, as vLLM serves them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse, Response

from opera_client.wire import TokenIds
from opera_service.api.answering import read
from opera_service.api.describing import BODY_ERRORS, COMMON_ERRORS, described
from opera_service.api.state import runtime_of
from opera_service.pipelines.runtime import Runtime
from opera_service.scoring.tree import as_ids

router = APIRouter(tags=["tokenizer"])


class TokenizeRequest(BaseModel):
    """Text to turn into ids."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    prompt: str
    add_special_tokens: bool = False
    """Start the text as the model's tokenizer does, with a start token mostly."""
    model: str | None = None


class DetokenizeRequest(BaseModel):
    """Ids to turn into text."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tokens: TokenIds
    model: str | None = None


@router.get("/tokenizer_info", **described("Special tokens and chat template", errors=COMMON_ERRORS))
async def get_tokenizer_info(request: Request) -> Response:
    """Return the texts of the special tokens; null where the model has none."""
    tokenizer = runtime_of(request).tokenizer

    def text(token: int | None) -> str | None:
        return None if token is None else tokenizer.decode([token])

    info = {
        "tokenizer_class": type(tokenizer).__name__,
        "vocab_size": tokenizer.vocab_size,
        "eos_token": text(tokenizer.eos_id),
        "bos_token": text(tokenizer.bos_id),
        "pad_token": text(tokenizer.pad_id),
        "turn_end_token": text(tokenizer.turn_end_id),
        "start_tokens": [text(token) for token in tokenizer.start_ids],
        "chat_template": tokenizer.chat_template,
    }
    return JSONResponse(info)


@router.post(
    "/tokenize",
    **described("Text to token ids", body=TokenizeRequest, ask={"prompt": "Wait, no."}, errors=BODY_ERRORS),
)
async def post_tokenize(request: Request) -> Response:
    """Return the ids of `prompt`, tokenised alone, as the other routes do."""
    runtime = runtime_of(request)
    body = await read(request, TokenizeRequest)
    return JSONResponse(await runtime.in_thread(_tokenize, runtime, body))


def _tokenize(runtime: Runtime, body: TokenizeRequest) -> dict[str, Any]:
    fields = replace(runtime.field_tokenizer, add_special_tokens=body.add_special_tokens)
    ids = fields.start(body.prompt, None, "prompt").tolist()
    return {"tokens": ids, "count": len(ids), "max_model_len": runtime.field_tokenizer.max_context}


@router.post(
    "/detokenize",
    **described("Token ids to text", body=DetokenizeRequest, ask={"tokens": [87, 97]}, errors=BODY_ERRORS),
)
async def post_detokenize(request: Request) -> Response:
    """Return the text of `tokens`; bytes that are no UTF-8 become U+FFFD."""
    runtime = runtime_of(request)
    body = await read(request, DetokenizeRequest)
    return JSONResponse({"prompt": await runtime.in_thread(_detokenize, runtime, body)})


def _detokenize(runtime: Runtime, body: DetokenizeRequest) -> str:
    return runtime.tokenizer.decode(runtime.field_tokenizer.checked(as_ids(body.tokens), "tokens"))
