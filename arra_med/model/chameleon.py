"""Chameleon as a model that draws.

transformers' ``ChameleonForConditionalGeneration`` is the model, with two differences: it forbids
image tokens in its logits, because it cannot turn them into pixels, and it carries the encoder of
the image tokenizer, which training and sampling of codes do not need.

Shapes: B samples, T tokens, K kept positions, V vocabulary, D hidden size.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ChameleonConfig, ChameleonForConditionalGeneration
from transformers.modeling_outputs import CausalLMOutputWithPast

from arra_med.model.cache import CACHE

VQ_PREFIX = "model.vqmodel."


class ChameleonDrawer(ChameleonForConditionalGeneration):  # type: ignore[misc]
    """Chameleon with logits for every token, image codes included.

    What it saves is opened by plain ``ChameleonForConditionalGeneration``: the same logits there
    except for image tokens, which that class sets to the lowest number.

    Attributes:
        vq_weights: weights of the image tokenizer's encoder as the checkpoint has them, by their
            full names; no part of the module, only saved along with it. Empty if the checkpoint
            has none: transformers then starts that encoder from random weights and says so.
    """

    def __init__(self, config: ChameleonConfig) -> None:
        super().__init__(config)
        del self.model.vqmodel
        self.vq_weights: dict[str, Tensor] = {}

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,  # noqa: ANN401
    ) -> CausalLMOutputWithPast:
        """As every causal language model of transformers.

        Args:
            input_ids: ``(B, T)`` int64.
            attention_mask: ``(B, T)``, 0 at padding.
            position_ids: ``(B, T)``.
            inputs_embeds: ``(B, T, D)``, in place of ``input_ids``.
            labels: ``(B, T)`` for transformers' own next-token loss.
            use_cache: whether to return a cache.
            logits_to_keep: the last so many positions (0 for all), or an index tensor ``(K,)``.
            **kwargs: passed on to the decoder, a cache among them.

        Returns:
            ``logits`` ``(B, K, V)`` among the usual outputs.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        kept = (
            slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        )  # -0 is 0: everything
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **{CACHE: getattr(outputs, CACHE)},
        )

    def drop_residuals(self, share: float) -> None:
        """Dropout in training on what each half of a block adds to the residual stream.

        This is what the ``dropout`` of Lumina-mGPT's and ARRA's training does; transformers'
        Chameleon only has dropout of attention weights. Called once, before training.
        """
        if share == 0:
            return

        def drop(module: nn.Module, _inputs: Any, output: Any) -> Any:  # noqa: ANN401
            if isinstance(output, tuple):
                return (functional.dropout(output[0], share, module.training), *output[1:])
            return functional.dropout(output, share, module.training)

        for block in self.model.layers:
            if self.config.swin_norm:  # the norms stand between the halves and the residual
                halves = (block.input_layernorm, block.post_attention_layernorm)
            else:
                halves = (block.self_attn, block.mlp)
            for half in halves:
                half.register_forward_hook(drop)

    @torch.no_grad()
    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        state_dict: dict[str, Tensor] | None = None,
        **kwargs: Any,  # noqa: ANN401 - transformers'
    ) -> None:
        """Save for plain ``ChameleonForConditionalGeneration``, encoder weights included."""
        weights = self.state_dict() if state_dict is None else state_dict
        super().save_pretrained(save_directory, state_dict={**weights, **self.vq_weights}, **kwargs)
        path = Path(save_directory) / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["architectures"] = [ChameleonForConditionalGeneration.__name__]
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
