"""A LoRA adapter as a GGUF of its own, which llama.cpp (``--lora``) and Ollama (``ADAPTER``) put beside any file of its base.

    token_embd.weight  …  blk.0.attn_q.weight          the base's file
                          blk.0.attn_q.weight.lora_a   (R, in)
                          blk.0.attn_q.weight.lora_b   (out, R), its rows in the order of that weight's

llama.cpp adds alpha / R · B A, with one alpha for the whole file and R from each tensor. So alpha is written as alpha · √R for
rsLoRA, and a B whose layer has another scale than that gives is multiplied by what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from afina.core.errors import DataError
from afina.core.files import replacing, require_disk
from afina.core.translation import _
from afina.core.units import KIB
from afina.export.families import Layout
from afina.export.tensor import TensorPlan, interleave_halves
from afina.model.adapter import AdapterFiles, load_adapter
from afina.model.weights import Checkpoint, Float32


@dataclass(frozen=True)
class Factors:
    """A and B of one weight as they stand in the file; ``name`` is the weight's there."""

    name: str
    a: Float32
    b: Float32


def require_plain(folder: Path) -> AdapterFiles:
    """The adapter in ``folder``. Raises DataError for one that llama.cpp cannot put beside a base."""
    files = load_adapter(folder)
    if files.magnitudes:
        raise DataError(
            _("a DoRA adapter cannot be a file of its own: llama.cpp adds an update to a weight, and changes no row's length"),
            fix=_("leave export.adapter_file out (the GGUF files have it worked in), or train with adapter.dora: false"),
        )
    return files


def write_adapter_file(path: Path, *, folder: Path, layout: Layout, name: str) -> int:
    """Writes the adapter in ``folder``, whole or not at all, float32; how many weights it changes."""
    files = require_plain(folder)
    update = Checkpoint(folder)
    alpha = _alpha(files)
    plans = [plan for plan in layout.tensors if plan.source in files.pairs]
    if missing := sorted(files.pairs.keys() - {plan.source for plan in plans}):
        raise DataError(
            _("the adapter changes {names}, for which llama.cpp has no place").format(names=", ".join(missing[:3])),
            fix=_("leave export.adapter_file out: the GGUF files have it worked in"),
        )
    require_disk(path.parent, files.weights_path.stat().st_size + 64 * KIB, _("the file {name}").format(name=path.name))
    with replacing(path) as temporary:
        writer = gguf.GGUFWriter(temporary, layout.arch)
        try:
            writer.add_type(gguf.GGUFType.ADAPTER)
            writer.add_name(name)
            writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
            writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
            for plan in plans:
                factors = factors_of(plan, files, update, alpha)
                writer.add_tensor(f"{plan.name}.lora_a", factors.a)
                writer.add_tensor(f"{plan.name}.lora_b", factors.b)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
    return len(plans)


def factors_of(plan: TensorPlan, files: AdapterFiles, update: Checkpoint, alpha: float) -> Factors:
    """What llama.cpp multiplies by ``alpha`` / R to get this weight's update."""
    a_name, b_name = files.pairs[plan.source]
    a, b = update.read(a_name), update.read(b_name)
    if plan.heads:
        b = interleave_halves(b, plan.row_unit)
    missing = files.scale(plan.source) * files.rank(plan.source) / alpha
    return Factors(plan.name, a, b if missing == 1.0 else b * np.float32(missing))


def _alpha(files: AdapterFiles) -> float:
    """alpha, such that alpha / R is the scale of the layers that have no pattern of their own."""
    rank, alpha = int(files.config["r"]), float(files.config["lora_alpha"])
    return float(alpha * rank**0.5 if files.config.get("use_rslora") else alpha)
