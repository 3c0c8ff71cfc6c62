"""Every setting of a run: its name, type, default, bounds and help. Declared here and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_serializer, model_validator

from afina.core.translation import _
from afina.recipe.kinds import Kind
from afina.recipe.schema import problem_of

NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,62}"
_MANY, _TOKENS, _SEED = 1_000_000_000, 100_000_000, 2**32 - 1  # above these a number is a slip of the keyboard


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def _is_regular_expression(pattern: str) -> str:
    try:
        re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ValueError(_("is not a regular expression: {reason}").format(reason=error)) from None
    return pattern


def _is_destination(place: str) -> str:
    if place not in ("auto", "ollama", "embedded") and not re.fullmatch(r"https?://\S+", place):
        raise ValueError(
            _("{place!r} is neither auto, ollama or embedded nor an address such as http://host:11434").format(place=place)
        )
    return place


def _is_embedder(model: str) -> str:
    if not model.endswith(".gguf") and not re.fullmatch(r"\S+@\S+", model):
        raise ValueError(
            _("{model!r} is neither a .gguf file nor model@address, such as bge-m3@http://127.0.0.1:11434/v1").format(model=model)
        )
    return model


def _with_off(checks: object) -> object:
    """YAML reads ``off`` as false; here it is a word."""
    return {name: "off" if action is False else action for name, action in checks.items()} if isinstance(checks, dict) else checks


def _named(model: object) -> object:
    """A name alone is a model at Ollama; ``name@http…`` one at that address, as in ``compare.embeddings``."""
    if not isinstance(model, str):
        return model
    name, at, address = model.rpartition("@")
    return {"name": name, "at": address} if at and address.startswith(("http://", "https://")) else {"name": model}


Pattern = Annotated[str, AfterValidator(_is_regular_expression)]
MetricName = Literal[
    "loss", "label", "macro_f1", "number", "json", "fields", "exact", "f1", "chrf", "similarity", "abstention", "ended"
]


class Split(_Section):
    val: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the examples that choose the best checkpoint."""
    test: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the examples that training never sees: the comparison is made on them."""
    by: Annotated[str, Field(min_length=1)] = "auto"
    """auto: what is nearly the same, or of one document or chat, stays together. Else a column: rows with one value there do."""
    seed: Annotated[int, Field(ge=0, le=_SEED)] = 7
    """Decides which example falls where."""

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> Self:
        if self.val + self.test > 0.8:
            raise ValueError(
                _("val + test is {sum:.2f}; at most 0.80, so that something is left to train on").format(sum=self.val + self.test)
            )
        return self


class Columns(_Section):
    """Which columns of a table or keys of a row make a conversation, where they are not recognised by themselves."""

    prompt: str
    """The user's turn: a column's name, or a text with {columns} in braces."""
    answer: str
    """The assistant's turn, in the same way."""
    system: str | None = None
    """The system message, in the same way."""


class Files(_Section):
    """Files that need words of their own, in the place of a plain pattern."""

    files: Annotated[str, Field(min_length=1)]
    """A file, a folder or a pattern with *."""
    map: Columns | None = None
    """Columns of these files, in the place of data.map."""
    person: str | None = None
    """In a chat (WhatsApp, Telegram, Slack): whose messages are the answers."""
    encoding: str | None = None
    """How the letters are written (cp1252, utf-16 …); found out where it is left out."""


FileList = tuple[str | Files, ...]


