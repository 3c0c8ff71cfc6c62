"""Where the base model lies and whether we can work with it, known before any work starts. No weight is read here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afina.core.errors import DataError, ServiceError
from afina.core.files import read_json, require_disk
from afina.core.translation import _
from afina.core.units import format_bytes

TINY = Path(__file__).parent / "tiny"
SHAPES = Path(__file__).parent / "shapes"
FAMILIES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILES = ("*.json", "*.jinja", "*.safetensors")


@dataclass(frozen=True)
class Base:
    """A base model's folder: ``config`` as in config.json, ``family`` one of FAMILIES."""

    name: str
    folder: Path
    config: dict[str, Any]
    family: str

    @property
    def weight_files(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"))

    @property
    def weight_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.weight_files)

    @property
    def context(self) -> int:
        """Tokens that the base was made for."""
        return int(self.config["max_position_embeddings"])


def resolve_base(base: str, revision: str | None = None) -> Base:
    """The base that a recipe names: ``tiny``, a folder, or a hub id (downloaded once, into the hub's own cache).

    Raises DataError where the folder cannot be used, ServiceError where the hub does not give it.
    """
    if base == "tiny":
        return open_folder(TINY, "tiny")
    folder = Path(base).expanduser()
    if folder.is_dir():
        return open_folder(folder, folder.name)
    if not _HUB_ID.fullmatch(base):
        raise DataError(
            _("base is {base!r}: there is no such folder, and a hub id looks like owner/name").format(base=base),
            fix=_("write tiny, a folder with config.json, tokenizer.json and *.safetensors, or a hub id"),
        )
    return open_folder(_download(base, revision), base)


def open_folder(folder: Path, name: str) -> Base:
    """The base in ``folder``, checked: configuration, family, tokenizer, weights as safetensors and all of them."""
    path = folder / "config.json"
    if not path.is_file():
        raise DataError(
            _("{folder} has no config.json").format(folder=folder), fix=_("name the folder of a Hugging Face model as base")
        )
    config = read_config(path)
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        raise DataError(
            _("{path}: model_type is {family!r}; afina trains {known}").format(
                path=path, family=family, known=", ".join(FAMILIES)
            ),
            fix=_("choose a base of one of these families"),
        )
    if not (folder / "tokenizer.json").is_file():
        raise DataError(
            _("{folder} has no tokenizer.json").format(folder=folder),
            fix=_("copy the base model's tokenizer.json there (AutoTokenizer.from_pretrained(…).save_pretrained(…) writes it)"),
        )
    _require_weights(folder)
    return Base(name=name, folder=folder.absolute(), config=config, family=family)


def shape_names() -> list[str]:
    """The shapes that come with afina: configurations without weights, to plan with."""
    return sorted(path.stem for path in SHAPES.glob("*.json"))


def config_file(base: str) -> Path | None:
    """The config.json of ``base``, which may be a shape; None where it is not on this machine, as before a download."""
    if base.lower() in shape_names():
        return SHAPES / f"{base.lower()}.json"
    path = (TINY if base == "tiny" else Path(base).expanduser()) / "config.json"
    return path if path.is_file() else None


def read_config(path: Path) -> Any:
    """What a config.json holds. Raises DataError where it is no JSON."""
    try:
        return read_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            _("{path} is not JSON: {reason}").format(path=path, reason=error), fix=_("download the base model again")
        ) from None


def _require_weights(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    wanted = set(read_json(index)["weight_map"].values()) if index.is_file() else set()
    if missing := sorted(name for name in wanted if not (folder / name).is_file()):
        raise DataError(
            _("{folder} lacks {count} of {all} weight files: {names}").format(
                folder=folder, count=len(missing), all=len(wanted), names=", ".join(missing[:3])
            ),
            fix=_("download the base model again"),
        )
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
    if pickled:
        raise DataError(
            _("{folder} has its weights only as pickled files ({names}), which can run code when they are opened").format(
                folder=folder, names=", ".join(pickled[:3])
            ),
            fix=_("take a copy of the model with *.safetensors"),
        )
    raise DataError(_("{folder} has no *.safetensors").format(folder=folder), fix=_("download the base model's weights into it"))


def _download(base: str, revision: str | None) -> Path:
    """The hub's snapshot of ``base`` in the local cache; the disk is checked first, an access token is taken from the hub's own
    settings.
    """
    from huggingface_hub import constants, snapshot_download  # heavy, and only needed for hub ids
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    wanted = list(_HUB_FILES)
    try:
        cached = Path(snapshot_download(base, revision=revision, allow_patterns=wanted, local_files_only=True))
        return open_folder(cached, base).folder
    except (LocalEntryNotFoundError, DataError):
        pass  # not in the cache, or only in part
    try:
        files = snapshot_download(base, revision=revision, allow_patterns=wanted, dry_run=True)
        missing = sum(file.file_size or 0 for file in files if file.will_download)
        require_disk(Path(constants.HF_HUB_CACHE), missing, _("downloading {base}").format(base=base))
        return Path(snapshot_download(base, revision=revision, allow_patterns=wanted))
    except GatedRepoError:
        what, fix = (
            _("the hub gives {base} only to accounts that accepted its licence"),
            _("accept it on the model's page, then: hf auth login"),
        )
    except RepositoryNotFoundError:
        what, fix = _("the hub has no model {base}, or it is private"), _("check the spelling, or: hf auth login")
    except RevisionNotFoundError:
        what, fix = _("the model {base} has no such revision"), _("check 'revision' in the recipe")
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        response = error.response if isinstance(error, HfHubHTTPError) else None
        status = f" (HTTP {response.status_code})" if response is not None else ""
        what, fix = (
            _("the hub cannot be reached for {base}") + status,
            _("check the network, or name a local folder as base"),
        )
    raise ServiceError(what.format(base=base), fix=fix)


def describe(base: Base) -> str:
    """``tiny (llama, 11.5 MiB)`` for plan lines."""
    return f"{base.name} ({base.family}, {format_bytes(base.weight_bytes)})"
