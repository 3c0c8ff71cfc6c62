"""llama.cpp in a child process, spoken to over HTTP on 127.0.0.1: a crash there is an error here and nothing more."""

from __future__ import annotations

import http.client
import json
import math
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from afina.core.errors import AfinaError, DataError, ResourceError, ServiceError
from afina.core.translation import _
from afina.core.units import MIB
from afina.data.conversation import Message, as_dict
from afina.infer.answer import Answer
from afina.infer.llama_child import port_is_free

Finish = Literal["stop", "length"]

SLOWEST_DISK = 50 * MIB  # bytes a second that loading may fall to before the start counts as hung
START_S = 60.0
LOG_LINES = 8
LEAST_LIKELY = -60.0  # nats; what is less likely than that is as good as impossible
_RAISED, _RAISED_AMONG = (12.0, 24.0, 36.0, 48.0), 64  # nats; likeliest tokens among which a raised one is looked for
_SURE = 25.0  # nats by which a token is raised that shall be said
# The most probable token and nothing else; of two equal ones the lower id, as torch's argmax has it.
GREEDY = {"temperature": 0.0, "samplers": ["temperature"], "repeat_penalty": 1.0}
ENDS: dict[str, Finish] = {"eos": "stop", "word": "stop", "limit": "length", "none": "length"}


class Likely(NamedTuple):
    """A token that may follow: its id, its text as bytes, and its log-probability."""

    token: int
    text: bytes
    log_probability: float


