"""A tiny pipeline for tests: the stages before training, run once a session."""

import os
import subprocess
import sys
from pathlib import Path

CONFIG = """
paths: {{output: {output}}}
device: cpu
tokenizer:
  plugin:
    {{name: monai-vqvae, channels: [8, 8], residual_layers: 1, num_codes: 16, code_dimension: 8}}
  training: {{steps: 20, batch_size: 8}}
features:
  teacher: {{name: linear, weights: "{{output}}/teacher", dimension: 16, epochs: 2}}
backbone:
  llama:
    {{hidden_size: 32, num_layers: 2, num_heads: 2, intermediate_size: 64, text_vocabulary: 300}}
training:
  max_steps: 6
  batch_size: 8
  micro_batch_size: 4
  precision: fp32
  learning_rate: 1e-3
  warmup_steps: 2
  log_every: 1
  preview_samples: 2
generation: {{guidance: 2, top_k: 8, batch_size: 4}}
"""


def write_config(folder: Path) -> Path:
    """``config.yaml`` for a pipeline in ``folder``."""
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(output=folder))
    return path


def arra_med(
    *arguments: object, processes: int = 1, check: bool = True
) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own, under torchrun if there are several."""
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
        launcher += ["--master_addr=127.0.0.1", f"--master_port={29500 + os.getpid() % 1000}"]
    command = [*launcher, "-m", "arra_med", *map(str, arguments)]
    environment = {
        k: v
        for k, v in os.environ.items()
        if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")
    }
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300,
        env=environment | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if check and done.returncode:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return done
