"""TRL's SFTTrainer in a process of its own, a step a turn: as it comes but for what makes the work comparable.

That is: the loss on the assistant's tokens only, the order of the chats, 16 of them a step, the rate, the start of the adapter.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from pathlib import Path
from typing import Any

from bench.sides.trainer import load_start, turn_callback
from bench.sides.turns import Turns, settings


def main() -> None:
    asked, turns = settings(), Turns()
    work = Path(asked["work"])
    with tempfile.TemporaryDirectory(prefix="afina-bench-trl-") as folder:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": folder, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        datasets, peft, torch, transformers, trl = map(
            importlib.import_module, ("datasets", "peft", "torch", "transformers", "trl")
        )
        cuda = torch.cuda.is_available()
        config = trl.SFTConfig(
            output_dir=folder,
            assistant_only_loss=True,
            max_length=asked["longest"],
            train_sampling_strategy="sequential",
            max_steps=asked["steps"],
            learning_rate=asked["rate"],
            max_grad_norm=asked["clip"],
            lr_scheduler_type="constant",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not cuda,
            **asked["config"],
        )
        base: Any = str(work / "base")
        if asked["quantize"] == "nf4":
            number_type = getattr(torch, asked["compute"])
            quantization = transformers.BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=number_type,
            )
            base = transformers.AutoModelForCausalLM.from_pretrained(
                base, quantization_config=quantization, dtype=number_type, device_map={"": 0 if cuda else "cpu"}
            )
            config.model_init_kwargs = None  # for a model that is already there
        trainer = trl.SFTTrainer(
            model=base,
            args=config,
            train_dataset=datasets.load_dataset("json", data_files=str(work / "chats.jsonl"), split="train"),
            processing_class=transformers.AutoTokenizer.from_pretrained(work / "base"),
            peft_config=peft.LoraConfig(
                r=asked["rank"],
                lora_alpha=2 * asked["rank"],
                lora_dropout=0.0,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
            callbacks=[turn_callback(turns)],
        )
        load_start(trainer.model, work / "start")
        if asked["compute"] == "float32":  # TRL has the adapters of quantized bases in bfloat16, which slows such a CPU down
            for parameter in trainer.model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.float()
        trainer.train()


if __name__ == "__main__":
    main()