class LlamaServer:
    """A running llama.cpp with one GGUF. A context manager; the child ends with it, and with this process however that ends.

    ``context``: tokens of prompt and answer together (llama.cpp rounds up to 256). ``exact``: on the CPU, float32 cache, no flash
    attention and nothing reused between requests, so that the tokens can be compared with torch's. ``name`` is what clients call
    the model. ``slots``: conversations at a time, each with the whole context. ``port`` 0 takes a free one. ``timeout_s`` is for
    one answer, or for one piece of a streamed one. ``adapter``: a LoRA adapter's GGUF to put beside the file's weights.
    ``embeddings``: it gives vectors and no answers.

    Raises ResourceError for a port in use or a missing library, DataError for a file that llama.cpp refuses and for a
    conversation that does not fit, ServiceError for a crash or a timeout, with the last lines of the child's log.
    """

    address: str  # http://127.0.0.1:41069

    def __init__(
        self,
        gguf: Path,
        *,
        context: int,
        port: int = 0,
        log: Path | None = None,
        exact: bool = False,
        name: str = "afina",
        threads: int = 0,
        slots: int = 1,
        timeout_s: float = 600.0,
        adapter: Path | None = None,
        embeddings: bool = False,
    ) -> None:
        self.gguf = gguf
        self.timeout_s = timeout_s
        self._temporary = None if log else tempfile.TemporaryDirectory(prefix="afina-llama-")
        self.log = log or Path(self._temporary.name if self._temporary else ".") / "llama.log"
        # -P: a json.py in the folder where the user happens to be must not be imported.
        self._command = [sys.executable, "-P", "-m", "afina.infer.llama_child"]
        self._command += ["--gguf", str(gguf), "--context", str(context), "--log", str(self.log)]
        self._command += [
            "--port",
            str(port),
            "--threads",
            str(threads),
            "--slots",
            str(slots),
            "--name",
            name,
            *(["--exact"] if exact else []),
            *(["--adapter", str(adapter)] if adapter else []),
            *(["--embeddings"] if embeddings else []),
        ]
        self._port = port
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        require_free_port(self._port)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=sys.platform != "win32",  # Ctrl-C in the terminal is for us, not for the child
            )
        try:
            self.address = self._wait_until_ready(self._child)
        except BaseException:
            self._child.kill()  # while it loads a model it does not notice that its input is closed
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the child; safe to call again."""
        child, self._child = self._child, None
        if child is not None:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.close()
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            child.stdout.close()  # only now: a thread may still be reading it
        if self._temporary is not None:
            self._temporary.cleanup()

    def greedy(self, prompt_ids: Sequence[int], max_new_tokens: int) -> list[int]:
        """The most probable tokens after ``prompt_ids``; the end token is the last one where generation ended by itself."""
        return [int(token) for token in self._complete(list(prompt_ids), max_new_tokens)["tokens"]]

    def log_probabilities(self, prompt_ids: Sequence[int], most: int) -> dict[int, float]:
        """Of the ``most`` likeliest tokens to follow ``prompt_ids``, before any sampling rule.

        What a prompt has in common with the one before is not computed again, so asking place after place of one text is cheap.
        """
        return {one.token: one.log_probability for one in self.likeliest(prompt_ids, most)}

    def log_probability(self, prompt_ids: Sequence[int], token: int, likely: tuple[int, float]) -> float:
        """Of ``token``, one that is not among the likeliest, to follow ``prompt_ids``; at least ``LEAST_LIKELY``.

        llama.cpp tells the likeliest tokens only. So the token's logit is raised by b until it is one of them. Probabilities then
        are others, but their ratio to that of a ``likely`` one, whose log-probability is known, is e^b times what it was.
        """
        other, known = likely
        for raised in _RAISED:
            biases = {token: raised, self._plain: raised + _SURE}
            body = {
                "prompt": list(prompt_ids),
                "n_predict": 1,
                "n_probs": _RAISED_AMONG,
                "temperature": 1.0,
                "samplers": ["temperature"],
                "logit_bias": list(biases.items()),
                "post_sampling_probs": True,
                "cache_prompt": True,
                "response_fields": ["completion_probabilities"],
            }
            (place,) = self.request("POST", "/completion", body)["completion_probabilities"]
            shares = {int(one["id"]): float(one["prob"]) for one in place["top_probs"]}
            if shares.get(token) and shares.get(other):
                ratio = math.log(shares[token]) - biases[token] - math.log(shares[other]) + biases.get(other, 0.0)
                return max(ratio + known, LEAST_LIKELY)
        return LEAST_LIKELY

    def first_words(self, prompt_ids: Sequence[int], most: int) -> dict[bytes, float]:
        """The same by the tokens' bytes, for servers that tell no ids."""
        return {one.text: one.log_probability for one in self.likeliest(prompt_ids, most)}

    def speed(self, prompt_ids: Sequence[int], tokens: int) -> float:
        """Generated tokens a second over at most ``tokens`` of them, the reading of the prompt aside."""
        body = {**GREEDY, "prompt": list(prompt_ids), "n_predict": tokens, "ignore_eos": True, "response_fields": ["timings"]}
        return float(self.request("POST", "/completion", body)["timings"]["predicted_per_second"])

    def answer(self, messages: Sequence[Message], max_new_tokens: int, tools: str = "") -> Answer:
        start = time.monotonic()
        reply = self._complete(self.prompt_ids(messages, tools), max_new_tokens)
        return Answer(
            text=reply["content"],
            ids=tuple(reply["tokens"]),
            finish=ENDS[reply["stop_type"]],
            seconds=time.monotonic() - start,
        )

    def chat(self, messages: Sequence[Message], max_new_tokens: int | None = None) -> Generator[str, None, Finish]:
        """The answer's text in pieces, as it is made; returns how it ended. Closing the generator stops llama.cpp at once."""
        body = {
            **GREEDY,
            "prompt": self.prompt_ids(messages),
            "n_predict": -1 if max_new_tokens is None else max_new_tokens,
            "cache_prompt": True,  # the conversation so far is not read again
            "stream": True,
        }
        with self._exchange("POST", "/completion", body) as response:
            while line := response.readline():
                event = _event(line)
                if event is None:
                    continue
                if "error" in event:
                    raise self._refused(response.status, event["error"])
                if event["content"]:
                    yield event["content"]
                if event["stop"]:
                    return ENDS[event["stop_type"]]
        raise self._lost(_("the answer broke off"))

    def prompt_ids(self, messages: Sequence[Message], tools: str = "") -> list[int]:
        """Ids of what the model reads for ``messages``: its own template's text, with a BOS where its tokenizer adds one."""
        return self.tokenize(self.render(messages, tools), add_special=True)

    def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """Ids of ``text``; special tokens written in it are recognised. ``add_special`` adds what the tokenizer puts in front."""
        reply = self.request("POST", "/tokenize", {"content": text, "add_special": add_special, "parse_special": True})
        return [int(token) for token in reply["tokens"]]

    def render(self, messages: Sequence[Message], tools: str = "") -> str:
        """The text of ``messages`` up to the assistant's turn, without the BOS that the tokenizer adds. ``tools``: JSON."""
        body: dict[str, Any] = {"messages": [as_dict(message) for message in messages]}
        if tools:
            body["tools"] = json.loads(tools)
        return str(self.request("POST", "/apply-template", body)["prompt"])

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """One JSON exchange with the server."""
        with self._exchange(method, path, body) as response:
            return json.load(response)

    def wait(self) -> None:
        """Waits until the child ends, which is a ServiceError; Ctrl-C is heard meanwhile."""
        while self._child is not None:
            try:
                self._child.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                continue
            raise self._lost(_("it ended by itself"))

    def likeliest(self, prompt_ids: Sequence[int], most: int) -> list[Likely]:
        """The ``most`` likeliest tokens to follow ``prompt_ids``, before any sampling rule.

        A plain token is made sure to be said, which changes none of these probabilities: with a part of a character, or an end,
        none would be told.
        """
        body = {
            **GREEDY,
            "prompt": list(prompt_ids),
            "n_predict": 1,
            "n_probs": most,
            "logit_bias": [[self._plain, 1000.0]],
            "cache_prompt": True,
            "response_fields": ["completion_probabilities"],
        }
        (place,) = self.request("POST", "/completion", body)["completion_probabilities"]
        return [Likely(int(one["id"]), bytes(one["bytes"]), float(one["logprob"])) for one in place["top_logprobs"]]

    @cached_property
    def _plain(self) -> int:
        """A token that is a whole character and no end."""
        return self.tokenize("a")[-1]

    def _complete(self, prompt_ids: list[int], max_new_tokens: int) -> Any:
        body = {
            **GREEDY,
            "prompt": prompt_ids,
            "n_predict": max_new_tokens,
            "cache_prompt": False,
            "return_tokens": True,
            "response_fields": ["content", "tokens", "stop_type"],
        }
        return self.request("POST", "/completion", body)

    @contextmanager
    def _exchange(self, method: str, path: str, body: Any = None) -> Iterator[http.client.HTTPResponse]:
        """The answer of the server, which is 200: all else is an error. Leaving the block closes the connection."""
        if self._child is None:
            raise ServiceError(_("llama.cpp is not running"), fix=_("use LlamaServer in a with statement"))
        place = urlsplit(self.address)
        connection = http.client.HTTPConnection(place.hostname or "127.0.0.1", place.port, timeout=self.timeout_s)
        data = None if body is None else json.dumps(body).encode("ascii")  # half a character becomes an escape: it is refused
        try:
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise self._refused(response.status, json.load(response)["error"])
            yield response
        except TimeoutError as error:
            raise self._lost(_("no answer for {seconds:g} s").format(seconds=self.timeout_s), patience_s=0) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(_("the connection broke")) from error
        finally:
            connection.close()

    def _wait_until_ready(self, child: subprocess.Popen[bytes]) -> str:
        """The address from the child's one line."""
        limit_s = START_S + (self.gguf.stat().st_size / SLOWEST_DISK if self.gguf.is_file() else 0)
        lines: queue.Queue[bytes] = queue.Queue()
        pipe = child.stdout
        assert pipe is not None
        threading.Thread(target=lambda: lines.put(pipe.readline()), daemon=True).start()
        try:
            line = lines.get(timeout=limit_s)
        except queue.Empty:
            child.kill()
            raise self._lost(_("it was not ready after {seconds:.0f} s").format(seconds=limit_s)) from None
        if not line:
            raise self._lost(_("it ended while it was starting"))
        record = json.loads(line)
        if "problem" in record:
            raise self._start_problem(record["problem"], record["detail"])
        return str(record["address"])

    def _start_problem(self, problem: str, detail: str) -> AfinaError:
        if problem == "port":
            return _port_in_use(int(detail))
        if problem == "library":
            return ResourceError(
                _("llama.cpp cannot be loaded here: {reason}").format(reason=detail), fix="pip install --upgrade xllamacpp"
            )
        if problem == "file":
            return DataError(_("there is no file {path}").format(path=self.gguf), fix=_("make it with: afina export NAME"))
        return DataError(
            _("llama.cpp refuses {path}:\n{log}").format(path=self.gguf, log=self._log_tail(errors_only=True) or detail),
            fix=_("make the file again with: afina export NAME"),
        )

    def _refused(self, status: int, error: dict[str, Any]) -> AfinaError:
        """The error for an answer of the server other than 200."""
        if error.get("type") == "exceed_context_size_error":
            return DataError(
                _("the conversation has {count} tokens; the context holds {limit}").format(
                    count=error["n_prompt_tokens"], limit=error["n_ctx"]
                ),
                fix=_("make it shorter, or deploy with a larger deploy.context"),
            )
        return ServiceError(
            _("llama.cpp refuses the request ({status}): {reason}").format(status=status, reason=error.get("message", error)),
            fix=_("change the text that was sent; the server goes on"),
        )

    def _lost(self, reason: str, patience_s: float = 2.0) -> ServiceError:
        """The error for a child that ended or hangs; it gets ``patience_s`` to end, so that its signal can be told."""
        ended = ""
        if self._child is not None:
            with suppress(subprocess.TimeoutExpired):
                ended = _ended(self._child.wait(timeout=patience_s))
        return ServiceError(
            _("llama.cpp failed with {path}: {reason}").format(path=self.gguf, reason=f"{reason}, {ended}" if ended else reason)
            + "".join("\n" + line for line in self._log_tail().splitlines()),
            fix=_("start it again; the whole log is in {path}").format(path=self.log)
            if self._temporary is None
            else _("start it again"),
        )

    def _log_tail(self, *, errors_only: bool = False) -> str:
        """The last lines of the child's log; ``errors_only`` those that llama.cpp marked as errors, without its time stamps."""
        if not self.log.is_file():
            return ""
        lines = [line for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        if errors_only:
            lines = [line.split(" E ", 1)[1] for line in lines if " E " in line]
        return "\n".join(f"  {line}" for line in lines[-LOG_LINES:])


def require_free_port(port: int) -> None:
    """Raises ResourceError where 127.0.0.1:``port`` is taken; 0 is always free."""
    if port and not port_is_free(port):
        raise _port_in_use(port)


def _port_in_use(port: int) -> ResourceError:
    return ResourceError(
        _("port {port} of 127.0.0.1 is in use").format(port=port),
        fix=_("take another one with --port {port}, or stop the program that uses it").format(port=port % 65535 + 1),
    )


def _event(line: bytes) -> Any:
    """The JSON of a line of server-sent events; None for blank lines and comments."""
    field, _colon, value = line.decode("utf-8").partition(":")
    if field == "error":
        return {"error": json.loads(value)}
    return json.loads(value) if field == "data" and value.strip() != "[DONE]" else None


def _ended(code: int) -> str:
    """How a process ended, in words."""
    if code < 0:
        return _("killed by {signal}").format(signal=signal.Signals(-code).name)
    return _("exit code {code}").format(code=code)
