"""Gradients of each loss against autograd's, on a tiny model."""

import pytest
import torch
from diagnose import mean_cross_entropy, pull

from arra_med.settings import Alignment
from arra_med.training.data import collate
from tests.test_alignment import make_items, make_layout, make_model


def test_gradients_are_those_of_each_loss_over_the_weights_the_term_reaches() -> None:
    layout = make_layout()
    model = make_model(Alignment(layer=1, weight=3.0)).eval()
    batches = [collate(make_items(layout), layout.pad_id), collate(make_items(layout)[:2], 0)]
    found = pull(model, batches)

    reached = [
        weight
        for name, weight in model.backbone.named_parameters()
        if "layers.0." in name or "embed_tokens" in name
    ]
    losses = [model(batch)["cross_entropy"].item() for batch in batches]
    assert mean_cross_entropy(model, batches) == pytest.approx(sum(losses) / 2)
    vectors = []
    for loss in ("cross_entropy", "alignment"):
        mean = (model(batches[0])[loss] + model(batches[1])[loss]) / 2
        parts = torch.autograd.grad(mean, reached)
        vectors.append(torch.cat([part.flatten() for part in parts]))
    one, two = vectors
    assert found["cross_entropy"] == pytest.approx(float(one.norm()), rel=1e-4)
    assert found["alignment"] == pytest.approx(float(two.norm()), rel=1e-4)
    cosine = float(one @ two / (one.norm() * two.norm()))
    assert found["cosine"] == pytest.approx(cosine, abs=1e-4)