class Data(_Section):
    examples: Annotated[FileList, Field(min_length=1)]
    """Files and folders of examples; patterns with * are allowed. Relative to the recipe's folder."""
    val: FileList = ()
    """Files that choose the best checkpoint, in the place of a share of the examples."""
    test: FileList = ()
    """Files for the comparison, in the place of a share of the examples."""
    documents: tuple[str, ...] = ()
    """Files and folders of documents (PDF, DOCX, PPTX, HTML, EPUB, Markdown, text), kept as chunks."""
    chunk_characters: Annotated[int, Field(ge=100, le=20_000)] = 1200
    """About how long a chunk of a document is."""
    map: Columns | None = None
    """Columns to use; recognised by themselves where it is left out."""
    turns: Literal["all", "last"] = "all"
    """Which answers of a conversation are learned."""
    long: Literal["drop", "split", "keep"] = "drop"
    """Rows longer than train.max_tokens: left out, parted between turns, or kept (then the limit is what the base can hold)."""
    redact: bool = False
    """Replace e-mail addresses, numbers of telephones, cards and identity, keys and passwords by others of the same form."""
    checks: Annotated[dict[str, str], BeforeValidator(_with_off)] = Field(default={}, validate_default=False)
    """What a check does: {near-duplicate: drop, refusal: off}. All of them: docs/en/checks.md."""
    limit: Annotated[int, Field(ge=1, le=_MANY)] | None = None
    """Take this many examples, chosen by the split's seed."""
    max_broken: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Stop when more than this share of the rows cannot be read or used."""
    split: Split = Split()


class Advise(_Section):
    facts_change: Literal["unknown", "never", "sometimes", "often"] = "unknown"
    """How often what the answers say stops being true (prices, opening hours). `afina advise` asks where it is unknown."""
    prompt_budget: Literal["unknown", "short", "long"] = "unknown"
    """short: each request must be cheap or quick. long: instructions and examples may go along with each of them."""
    runs_on: Literal["unknown", "own", "anywhere"] = "unknown"
    """own: it must run on machines of yours, so the model is small. anywhere: a large hosted model may answer too."""


class Adapter(_Section):
    method: Literal["lora", "full"] = "lora"
    """lora: two small matrices beside each weight. full: every weight of a small model, at a tenth of the learning rate."""
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Rank of the two small matrices beside each weight."""
    alpha: Annotated[float, Field(gt=0)] = 32
    """Scale: the update counts alpha / rank times."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the adapter's inputs that is dropped while training."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] | Literal["all-linear"] = "all-linear"
    """Names of the linear layers that get an adapter (q_proj, v_proj, …)."""
    ranks: dict[Pattern, Annotated[int, Field(ge=1, le=1024)]] = Field(default={}, validate_default=False)
    """Other ranks for some layers, by the end of their name or a regular expression: {down_proj: 32}."""
    alphas: dict[Pattern, Annotated[float, Field(gt=0)]] = Field(default={}, validate_default=False)
    """Other alphas for some layers, in the same way."""
    rslora: bool = False
    """Scale by alpha / √rank instead (rsLoRA), for high ranks."""
    dora: bool = False
    """Train the size of each row by itself (DoRA): sometimes better at low ranks, always slower."""
    init: Literal["default", "pissa"] = "default"
    """pissa starts at the largest directions of each weight: learns faster, and the saved adapter has twice the rank."""
    quantize: Literal["none", "int8", "nf4"] = "none"
    """Keep the frozen weights in 8 bits (int8) or 4 (nf4, QLoRA)."""

    @model_validator(mode="after")
    def _trains_no_codes(self) -> Self:
        if self.method == "full" and self.quantize != "none":
            raise ValueError(
                _("method is full and quantize is {kind}: such weights are frozen; write quantize: none").format(
                    kind=self.quantize
                )
            )
        return self


class Train(_Section):
    epochs: Annotated[float, Field(gt=0, le=1000)] = 3
    """How often each example is seen."""
    max_steps: Annotated[int, Field(ge=1, le=_MANY)] | None = None
    """Stop after this many steps, whatever the epochs say."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-4
    """Size of a step at its highest; tiny models want ten times as much."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the steps in which the learning rate rises from zero."""
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """After the warm-up: down to zero along a cosine or a line, constant, or constant and down in the last fifth (wsd)."""
    optimizer: Literal["adamw", "muon", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    """muon learns more a step where all weights are trained; 8-bit moments take a quarter of the memory, paged ones move to RAM
    when the GPU is full: both need an NVIDIA GPU."""
    lora_plus: Annotated[float, Field(ge=1, le=64)] = 1.0
    """The learning rate of the matrices B is this many times that of A (LoRA+; 16 is usual)."""
    neftune: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Strength of the noise on the embeddings while training (NEFTune; 5 is usual), against learning by heart."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Pull of the matrices towards zero at each step (AdamW); norms, biases and embeddings are spared."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient; a longer one is shortened."""
    batch_tokens: Annotated[int, Field(ge=16, le=_TOKENS)] = 4096
    """Tokens that make one step of the optimizer."""
    micro_tokens: Annotated[int, Field(ge=16, le=_TOKENS)] | Literal["auto"] = "auto"
    """Tokens of a micro-batch; changes memory and speed, not the result. A CPU computes several side by side. auto: see `afina
    plan`."""
    max_tokens: Annotated[int, Field(ge=8, le=_TOKENS)] | Literal["auto"] = "auto"
    """Longest example; see data.long. auto: from the data (99.5 % of the rows fit), at most what the base can hold."""
    evaluate_every: Annotated[int, Field(ge=1, le=_MANY)] | Literal["auto"] = "auto"
    """Steps between two looks at the validation loss. auto: four an epoch."""
    save_every: Annotated[int, Field(ge=1, le=_MANY)] | Literal["auto"] = "auto"
    """Steps between two checkpoints to resume from. auto: as often as the validation."""
    keep: Annotated[int, Field(ge=1, le=_MANY)] = 2
    """Newest checkpoints on disk: when one is damaged, the one before it is taken. The best adapter is kept in any case."""
    keep_every: Annotated[int, Field(ge=1, le=_MANY)] | None = None
    """Also keep the checkpoint of every so many steps, for good."""
    samples: Annotated[int, Field(ge=0, le=100)] = 0
    """Questions of the validation examples that the model answers at each look, to read along."""
    track: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ()
    """Programs that the live numbers are sent to; their libraries are installed by you. Nothing is sent unless it stands here."""
    patience: Annotated[int, Field(ge=1, le=_MANY)] | None = None
    """Stop after this many looks without a better validation loss."""
    checkpointing: Literal["auto", "none", "selective", "full", "offload"] = "auto"
    """What is computed again in the backward pass to save memory: nothing, norms and MLP, every layer, every layer with its input
    kept in RAM (GPU). auto: the fastest that fits."""
    compile: bool | Literal["auto"] = "auto"
    """torch.compile for the layers: faster, after half a minute or more. auto: on a CPU, in long runs, with a compiler, where
    micro-batches are computed one at a time."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number type of the computation. auto: bfloat16 where the hardware has it, float16 on older GPUs, else float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: an NVIDIA GPU where torch finds one, else the CPU."""
    shard: bool | Literal["auto"] = "auto"
    """On several devices: share the layers out (FSDP2), on or off. auto: where they would take more than 40 % of a GPU."""
    seed: Annotated[int, Field(ge=0, le=_SEED)] = 7
    """Decides the start of the adapter and the order of the examples."""


class Pilot(_Section):
    steps: Annotated[int, Field(ge=1, le=_MANY)] | Literal["auto"] = "auto"
    """Steps of a small training, of `afina compare --pilot` and of `afina curve`. auto: about three minutes for a pilot, about
    ten for all trainings of a curve, at most as many as the training itself has."""
    seeds: Annotated[int, Field(ge=1, le=20)] = 3
    """How often `afina curve` trains on each part of the examples, to see how much is chance."""


class Check(_Section):
    """A rule that every answer in the right form obeys: exactly one of these."""

    matches: Pattern | None = None
    """A regular expression that the whole answer matches (a dot matches line ends)."""
    contains: Annotated[str, Field(min_length=1)] | None = None
    """A text that stands in the answer, capital letters as here."""
    without: Annotated[str, Field(min_length=1)] | None = None
    """A text that does not stand in the answer."""
    most_words: Annotated[int, Field(ge=1, le=_MANY)] | None = None
    """The answer has at most so many words."""
    one_of: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """The answer is one of these labels, outer signs and capital letters apart."""
    json_schema: dict[str, Any] | None = None
    """The answer is JSON that obeys this schema (type, enum, required, properties, items, additionalProperties)."""

    @model_validator(mode="after")
    def _is_one_rule(self) -> Self:
        if len(self.model_fields_set) != 1 or None in self.rule.values():
            raise ValueError(_("a check is one of {names}, with a value").format(names=", ".join(Check.model_fields)))
        if self.json_schema is not None and (problem := problem_of(self.json_schema)):
            raise ValueError(problem)
        return self

    @property
    def rule(self) -> dict[str, Any]:
        """``{"contains": "Gracias"}``"""
        return {name: getattr(self, name) for name in self.model_fields_set}

    @model_serializer
    def _written(self) -> dict[str, Any]:
        return self.rule


class Model(_Section):
    """A model elsewhere, where more than its name is needed."""

    name: Annotated[str, Field(min_length=1)]
    """What the model is called at its server."""
    at: Annotated[str, Field(min_length=1)] = "ollama"
    """ollama (at OLLAMA_HOST, else on this machine), or the address of an OpenAI-compatible server: https://host/v1."""
    key: Annotated[str, Field(pattern=r"^[A-Z0-9_]*API_KEY$")] | None = None
    """Name of the environment variable that holds the key, such as EXAMPLE_API_KEY; else AFINA_API_KEY or OPENAI_API_KEY."""
    prices: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] | None = None
    """Money for a million tokens, read and written: [0.15, 0.60]."""


