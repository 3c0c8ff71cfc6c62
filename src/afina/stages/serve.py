"""Serve: a run's exported model as an OpenAI-compatible endpoint on 127.0.0.1, until it is stopped."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from afina.core.run import RunFolder
from afina.core.translation import _
from afina.infer.llama import LlamaServer, require_free_port
from afina.recipe.recipe import Recipe
from afina.stages.deploy import choose_context, choose_gguf

LOG = "serve.log"


@dataclass(frozen=True)
class Served:
    """``api`` is what OpenAI's clients call base_url; ``example`` is a line for the shell that asks something."""

    model: str
    file: str
    address: str
    api: str
    context: int
    example: str


def serve(recipe: Recipe, run: RunFolder, port: int | None, on_ready: Callable[[Served], None]) -> None:
    """Serves until the caller is interrupted.

    Raises ResourceError for a port in use, before anything is loaded, and ServiceError when llama.cpp ends by itself.
    """
    wanted = recipe.deploy.port if port is None else port
    require_free_port(wanted)
    gguf = choose_gguf(recipe, run)
    context = choose_context(recipe)
    with LlamaServer(gguf, context=context, port=wanted, name=recipe.name, log=run.root / "logs" / LOG) as server:
        on_ready(
            Served(
                model=recipe.name,
                file=str(gguf),
                address=server.address,
                api=f"{server.address}/v1",
                context=context,
                example=example_request(server.address, recipe.system),
            )
        )
        server.wait()


def example_request(address: str, system: str | None) -> str:
    """A curl line that asks the served model, with the system message that it was trained with."""
    messages = [{"role": "user", "content": _("Hello")}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    body = json.dumps({"messages": messages}, ensure_ascii=False)
    return f"curl {address}/v1/chat/completions -H 'Content-Type: application/json' -d {shlex.quote(body)}"
