"""What an export's folder holds."""

from pathlib import Path

import torch

from arra_med.model.backbones import build_backbone
from arra_med.model.export import load_export, write_export
from arra_med.settings import Backbone, Llama
from tests.model.test_contract import INFO, image_tokenizer_folder


def test_a_tokenizer_with_several_chat_templates_is_written_whole(tmp_path: Path) -> None:
    image_tokenizer, vqvae = image_tokenizer_folder(tmp_path / "vq")
    llama = Llama(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16)
    model, text_tokenizer, layout = build_backbone(
        Backbone(llama=llama), prompts=["clear lungs."], num_codes=vqvae.num_codes,
        grid=vqvae.grid, with_rep=False, seed=0,
    )  # fmt: skip
    text_tokenizer.chat_template = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    write_export(
        tmp_path / "export", model=model, state_dict=model.state_dict(), layout=layout, info=INFO,
        text_tokenizer=text_tokenizer, image_tokenizer=image_tokenizer,
    )  # fmt: skip
    loaded = load_export(tmp_path / "export", torch.device("cpu"))
    assert loaded.text_tokenizer.chat_template == text_tokenizer.chat_template
