"""What the server of :mod:`tests.forks` imports before it forks."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401
import monai  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
import transformers.models.llama.modeling_llama  # noqa: F401

import arra_med.cli.stages
import arra_med.tokenizers.cache
import arra_med.tokenizers.monai_vqvae
import arra_med.training.train  # noqa: F401
