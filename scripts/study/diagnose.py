"""What a run's models make of prompts, and how hard each loss pulls on them, at every checkpoint.

    python scripts/study/diagnose.py CONFIG OUTPUT.json [SETTING=VALUE …]

On the first samples of the validation split, in float32: cross-entropy with their prompts and with
prompts dropped; of an aligned run also the lengths of the gradients of cross-entropy and of the
alignment term (λ left out), and the cosine between them, over the backbone's weights that the
alignment term reaches.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from command import exit_status
from torch import Tensor

from arra_med import config
from arra_med.alignment import ArraModel
from arra_med.settings import Settings
from arra_med.store import canonical_json, write_atomic
from arra_med.training.checkpoints import complete_checkpoints, read_mark
from arra_med.training.data import collate
from arra_med.training.export import whole_weights
from arra_med.training.inputs import Inputs
from arra_med.training.setup import Setup
from arra_med.training.validation import to_device

_BATCH, _BATCHES = 64, 4


def main() -> None:
    """Measure every checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    add = parser.add_argument
    add("config", type=Path, metavar="CONFIG.yaml", help="of the run")
    add("output", type=Path, metavar="OUTPUT.json", help="what is written")
    add("overrides", nargs="*", default=[], metavar="key=value", help="settings to override")
    options = parser.parse_args()
    settings = config.load(Settings, options.config, options.overrides)
    run = settings.paths.folder("run")
    if not (folders := complete_checkpoints(run / "checkpoints")):
        raise FileNotFoundError(
            f"no checkpoint in {run}: train first; run.py deletes them once all read them"
        )
    options.output.parent.mkdir(parents=True, exist_ok=True)  # now, not after all the work
    setup = Setup(settings, Inputs(settings))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    examples = setup.validation_set
    places = range(min(len(examples), _BATCH * _BATCHES))
    prompted, dropped = (
        [
            to_device(
                collate([examples.item(i, dropped=drop) for i in part], examples.layout.pad_id),
                device,
            )
            for part in (places[start : start + _BATCH] for start in places[::_BATCH])
        ]
        for drop in (False, True)
    )
    model = setup.model.float().to(device).eval()
    points = []
    for folder in folders:
        model.load_state_dict(whole_weights(folder))
        points.append(
            {
                "step": read_mark(folder)["step"],
                "prompted": mean_cross_entropy(model, prompted),
                "dropped": mean_cross_entropy(model, dropped),
                "pull": pull(model, prompted) if model.projector is not None else None,
            }
        )
    tree = {"samples": len(places), "weight": settings.alignment.weight, "points": points}
    write_atomic(options.output, canonical_json(tree).encode())
    sys.stdout.write(f"{options.output}\n")


@torch.no_grad()
def mean_cross_entropy(model: ArraModel, batches: Sequence[Any]) -> float:
    """Nats a position, mean over batches of equally many samples."""
    return float(torch.stack([model(batch)["cross_entropy"] for batch in batches]).mean())


def pull(model: ArraModel, batches: Sequence[Any]) -> dict[str, float]:
    """Lengths of both gradients and their cosine, over weights that the alignment term reaches.

    Args:
        model: with an alignment term; its gradients are overwritten.
        batches: of equally many samples, on the model's device.

    Returns:
        ``cross_entropy`` and ``alignment``, lengths of the mean gradients, and ``cosine``.
    """
    gradients = {loss: _gradient(model, batches, loss) for loss in ("alignment", "cross_entropy")}
    reached = list(gradients["alignment"])  # a later block sends nothing back to earlier ones
    alignment, cross_entropy = (
        torch.cat([gradient[name].flatten() for name in reached]) for gradient in gradients.values()
    )
    cosine = torch.nn.functional.cosine_similarity(cross_entropy, alignment, dim=0)
    return {
        "cross_entropy": float(cross_entropy.norm()),
        "alignment": float(alignment.norm()),
        "cosine": float(cosine),
    }


def _gradient(
    model: ArraModel, batches: Sequence[Any], loss: Literal["alignment", "cross_entropy"]
) -> dict[str, Tensor]:
    """Mean gradient of one loss by name of the backbone's weight, of those it reaches."""
    model.zero_grad(set_to_none=True)
    for batch in batches:
        (model(batch)[loss] / len(batches)).backward()
    named = model.backbone.named_parameters()
    return {name: weight.grad for name, weight in named if weight.grad is not None}


if __name__ == "__main__":
    sys.exit(exit_status(main))
