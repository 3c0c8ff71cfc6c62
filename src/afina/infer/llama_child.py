"""The process in which llama.cpp runs: ``python -m afina.infer.llama_child --gguf FILE …``.

Native code can end its process (an assertion, a bad instruction, no memory), so it has one of its own. What passes between them:

- standard output: one JSON line, ``{"address": "http://127.0.0.1:41069"}`` or ``{"problem": "port", "detail": "…"}``
- standard input: nothing; when it closes, because the parent closed it or died in any way, this process ends
- the log file: everything that llama.cpp writes

It answers over HTTP on 127.0.0.1 and on no other interface, and it lets no web page of another origin read an answer.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, TextIO

NO_ORIGIN = "https://afina.invalid"  # llama.cpp's default lets every web page that the user visits read the answers
SMALL_FILE_BYTES = 64 * 2**20  # below this one thread is faster: waiting for each other costs the threads more than they gain
GREEDY = 0.0  # where a client names no temperature, the model answers as it was compared


def main(arguments: list[str] | None = None) -> int:
    """Serves until standard input closes. 0, or 1 where it could not start (the JSON line says why)."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    parent = os.fdopen(os.dup(1), "w", encoding="utf-8")
    _send_output_to(options.log)
    if not options.gguf.is_file():
        return _refuse(parent, "file", f"{options.gguf} is not there")
    if options.port and not port_is_free(options.port):
        return _refuse(parent, "port", str(options.port))
    try:
        import xllamacpp  # only here: this process is the one place where native code of llama.cpp is loaded
    except ImportError as error:
        return _refuse(parent, "library", str(error))
    try:
        server = xllamacpp.Server(_parameters(xllamacpp, options))
    except (RuntimeError, ValueError) as error:
        return _refuse(parent, "model", str(error))
    print(json.dumps({"address": server.listening_address}), file=parent, flush=True)
    while os.read(0, 4096):  # the parent never writes: this returns when it is gone
        pass
    os._exit(0)  # at once, in the middle of an answer too: there is nothing to save


def port_is_free(port: int) -> bool:
    """Whether a server may listen on 127.0.0.1:``port``."""
    with socket.socket() as probe:
        if sys.platform != "win32":  # a port that waits after its last connection is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _parameters(xllamacpp: Any, options: argparse.Namespace) -> Any:  # a native module without types
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(options.gguf)
    parameters.model_alias = {options.name}
    if options.adapter:
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(options.adapter), 1.0)]
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = options.port
    parameters.n_ctx = options.context * options.slots
    parameters.n_parallel = options.slots
    parameters.kv_unified = False
    parameters.use_jinja = True
    parameters.warmup = False
    parameters.offline = True
    parameters.cors_origins = NO_ORIGIN
    parameters.endpoint_slots = False  # would show one client the prompts of another
    parameters.sampling.temp = GREEDY
    threads = options.threads or (1 if options.gguf.stat().st_size < SMALL_FILE_BYTES else -1)
    parameters.cpuparams.n_threads = threads
    parameters.cpuparams_batch.n_threads = threads
    if options.embeddings:
        parameters.embedding = True
        if not _says_how_to_pool(options.gguf):  # a model that was made for answers: the mean of its states
            parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        parameters.n_ubatch = parameters.n_batch = options.context  # a text is read at once or not at all
    if options.exact:
        parameters.n_gpu_layers = 0
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
        parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        parameters.cache_prompt = False
        parameters.cache_ram_mib = 0
        parameters.fit_params = False
    return parameters


def _says_how_to_pool(path: Path) -> bool:
    """Whether the file says how a text's states become its one vector, as those of embedding models do."""
    from gguf import GGUFReader  # only for embeddings

    return any(name.endswith(".pooling_type") for name in GGUFReader(path).fields)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m afina.infer.llama_child", description=__doc__)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, help="a LoRA adapter's GGUF to put beside the file's weights")
    parser.add_argument("--context", type=int, required=True, help="tokens of prompt and answer together")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--threads", type=int, default=0, help="0 takes what suits the file")
    parser.add_argument("--slots", type=int, default=1, help="conversations at a time, each with the whole context")
    parser.add_argument("--name", default="afina", help="the model's name for clients")
    parser.add_argument("--exact", action="store_true", help="CPU, float32 cache, no flash attention, nothing reused")
    parser.add_argument("--embeddings", action="store_true", help="vectors of texts in the place of answers")
    return parser


def _send_output_to(log: Path) -> None:
    """Sends file descriptors 1 and 2, which native code writes to, into the log."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def _refuse(parent: TextIO, problem: str, detail: str) -> int:
    print(json.dumps({"problem": problem, "detail": detail}), file=parent, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
