"""``generate``: prompts to a generated folder, in parts, resumable, shared by several processes."""

import errno
import logging
import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from arra_med.config import to_tree
from arra_med.errors import WorkError
from arra_med.generation.backend import Backend, Request, check_lengths
from arra_med.generation.diffusers_pipeline import DiffusersPipeline
from arra_med.generation.folder import generations_schema
from arra_med.generation.language_model import LanguageModel
from arra_med.generation.prompts import PromptSet, choose_prompts
from arra_med.generation.sheet import NAME, write_sheet
from arra_med.generation.source import find_source
from arra_med.generation.write import PartQueue, scratch
from arra_med.parallel import process_group
from arra_med.progress import Progress
from arra_med.settings import Generation, Settings
from arra_med.store import PartWriter, Shard

logger = logging.getLogger(__name__)

_NOT_IN_CONFIG = (
    "prompt", "prompts", "key_column", "prompt_column", "encoding", "delimiter",  # one hash says
    "image_tokenizer",  # the model's entry has its hash
    "batch_size", "compile",
)  # fmt: skip


def open_backend(settings: Settings, device: torch.device, channels: int | None = None) -> Backend:
    """What the configuration draws with; no weights are loaded yet.

    Args:
        settings: ``generation``, ``paths.export``, and ``tokenizer`` for a published checkpoint.
        device: where it will run.
        channels: of the pictures if ``generation.channels`` does not say; by default the model's.

    Raises:
        FileNotFoundError: if there is no such model.
        RequestError: if it is something else.
    """
    chosen = settings.generation
    channels = chosen.channels or channels
    if chosen.diffusers is not None:
        return DiffusersPipeline(chosen, device, channels=channels)
    plugin = None if settings.tokenizer is None else settings.tokenizer.plugin
    source = find_source(settings.paths.folder("export"), chosen, plugin)
    return LanguageModel(source, chosen, device, channels=channels)


def generate(
    settings: Settings, folder: Path, *, device: torch.device, shard: Shard | None = None
) -> dict[str, Any]:
    """Draw pictures for every prompt, or finish a folder that was interrupted or sharded.

    Args:
        settings: a whole configuration; ``generation`` says what is drawn.
        folder: the generated folder.
        device: where the model runs.
        shard: write only this shard's parts and do not finish; a run without a shard joins them.

    Returns:
        The manifest: ``counts`` of ``images``, ``truncated_prompts`` and ``withheld`` (blacked out
        by a pipeline's own safety checker); ``prompts``, ``warnings``. Of a shard, ``{}``.

    Raises:
        FileNotFoundError: if model, prompts or prepared folder are not there.
        RequestError: if the folder holds pictures of other settings, or a prompt is unusable.
        WorkError: if the disk is full; what is done stays, and nothing half-written counts as done.
    """
    prompts = choose_prompts(settings.generation, settings.paths.folder("prepared"))
    backend = open_backend(settings, device, prompts.channels)
    if shard is None or shard.index == 0:
        for warning in backend.warnings:
            logger.warning("%s", warning)
    try:
        return _Job(settings, prompts, backend, folder, shard).run()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WorkError(
                f"the disk is full: {folder} is not finished. Make room and run the same command "
                "again: it draws what is missing"
            ) from error
        raise


