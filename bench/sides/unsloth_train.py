"""Unsloth in a process of its own, a step a turn, as its notebooks start it: 4 bits, its own checkpointing, TRL's trainer.

Needs an NVIDIA GPU.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from pathlib import Path

from bench.sides.trainer import load_start, turn_callback
from bench.sides.turns import Turns, settings

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main() -> None:
    asked, turns = settings(), Turns()
    work = Path(asked["work"])
    with tempfile.TemporaryDirectory(prefix="afina-bench-unsloth-") as folder:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": folder, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        unsloth = importlib.import_module("unsloth")  # first: it changes what the others define
        datasets, trl = map(importlib.import_module, ("datasets", "trl"))
        model, tokenizer = unsloth.FastLanguageModel.from_pretrained(
            model_name=str(work / "base"), max_seq_length=asked["longest"], load_in_4bit=asked["quantize"] == "nf4"
        )
        model = unsloth.FastLanguageModel.get_peft_model(
            model,
            r=asked["rank"],
            lora_alpha=2 * asked["rank"],
            lora_dropout=0.0,
            target_modules=LINEAR,
            use_gradient_checkpointing="unsloth",
        )
        load_start(model, work / "start")
        chats = datasets.load_dataset("json", data_files=str(work / "chats.jsonl"), split="train")
        texts = chats.map(lambda row: {"text": tokenizer.apply_chat_template(row["messages"], tokenize=False)})
        trainer = trl.SFTTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=texts.remove_columns("messages"),
            callbacks=[turn_callback(turns)],
            args=trl.SFTConfig(
                output_dir=folder,
                dataset_text_field="text",
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
                **asked["config"],
            ),
        )
        chat_templates = importlib.import_module("unsloth.chat_templates")
        trainer = chat_templates.train_on_responses_only(
            trainer, instruction_part="<|im_start|> user", response_part="<|im_start|> assistant"
        )
        trainer.train()


if __name__ == "__main__":
    main()
