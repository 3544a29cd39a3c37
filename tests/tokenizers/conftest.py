"""A small VQ-GAN with random weights, on disk as Meta and as transformers store it."""

from pathlib import Path

import pytest

from tests.tokenizers.meta_vqgan import SMALL, VqGan, save_ckpt


@pytest.fixture(scope="session")
def reference() -> VqGan:
    return VqGan(**SMALL)


@pytest.fixture(scope="session")
def ckpt(reference: VqGan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_ckpt(reference, tmp_path_factory.mktemp("meta") / "vqgan.ckpt")


@pytest.fixture(scope="session")
def hub(reference: VqGan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Chameleon with the same encoder, as transformers saves it, in shards."""
    from transformers import ChameleonConfig, ChameleonForConditionalGeneration

    vq = {
        "embed_dim": 16,
        "num_embeddings": 96,
        "latent_channels": 24,
        "base_channels": 32,
        "resolution": 64,
    }
    config = ChameleonConfig(
        vocab_size=128,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        vq_config=vq,
        vocabulary_map={"<image>": 3},
    )
    model = ChameleonForConditionalGeneration(config)
    state = {k: v for k, v in reference.state_dict().items() if not k.startswith("decoder.")}
    model.model.vqmodel.load_state_dict(state)
    folder = tmp_path_factory.mktemp("hub")
    model.save_pretrained(folder, max_shard_size="2MB")
    assert (folder / "model.safetensors.index.json").is_file()
    return folder