def generate_in_processes(settings: Settings, folder: Path, *, device: torch.device) -> None:
    """:func:`generate` shared by the processes of ``torchrun``, each on its own GPU.

    Raises:
        As :func:`generate`.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        generate(settings, folder, device=device)
        return
    if device.type == "cuda" and ":" not in str(device):
        device = torch.device(device.type, int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    with process_group():
        generate(settings, folder, device=device, shard=Shard(rank, world))
        torch.distributed.barrier()
        if rank == 0:  # every part is there: this joins them, without loading the model
            generate(settings, folder, device=device)


class _Job:
    """One run of :func:`generate`."""

    def __init__(
        self,
        settings: Settings,
        prompts: PromptSet,
        backend: Backend,
        folder: Path,
        shard: Shard | None,
    ) -> None:
        self.chosen: Generation = settings.generation
        self.prompts, self.backend, self.folder, self.shard = prompts, backend, folder, shard
        self.seed = settings.seed
        self.size = self.chosen.part_size
        self.num_images = len(prompts.prompts) * self.chosen.images_per_prompt
        self.num_parts = -(-self.num_images // self.size)
        backend.expect(self.num_images)
        self.schema = generations_schema(self.chosen.carry)
        self.tree = _config_of(self.chosen, backend)
        self.config = {
            "model": backend.model,
            "prompts": prompts.source,
            "prepared": prompts.prepared,
            "seed": self.seed,
            **self.tree,
        }

    def run(self) -> dict[str, Any]:
        with PartWriter(
            self.folder, kind="generated", config=self.config, shard=self.shard
        ) as writer:
            missing = writer.missing(self.num_parts)
            if writer.finished:
                logger.info("%s is already done", self.folder)
            if missing:
                self._draw(writer, missing)
            if self.shard is not None:
                logger.info("shard %s is done; run without --shard to join all", self.shard)
                return {}
            if writer.finished:
                return writer.finish(self.num_parts)
            return self._finish(writer)

    def _draw(self, writer: PartWriter, missing: list[int]) -> None:
        lengths, cut = check_lengths(self.backend, self.prompts.prompts)
        if cut:
            logger.warning("%d of %d prompts are cut", len(cut), len(lengths))
        parts = self._parts(lengths)
        batch_size = self._batch_size(max(lengths))
        todo = sum(len(parts[part]) for part in missing)
        if todo < self.num_images and self.shard is None:
            logger.info("resuming: %d of %d pictures are done", self.num_images - todo,
                        self.num_images)  # fmt: skip
        begun = time.monotonic()
        with (
            Progress(todo, unit="image", label="generate") as progress,
            PartQueue(writer, self.backend, self.chosen, self.tree, self.schema) as queue,
        ):
            for part in missing:
                self._draw_part(queue, parts[part], batch_size, progress)
                queue.close_part(part, parts[part], cut)
            queue.wait()
        minutes = (time.monotonic() - begun) / 60
        logger.info(
            "%d pictures in %.1f minutes: %.1f images a minute", todo, minutes, todo / minutes
        )

    def _draw_part(
        self, queue: PartQueue, requests: list[Request], batch_size: int, progress: Progress
    ) -> None:
        """Draw a part; each batch is fetched once the next one is under way."""
        waiting = None
        for start in range(0, len(requests), batch_size):
            batch = requests[start : start + batch_size]
            try:
                begun = (batch, self.backend.start(batch))
            except torch.OutOfMemoryError as error:
                raise WorkError(
                    f"out of memory with {len(batch)} pictures together "
                    f"({str(error).splitlines()[0]}): set generation.batch_size to less and run "
                    "the same command again; finished parts are kept"
                ) from error
            if waiting is not None:
                queue.add(waiting[0], waiting[1]())
                progress.update(len(waiting[0]))
            waiting = begun
        if waiting is not None:
            queue.add(waiting[0], waiting[1]())
            progress.update(len(waiting[0]))

    def _parts(self, lengths: list[int]) -> list[list[Request]]:
        """Every picture, prompts of like length together (longest first), cut into parts."""
        prompts = self.prompts.prompts
        order = sorted(range(len(prompts)), key=lambda i: (-lengths[i], i))
        requests = [
            Request(prompts[i], index, self.seed)
            for i in order
            for index in range(self.chosen.images_per_prompt)
        ]
        return [requests[i : i + self.size] for i in range(0, len(requests), self.size)]

    def _batch_size(self, longest: int) -> int:
        """As asked; else many that fit and divide a part, so that all batches are alike.

        A GPU's graphs are recorded anew for a batch of another size. Where only a much smaller
        number divides the part, they are as alike as can be.
        """
        if self.chosen.batch_size != "auto":
            return self.chosen.batch_size
        part = min(self.size, self.num_images)
        fits = min(part, self.backend.largest_batch(longest))
        divisor = next(size for size in range(fits, 0, -1) if part % size == 0)
        alike = -(-part // -(-part // fits))
        chosen = divisor if 3 * divisor >= 2 * alike else alike
        logger.info("batches of %d pictures (%d fit)", chosen, fits)
        return chosen

    def _finish(self, writer: PartWriter) -> dict[str, Any]:
        table = pa.concat_tables(
            [pq.read_table(self.folder / scratch(part)) for part in range(self.num_parts)]
        )
        place = {prompt.key: i for i, prompt in enumerate(self.prompts.prompts)}
        rows = sorted(table.to_pylist(), key=lambda row: (place[row["key"]], row["index"]))
        return writer.finish(
            self.num_parts,
            {
                "generations.parquet": pa.Table.from_pylist(rows, self.schema),
                NAME: write_sheet([self.folder / row["file"] for row in rows]),
            },
            summary={"channels": self.backend.channels, "warnings": self.backend.warnings},
        )


def _config_of(chosen: Generation, backend: Backend) -> dict[str, Any]:
    """The settings that pictures depend on, as the manifest has them."""
    tree = {name: v for name, v in to_tree(chosen).items() if name not in _NOT_IN_CONFIG}
    if chosen.diffusers is not None:
        tree["diffusers"] = {"steps": chosen.diffusers.steps}
        for name in ("guidance_schedule", "temperature", "top_k", "top_p"):
            del tree[name]
    return tree | {"channels": backend.channels}
