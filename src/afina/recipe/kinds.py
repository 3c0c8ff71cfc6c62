"""The kinds of GGUF file that can be asked for. A file of its own, for processes that need no recipe to know them."""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_m", "iq4_xs"]
KINDS: tuple[Kind, ...] = get_args(Kind)
