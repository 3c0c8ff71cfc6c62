"""TRL's own preparation of a JSONL file of messages, in a process of its own; the last line of its output is JSON.

    python bench/sides/trl_prepare.py ROWS.jsonl BASE_FOLDER [PROCESSES]

What a user of TRL runs today: ``load_dataset("json")`` and ``SFTTrainer`` with ``assistant_only_loss=True``, the rest as it
comes. The clock runs from reading the file to the prepared rows; imports and loading the tiny model are not counted.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SAMPLE = 1000  # rows whose tokens are counted
UNTRAINED = -100


def main(rows: Path, base: Path, processes: int | None) -> None:
    with tempfile.TemporaryDirectory(prefix="afina-bench-trl-") as folder:
        # A first run: nothing is cached. Set before the import, which reads it.
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": folder, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        datasets, transformers, trl = map(importlib.import_module, ("datasets", "transformers", "trl"))
        tokenizer = transformers.AutoTokenizer.from_pretrained(base)
        model = transformers.AutoModelForCausalLM.from_pretrained(base)
        settings = trl.SFTConfig(
            output_dir=folder, assistant_only_loss=True, dataset_num_proc=processes, use_cpu=True, bf16=False, report_to=[]
        )
        parts: dict[str, float] = {}
        datasets.Dataset.map = _timed(datasets.Dataset.map, parts)
        start = time.perf_counter()
        dataset = datasets.load_dataset("json", data_files=str(rows), split="train")
        parts["load_dataset"] = time.perf_counter() - start
        trainer = trl.SFTTrainer(model=model, args=settings, train_dataset=dataset, processing_class=tokenizer)
        seconds = time.perf_counter() - start
        prepared = trainer.train_dataset
        sample = prepared[:SAMPLE]
        result = {
            "rows": len(dataset),
            "kept": len(prepared),
            "seconds": round(seconds, 2),
            "tokens_per_row": round(sum(map(len, sample["input_ids"])) / len(sample["input_ids"]), 1),
            "trained_per_row": round(
                sum(label != UNTRAINED for labels in sample["labels"] for label in labels) / len(sample["labels"]), 1
            ),
            "us_per_row": {name: round(part / len(dataset) * 1e6, 1) for name, part in parts.items()},
        }
    print(json.dumps(result))


def _timed(method: Any, parts: dict[str, float]) -> Any:
    """``Dataset.map``, whose seconds go into ``parts`` by the description that TRL gives."""

    def timed_map(self: Any, function: Any = None, *arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        made = method(self, function, *arguments, **options)
        name = str(options.get("desc", "map")).lower()
        parts[name] = parts.get(name, 0.0) + time.perf_counter() - start
        return made

    return timed_map


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
