"""What takes a rank's memory while training: counted where it can be, estimated for activations.

The bytes a parameter takes under ZeRO are those of Rajbhandari et al., arXiv 1910.02054; a block's
activations are estimated after Korthikanti et al., arXiv 2205.05198, with attention that keeps no
matrix of scores.
"""

import dataclasses
from collections.abc import Iterator

from arra_med.settings import Training
from arra_med.token_loss import CHUNK_ELEMENTS
from arra_med.training.engine import deepspeed_config
from arra_med.training.setup import Setup, parameter_counts

_GB = 1e9
_HALF_BYTES_PER_HIDDEN = 34 - 16
"""Bytes a block keeps per token and hidden unit in 16 bit, without its MLP's inner part."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the table is computed from.

    Attributes:
        parameters: of the model that is trained, projector included.
        trained: those of them that have gradients.
        tokenizer_bytes: of the image tokenizer, which draws previews.
        row_tokens: tokens of the longest row of a batch.
        layers: decoder blocks.
        hidden: width of the hidden states.
        inner: width inside a block's MLP.
        vocabulary: of the output head.
    """

    parameters: int
    trained: int
    tokenizer_bytes: int
    row_tokens: int
    layers: int
    hidden: int
    inner: int
    vocabulary: int


def sizes(setup: Setup) -> Sizes:
    """The sizes of a run."""
    trained, parameters = parameter_counts(setup.model)
    config = setup.model.backbone.config.get_text_config()
    hidden = int(config.hidden_size)
    tokenizer = setup.image_tokenizer.parameters()
    return Sizes(
        parameters=parameters,
        trained=trained,
        tokenizer_bytes=sum(p.numel() * p.element_size() for p in tokenizer),
        row_tokens=setup.training.pack_tokens or setup.longest_sequence(),
        layers=int(config.num_hidden_layers),
        hidden=hidden,
        inner=int(getattr(config, "intermediate_size", None) or 4 * hidden),
        vocabulary=int(config.vocab_size),
    )


def memory_table(setup: Setup, world_size: int) -> list[tuple[str, int]]:
    """What takes a rank's device memory, as ``(name, bytes)``, the largest first."""
    return table(sizes(setup), setup.training, world_size)


def table_lines(rows: list[tuple[str, int]]) -> list[str]:
    """Rows of ``(name, bytes)`` to read, in gigabytes."""
    return [f"  {name:28}{size / _GB:9.2f} GB" for name, size in rows]


def table(sizes: Sizes, training: Training, world_size: int) -> list[tuple[str, int]]:
    """:func:`memory_table` from sizes and settings alone."""
    stage, offload = training.zero_stage, training.offload
    compute = 4 if training.precision == "fp32" else 2
    pure = training.master_weights == "bf16"
    state = 2 if pure else 4
    over = {needed: world_size if stage >= needed else 1 for needed in (1, 2, 3)}
    # Stage 0 updates the model's own weights where they have the precision for it.
    has_master = stage > 0 or not (pure or training.precision == "fp32")
    on_device = offload == "none"
    rows = {
        "weights": sizes.parameters * compute // over[3] * (offload != "parameters"),
        "gradients": sizes.trained * compute // over[2],
        "AdamW's weights": sizes.trained * state // over[1] * (has_master and on_device),
        "AdamW's moments": 2 * sizes.trained * state // over[1] * on_device,
        "activations (estimate)": _activations(sizes, training, compute),
        "logits and their gradient": _logits(sizes, training, compute),
        "image tokenizer": sizes.tokenizer_bytes,
    }
    return sorted(rows.items(), key=lambda row: -row[1])


