"""One micro-batch: from packed ids to the summed loss of its trained tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from afina.data.pack import Packed, micro_batches
from afina.data.render import Row
from afina.train.loss import summed_loss


def packed_loss(model: PreTrainedModel, batch: Packed) -> Tensor:
    """Summed loss of a micro-batch; the output layer sees only the rows that predict a trained token."""
    device = model.device
    ids = torch.tensor(batch.ids, device=device)[None]  # (1, T)
    hidden = model.get_decoder()(
        input_ids=ids,
        position_ids=torch.tensor(batch.positions, device=device)[None],
        use_cache=False,
        cu_seq_lens_q=torch.tensor(batch.starts, dtype=torch.int32),
    ).last_hidden_state[0]  # (T, D)
    rows = hidden.index_select(0, torch.tensor(batch.inputs, device=device))  # (N, D)
    head: Tensor = model.get_output_embeddings().weight  # (V, D)
    softcap = model.config.to_dict().get("final_logit_softcapping")
    return summed_loss(rows, head, torch.tensor(batch.targets, device=device), softcap)


@torch.no_grad()
def mean_loss(model: PreTrainedModel, rows: Sequence[Row], micro_tokens: int) -> float:
    """Loss a trained token over ``rows``, all tokens weighing the same."""
    tokens = sum(row.trained_tokens for row in rows)
    total = sum(packed_loss(model, batch).item() for batch in micro_batches(rows, micro_tokens))
    return float(total) / tokens
