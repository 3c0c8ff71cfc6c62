"""LLaMA-Factory in a process of its own, a step a turn, started as its command line does it."""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
import tempfile
import types
from pathlib import Path

from bench.sides.trainer import turn_callback
from bench.sides.turns import Turns, settings


def main() -> None:
    asked, turns = settings(), Turns()
    work = Path(asked["work"])
    os.environ |= {"HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1"}
    _stand_in_for_torchaudio()
    run_exp = importlib.import_module("llamafactory.train.tuner").run_exp
    cuda = importlib.import_module("torch").cuda.is_available()
    with tempfile.TemporaryDirectory(prefix="afina-bench-lf-") as folder:
        os.environ["HF_DATASETS_CACHE"] = folder
        common = {
            "stage": "sft",
            "do_train": True,
            "model_name_or_path": str(work / asked["base"]),
            "adapter_name_or_path": str(work / "start"),
            "finetuning_type": "lora",
            "lora_target": "all",
            "lora_rank": asked["rank"],
            "lora_alpha": 2 * asked["rank"],
            "lora_dropout": 0.0,
            "dataset_dir": str(work / "llamafactory"),
            "dataset": "chats",
            "template": "chatml",
            "cutoff_len": asked["longest"],
            "output_dir": f"{folder}/out",
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": asked["rows_per_step"],
            "learning_rate": asked["rate"],
            "max_grad_norm": asked["clip"],
            "lr_scheduler_type": "constant",
            "max_steps": asked["steps"],
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "disable_shuffling": True,
            "use_cpu": not cuda,
        }
        quantized = {"quantization_bit": 4, "quantization_type": "nf4", "double_quantization": True}
        run_exp(
            {**common, **(quantized if asked["quantize"] == "nf4" else {}), **asked["config"]}, callbacks=[turn_callback(turns)]
        )


def _stand_in_for_torchaudio() -> None:
    """LLaMA-Factory imports it for sound, which is not in these chats, and no wheel of it fits this torch."""
    module = types.ModuleType("torchaudio")
    module.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
    sys.modules["torchaudio"] = module


if __name__ == "__main__":
    main()