def _activations(sizes: Sizes, training: Training, compute: int) -> int:
    tokens = training.micro_batch_size * sizes.row_tokens
    per_token = (_HALF_BYTES_PER_HIDDEN * sizes.hidden + 2 * 3 * sizes.inner) * compute // 2
    every = training.activation_checkpointing
    recomputed = -(-sizes.layers // every) if every else 0
    kept = sizes.layers - recomputed + (recomputed > 0)  # one is there while it is recomputed
    return tokens * (kept * per_token + recomputed * sizes.hidden * compute)


def _logits(sizes: Sizes, training: Training, compute: int) -> int:
    """The logits as the head gives them, in float32, and the gradient of both."""
    elements = training.micro_batch_size * sizes.row_tokens * sizes.vocabulary
    return min(elements, CHUNK_ELEMENTS) * 2 * (compute + 4)


def remedies(
    sizes: Sizes, training: Training, world_size: int, budget: int | None
) -> list[tuple[str, int]]:
    """Three changes of the settings that take less memory, as ``(settings, bytes)``.

    Args:
        sizes: of the run.
        training: the settings that did not fit.
        world_size: number of ranks.
        budget: bytes of the device; those that fit come first, the least change foremost.
    """
    found: dict[str, int] = {}
    for changes in _changes(training, world_size):
        try:
            other = dataclasses.replace(training, **changes)  # type: ignore[arg-type]
            if not training.pack_tokens:
                deepspeed_config(other, world_size)
        except ValueError:  # a RequestError too: what the next start would refuse is no remedy
            continue
        text = ", ".join(f"training.{name}={value}" for name, value in changes.items())
        found[text] = sum(size for _, size in table(sizes, other, world_size))
    now = sum(size for _, size in table(sizes, training, world_size))
    less = [(text, size) for text, size in found.items() if size < now]
    fitting = [row for row in less if budget is not None and row[1] < budget]
    rest = sorted((row for row in less if row not in fitting), key=lambda row: row[1])
    return [*fitting, *rest][:3]


def _changes(training: Training, world_size: int) -> Iterator[dict[str, object]]:
    """Changes worth trying, the cheapest in speed and quality first."""
    single: list[dict[str, object]] = [
        {"micro_batch_size": _next_smaller(training, world_size)},
        {"activation_checkpointing": 1},
        {"micro_batch_size": 1},
    ]
    if world_size > 1:
        single += [{"zero_stage": stage} for stage in (1, 2, 3) if stage > training.zero_stage]
    stage = max(1, training.zero_stage)
    single += [
        {"zero_stage": stage, "offload": "optimizer"},
        {"zero_stage": 3, "offload": "parameters"},
    ]
    yield from single
    for change in single:
        yield {**change, "micro_batch_size": 1, "activation_checkpointing": 1}


def _next_smaller(training: Training, world_size: int) -> int:
    """The next smaller micro-batch that divides the batch, at most half of the present one."""
    share = training.batch_size // world_size
    sizes = range(training.micro_batch_size // 2, 1, -1)
    return next((size for size in sizes if training.pack_tokens or share % size == 0), 1)


def out_of_memory(setup: Setup, world_size: int, error: BaseException, budget: int | None) -> str:
    """What to tell when memory ran out.

    Args:
        setup: of the run.
        world_size: number of ranks.
        error: PyTorch's.
        budget: bytes of the device, if known.
    """
    rows = memory_table(setup, world_size)
    lines = [f"out of memory: {str(error).splitlines()[0]}", "What a rank needs:"]
    lines += table_lines([*rows, ("together", sum(size for _, size in rows))])
    if budget is not None:
        lines += table_lines([("the device has", budget)])
    lines.append("Less takes:")
    lines += [
        f"  {text:58}{size / _GB:9.2f} GB"
        for text, size in remedies(sizes(setup), setup.training, world_size, budget)
    ]
    if setup.backbone.lora is None and setup.backbone.pretrained is not None:
        lines.append("LoRA (backbone.lora) trains far fewer weights in a new run.")
    lines.append(
        "The last checkpoint is intact; a run goes on from it with these settings, except that its "
        "ZeRO stage can change between 1 and 2 only."
    )
    return "\n".join(lines)
