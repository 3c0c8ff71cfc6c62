"""torchtune in a process of its own, a step a turn: what its recipe lora_finetune_single_device does, one chat at a time.

Llama-3.1-8B with NF4 (QLoRA), checkpointing and chunked loss, as its configuration for one device has them. For NVIDIA GPUs only.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from bench.sides.turns import Turns, settings

UNTRAINED = -100
LORA_NAMES = {"self_attn": "attn", "o_proj": "output_proj", "gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}


def main() -> None:
    asked, turns = settings(), Turns()
    work = Path(asked["work"])
    torch = importlib.import_module("torch")
    steps = chat_tensors(torch, work, asked["longest"])
    model, parameters = load(torch, work, asked)
    optimizer = torch.optim.AdamW(parameters, lr=asked["rate"], weight_decay=0.0, fused=True)
    loss_of = importlib.import_module("torchtune.modules.loss").CEWithChunkedOutputLoss()
    model.set_num_output_chunks(loss_of.num_output_chunks)
    model.train()
    turns.ready(weights="nf4", adapter=str(parameters[0].dtype).removeprefix("torch."), threads=torch.get_num_threads())
    for start in range(0, len(steps), asked["rows_per_step"]):
        rows = steps[start : start + asked["rows_per_step"]]
        turns.begin()
        trained = sum(int((labels != UNTRAINED).sum()) for _ids, labels in rows)
        total = 0.0
        for ids, labels in rows:
            loss = loss_of(model(tokens=ids.cuda()), labels.cuda()) * (labels != UNTRAINED).sum().cuda()
            (loss / trained).backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(parameters, asked["clip"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        turns.end()
        turns.answer(loss=total / trained, gradient_norm=float(norm), peak_bytes=torch.cuda.max_memory_allocated())


def chat_tensors(torch: Any, work: Path, longest: int) -> list[tuple[Any, Any]]:
    """For each chat its ids (1, T) and for each place the trained token that follows it, or UNTRAINED."""
    transformers = importlib.import_module("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(work / "base")
    found = []
    for line in (work / "chats.jsonl").read_text(encoding="utf-8").splitlines():
        made = tokenizer.apply_chat_template(json.loads(line)["messages"], return_dict=True, return_assistant_tokens_mask=True)
        ids, mask = made["input_ids"][:longest], made["assistant_masks"][:longest]
        labels = [token if on else UNTRAINED for token, on in zip(ids, mask)]
        found.append((torch.tensor(ids)[None], torch.tensor([*labels[1:], UNTRAINED])[None]))
    return found


def load(torch: Any, work: Path, asked: dict[str, Any]) -> tuple[Any, list[Any]]:
    """The model with the frozen weights in NF4, and the adapters' parameters, which hold the common start."""
    llama, training, peft, convert, modules, tensors = map(
        importlib.import_module,
        (
            "torchtune.models.llama3_1",
            "torchtune.training",
            "torchtune.modules.peft",
            "torchtune.models.convert_weights",
            "torchtune.modules",
            "safetensors.torch",
        ),
    )
    with training.set_default_dtype(torch.bfloat16), torch.device("cuda"):
        model = llama.qlora_llama3_1_8b(
            lora_attn_modules=["q_proj", "k_proj", "v_proj", "output_proj"],
            apply_lora_to_mlp=True,
            lora_rank=asked["rank"],
            lora_alpha=2 * asked["rank"],
            lora_dropout=0.0,
        )
    parameters = peft.get_adapter_params(model)
    peft.set_trainable_params(model, parameters)
    training.set_activation_checkpointing(model, auto_wrap_policy={modules.TransformerSelfAttentionLayer})
    weights: dict[str, Any] = {}
    for file in sorted((work / "base").glob("*.safetensors")):
        weights |= tensors.load_file(file)
    outcome = model.load_state_dict(convert.hf_to_tune(weights, num_heads=32, num_kv_heads=8, dim=4096), strict=False)
    start = {tune_name(name): value for name, value in tensors.load_file(work / "start" / "adapter_model.safetensors").items()}
    started = model.load_state_dict(start, strict=False)
    if outcome.unexpected_keys or started.unexpected_keys or set(start) != set(parameters):
        raise SystemExit(f"error: the weights do not fit: {outcome.unexpected_keys} {started.unexpected_keys}")
    return model, list(parameters.values())


def tune_name(name: str) -> str:
    """torchtune's name of one of PEFT's LoRA tensors. Their values are the same: B, whose rows it would reorder, is zero."""
    parts = name.removeprefix("base_model.model.model.").replace("lora_A", "lora_a").replace("lora_B", "lora_b").split(".")
    return ".".join(LORA_NAMES.get(part, part) for part in parts)


if __name__ == "__main__":
    main()
