"""Serve: a run's exported model with OpenAI's interface and Ollama's on 127.0.0.1, until it is stopped."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from afina.core.run import RunFolder
from afina.core.translation import _
from afina.infer.gateway import Behind, Gateway
from afina.infer.llama import LlamaServer, require_free_port
from afina.recipe.recipe import Recipe
from afina.stages.deploy import EXPORT, choose_context, choose_gguf, kind_of

LOG = "serve.log"
KEY = "AFINA_SERVE_KEY"  # never an argument: those can be seen by everybody on the machine
SLOTS = 2  # conversations answered at a time; others wait


@dataclass(frozen=True)
class Served:
    """``api`` is what OpenAI's clients call base_url; Ollama's take ``address``. ``example``: a line for the shell that asks."""

    model: str
    file: str
    address: str
    api: str
    context: int
    example: str


def serve(recipe: Recipe, run: RunFolder, port: int | None, on_ready: Callable[[Served], None]) -> None:
    """Serves until the caller is interrupted. Where the environment has AFINA_SERVE_KEY, each request must carry it.

    Raises ResourceError for a port in use, before anything is loaded, and ServiceError when llama.cpp ends by itself.
    """
    wanted = recipe.deploy.port if port is None else port
    require_free_port(wanted)
    gguf = choose_gguf(recipe, run)
    context = choose_context(recipe)
    log = run.root / "logs" / LOG
    with LlamaServer(gguf, context=context, name=recipe.name, slots=SLOTS, log=log) as server:
        file, kind = gguf.stat(), kind_of(gguf)
        behind = Behind(
            server.address,
            recipe.name,
            context,
            system=recipe.system,
            kind=kind,
            size_bytes=file.st_size,
            modified=file.st_mtime,
            sha256=run.require(EXPORT).result["sha256"][kind],
        )
        with Gateway(behind, port=wanted, key=os.environ.get(KEY) or None) as door:
            on_ready(
                Served(
                    model=recipe.name,
                    file=str(gguf),
                    address=door.address,
                    api=f"{door.address}/v1",
                    context=context,
                    example=example_request(door.address, recipe.system, with_key=bool(os.environ.get(KEY))),
                )
            )
            server.wait()


def example_request(address: str, system: str | None, *, with_key: bool = False) -> str:
    """A curl line that asks the served model, with the system message that it was trained with."""
    messages = [{"role": "user", "content": _("Hello")}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    body = json.dumps({"messages": messages}, ensure_ascii=False)
    key = f' -H "Authorization: Bearer ${KEY}"' if with_key else ""
    return f"curl {address}/v1/chat/completions -H 'Content-Type: application/json'{key} -d {shlex.quote(body)}"
