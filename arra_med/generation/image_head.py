"""Logits of image codes alone, from a model whose head covers its whole vocabulary."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


class ImageHead:
    """A model's output head, cut to the rows of image codes where that changes nothing.

    The model's own ``forward`` runs with the shorter head in place, so that whatever it does to
    logits one by one (soft caps, scales, a bias) is done here too. Where it treats them by their
    place in the vocabulary, or its head is no plain linear layer (an adapter, weights spread over
    processes), all logits are computed and the image codes' picked. Which of the two holds is found
    by comparing both on one short sequence.

    Args:
        model: in evaluation mode; its head's weights as they are now are used.
        token_of_code: ``(K,)`` token ids, on the model's device.
        probe: token ids of a short sequence.
    """

    def __init__(self, model: PreTrainedModel, token_of_code: Tensor, probe: Tensor) -> None:
        self.model = model
        self.token_of_code = token_of_code
        self.rows = _image_rows(model.get_output_embeddings(), token_of_code)
        if self.rows is not None and not self._agrees(probe):
            self.rows = None

    @contextmanager
    def fitted(self) -> Iterator[None]:
        """While this lasts, the model's logits are what :meth:`codes` expects."""
        if self.rows is None:
            yield
            return
        whole = self.model.get_output_embeddings()
        self.model.set_output_embeddings(self.rows)
        try:
            yield
        finally:
            self.model.set_output_embeddings(whole)

    def codes(self, logits: Tensor) -> Tensor:
        """``(S, K)`` float32 logits of the image codes at the last position.

        Args:
            logits: ``(S, t, V or K)``, as the model gave them.
        """
        last = logits[:, -1]
        return (last if self.rows is not None else last[:, self.token_of_code]).float()

    @torch.no_grad()
    def _agrees(self, probe: Tensor) -> bool:
        whole = self.model(input_ids=probe, use_cache=False).logits
        picked = whole[:, -1].index_select(-1, self.token_of_code).float()
        with self.fitted():
            logits = self.model(input_ids=probe, use_cache=False).logits
        if logits.shape[-1] != len(self.token_of_code):
            return False
        slack = 8 * torch.finfo(whole.dtype).eps
        atol = slack * float(picked.nan_to_num().abs().max())
        return torch.allclose(self.codes(logits), picked, rtol=slack, atol=atol, equal_nan=True)


@torch.no_grad()
def _image_rows(head: nn.Module | None, token_of_code: Tensor) -> nn.Linear | None:
    if type(head) is not nn.Linear or head.weight.shape != (head.out_features, head.in_features):
        return None
    rows = nn.Linear(
        head.in_features, len(token_of_code), bias=head.bias is not None,
        device=head.weight.device, dtype=head.weight.dtype,
    ).requires_grad_(False)  # fmt: skip
    rows.weight.copy_(head.weight[token_of_code])
    if head.bias is not None:
        rows.bias.copy_(head.bias[token_of_code])
    return rows.train(head.training)
