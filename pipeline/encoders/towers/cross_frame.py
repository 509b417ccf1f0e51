"""Cross-frame attention inside a visual tower: X-CLIP's communication between the frames of a clip.

    m  = message_fc(x[:, 0])                  a message of each frame, from its class token
    m  = m + message_attn(message_ln(m))      over the T frames of a clip
    x' = [x; m]                               the message is the last token of its frame
    x' = x' + attn(ln_1(x'))                  the tower's own attention
    x  = x'[:, :-1]
    x  = x + mlp(ln_2(x))

Tokens x are [B T, 1 + P, d], clip by clip; clips never mix. Messages have no positions: permuting the frames of a clip
permutes their embeddings, and does nothing else.
Source: Ni et al. 2022 (X-CLIP), equations 2 to 5, and its released code, whose names the parameters have.
"""

from __future__ import annotations

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn


class CrossFrameBlock(ResidualAttentionBlock):
    """A trained block in whose attention every frame sees a message of its clip.

    start    released: torch's defaults, as in the released code; quiet: messages are zero, which changes the trained
             tower less
    """

    def __init__(self, block: ResidualAttentionBlock, frames: int, start: str) -> None:
        nn.Module.__init__(self)
        for name, child in block.named_children():
            self.add_module(name, child)
        self.frames = frames
        width = self.attn.embed_dim
        self.message_fc = nn.Linear(width, width)
        self.message_ln = nn.LayerNorm(width)
        self.message_attn = nn.MultiheadAttention(width, self.attn.num_heads, batch_first=True)
        if start == "quiet":
            nn.init.zeros_(self.message_fc.weight)
            nn.init.zeros_(self.message_fc.bias)

    def forward(
        self,
        q_x: torch.Tensor,
        k_x: torch.Tensor | None = None,  # noqa: ARG002 - the signature is open_clip's
        v_x: torch.Tensor | None = None,  # noqa: ARG002
        attn_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        message = self.message_fc(q_x[:, 0]).unflatten(0, (-1, self.frames))  # [B, T, d]
        normed = self.message_ln(message)
        message = message + self.message_attn(normed, normed, normed, need_weights=False)[0]
        x = torch.cat([q_x, message.flatten(0, 1)[:, None]], dim=1)
        x = x + self.ls_1(self.attention(q_x=self.ln_1(x), attn_mask=attn_mask))
        x = x[:, :-1]
        return x + self.ls_2(self.mlp(self.ln_2(x)))