class Compare(_Section):
    contenders: (
        Annotated[tuple[Literal["prompt", "prompt+", "few_shot", "rag", "tuned", "tuned+rag"], ...], Field(min_length=1)]
        | Literal["auto"]
    ) = "auto"
    """prompt: the base model as it is. prompt+: with an instruction written from the training examples. few_shot: with similar
    training examples before the question. rag: with passages found in data.documents, or in the training examples where there are
    none. tuned, tuned+rag: the trained model, as it is and with passages. auto: prompt, prompt+, few_shot, tuned; where there are
    documents all six."""
    examples: Annotated[int, Field(ge=2, le=_MANY)] = 100
    """At most this many held-out examples are answered."""
    embeddings: Annotated[str, AfterValidator(_is_embedder)] | None = None
    """Search by meaning too, fused with the search by words, and measure the similarity of texts: model@address of Ollama or any
    OpenAI-compatible server, or a .gguf file of an embedding model."""
    max_new_tokens: Annotated[int, Field(ge=1, le=_TOKENS)] = 256
    """An answer that has not ended by itself is stopped here."""
    pattern: Pattern | None = None
    """A regular expression that a whole answer in the right style matches (a dot matches line ends)."""
    models: tuple[Annotated[Model, BeforeValidator(_named)], ...] = ()
    """Models elsewhere that take part: names at Ollama, x@https://host/v1, or {name: x, at: …, key: SOME_KEY, prices: [1, 3]}."""
    judge: Annotated[Model | None, BeforeValidator(_named)] = None
    """A model that compares each contender's answers with the first one's, written like one of compare.models."""
    checks: tuple[Check, ...] | Literal["auto"] = "auto"
    """Rules of form: [{contains: Gracias}, {without: IA}, {most_words: 60}, {matches: …}, {one_of: […]}, {json_schema: …}]. auto:
    learned from the training answers, and written to compare/checks.yaml in this form."""
    metrics: Annotated[tuple[MetricName, ...], Field(min_length=1)] | Literal["auto"] = "auto"
    """What is measured. auto: what fits the answers (labels, numbers, JSON or texts), with the reason on the page."""
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000
    """Bootstrap samples behind each interval."""

    @model_validator(mode="after")
    def _can_measure_what_it_names(self) -> Self:
        if "similarity" in self.metrics and self.embeddings is None:
            raise ValueError(
                _("metrics: similarity is told by an embedding model, and there is none; name one in compare.embeddings")
            )
        return self


