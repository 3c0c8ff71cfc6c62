"""Write trained weights as users load them: bfloat16 without the tied head, and the two settings files.

    python -m tools.tiny.install /work/tiny/state/dialogues/model /work/tiny/model

The folder has the tokenizer already. Look with ``tools.tiny.check`` before it becomes ``src/afina/model/tiny``.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tools.tiny.train import CONFIG, END, PAD, WEIGHTS


def install(weights: Path, folder: Path) -> None:
    tensors = {name: weight.to(torch.bfloat16).contiguous() for name, weight in load_file(weights / WEIGHTS).items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors leaves it to its owner alone
    generation = {"do_sample": False, "eos_token_id": [END, PAD], "max_new_tokens": 128, "pad_token_id": PAD}
    for name, content in (("config.json", CONFIG), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"{folder}: {sum(weight.numel() for weight in tensors.values()):,} parameters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="the folder of a stage's best weights")
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    install(chosen.weights, chosen.folder)


if __name__ == "__main__":
    main()