class Export(_Section):
    types: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("q4_k_m", "q8_0")
    """Number types of the GGUF files. Bits a weight: f16 16, q8_0 8.5, q6_k 6.6, q5_k_m 5.7, q4_k_m 4.8, q3_k_m 3.9."""
    keep_gain: Annotated[float, Field(gt=0, le=1)] = 0.95
    """The smallest file that keeps this share of what training gained, measured on held-out examples, is deployed."""
    imatrix: bool = False
    """Round with an importance matrix from the training examples: errors where they are felt least (types below q8_0)."""
    adapter_file: bool = False
    """Also write the LoRA adapter as a GGUF of its own, to put beside a file of the base (not with adapter.dora)."""
    check_prompts: Annotated[int, Field(ge=1, le=_MANY)] = 8
    """Held-out prompts on which llama.cpp must give torch's greedy tokens."""
    check_tokens: Annotated[int, Field(ge=1, le=_TOKENS)] = 48
    """Tokens that are compared for each of them."""


class Deploy(_Section):
    to: Annotated[str, AfterValidator(_is_destination)] = "auto"
    """auto: Ollama when it answers, else the embedded llama.cpp. Or the address of an Ollama elsewhere, http://host:11434."""
    name: Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")] | None = None
    """The model's name in Ollama; the recipe's name where it is left out."""
    type: Kind | Literal["auto"] = "auto"
    """Which exported file is deployed. auto: the smallest that keeps export.keep_gain."""
    context: Annotated[int, Field(ge=256, le=_TOKENS)] | Literal["auto"] = "auto"
    """Tokens that a conversation may have. auto: up to 4,096, at most what the base can hold."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8090
    """Port of `afina serve` on 127.0.0.1."""


class Recipe(_Section):
    name: Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
    """The run's folder below runs/ and the model's name: lower-case letters, digits, . _ -"""
    base: Annotated[str, Field(min_length=1)] = "tiny"
    """tiny (comes with afina), a folder of safetensors, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    system: str | None = None
    """System message for examples that have none of their own."""
    chat_template: Annotated[str, Field(min_length=1)] = "auto"
    """auto: the base's own, or plain where it has none. plain, chatml, or a .jinja file."""
    data: Data
    advise: Advise = Advise()
    adapter: Adapter = Adapter()
    train: Train = Train()
    pilot: Pilot = Pilot()
    compare: Compare = Compare()
    export: Export = Export()
    deploy: Deploy = Deploy()

    @model_validator(mode="after")
    def _has_an_adapter_that_stands_alone(self) -> Self:
        if self.export.adapter_file and self.adapter.method == "full":
            raise ValueError(_("export.adapter_file: adapter.method is full, which leaves no adapter; leave adapter_file out"))
        if self.export.adapter_file and self.adapter.dora:
            raise ValueError(
                _("export.adapter_file: llama.cpp cannot put a DoRA adapter beside a base; leave adapter_file or dora out")
            )
        return self

    @classmethod
    def load(cls, path: str | Path, overrides: tuple[str, ...] = ()) -> Recipe:
        """The recipe of a YAML file with ``key=value`` overrides; RecipeError names all its problems at once."""
        from afina.recipe.load import load_recipe  # the reader knows this class, not the other way round

        return load_recipe(Path(path), overrides)

    def with_paths_below(self, folder: Path) -> Recipe:
        """The same recipe with its relative files made absolute, taken from ``folder``."""

        def absolute(text: str) -> str:
            return str((folder / text).absolute())

        base = self.base
        if base.startswith((".", "~")) or (base != "tiny" and (folder / base).is_dir()):
            base = str((folder / Path(base).expanduser()).resolve())
        template = absolute(self.chat_template) if self.chat_template.endswith(".jinja") else self.chat_template

        def placed(entries: FileList) -> FileList:
            return tuple(
                absolute(entry) if isinstance(entry, str) else entry.model_copy(update={"files": absolute(entry.files)})
                for entry in entries
            )

        data = self.data.model_copy(
            update={
                "examples": placed(self.data.examples),
                "val": placed(self.data.val),
                "test": placed(self.data.test),
                "documents": tuple(map(absolute, self.data.documents)),
            }
        )
        compare = self.compare
        if compare.embeddings is not None and compare.embeddings.endswith(".gguf"):
            compare = compare.model_copy(update={"embeddings": absolute(compare.embeddings)})
        return self.model_copy(update={"base": base, "chat_template": template, "data": data, "compare": compare})
