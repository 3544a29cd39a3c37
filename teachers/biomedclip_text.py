"""BiomedCLIP's text tower, for evaluation: how well does a picture fit its prompt?

PubMedBERT, its class token, a two-layer projection, 256 tokens of context. open_clip's published
folder names the BERT model on the hub whose configuration it needs; here that configuration comes
from the folder, from the asset folder or from Hugging Face's cache, and else from this file: the
architecture is fixed, and the checkpoint's shapes are checked against it. No network.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.tokenizer import HFTokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig

from arra_med.assets.folder import asset_path
from arra_med.errors import RequestError
from arra_med.teachers.biomedclip_formats import (
    CONTEXT_LENGTH,
    TOKENIZER_FILES,
    BiomedClipFolder,
)
from arra_med.teachers.transformers_encoder import quiet

# BERT-base with PubMedBERT's vocabulary, under the names the model has had on the hub
# (config.json of microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract)
PUBMEDBERT = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
PUBMEDBERT_NAMES = (
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
    "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract",
)


@dataclass(frozen=True, kw_only=True)
class BiomedClipTextOptions:
    """Options of :class:`BiomedClipText`.

    Attributes:
        weights: as for the image tower; the folder also holds the tokenizer.
        batch_size: texts a forward pass.
    """

    weights: Path | None = None
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be positive, got {self.batch_size}")


@dataclass(frozen=True)
class TextVectors:
    """Vectors of texts.

    Attributes:
        vectors: ``(N, D)`` float32 of length 1, on the CPU; their product with an image's projected
            vector of length 1 is the CLIP score.
        truncated: how many of the texts are longer than the context and were cut.
    """

    vectors: Tensor
    truncated: int


class BiomedClipText(nn.Module):
    """The text tower, frozen.

    Raises:
        FileNotFoundError: if weights or tokenizer are missing.
        RequestError: if they are not of such a model.
    """

    def __init__(self, options: BiomedClipTextOptions) -> None:
        super().__init__()
        folder = BiomedClipFolder.find(options.weights)
        self.batch_size = options.batch_size
        self.dimension = folder.embed_dim
        self.context_length = int(folder.text.get("context_length", CONTEXT_LENGTH))
        self.tokenizer = _tokenizer(folder, self.context_length)
        self.encoder = _encoder(folder)
        folder.load(self.encoder, "text.")
        self.requires_grad_(False).eval()

    @classmethod
    def identity(cls, options: BiomedClipTextOptions) -> dict[str, Any]:
        """JSON of all that its vectors depend on; weights are hashed, not loaded."""
        folder = BiomedClipFolder.find(options.weights)
        return {
            "name": "biomedclip-text",
            "weights_sha256": folder.published.sha256(folder.folder),
            "config": folder.published.config_fingerprint(folder.folder),
            "dimension": folder.embed_dim,
            "context_length": int(folder.text.get("context_length", CONTEXT_LENGTH)),
        }

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> TextVectors:
        """Vectors of ``texts``, in order, on whichever device the module is.

        Runs of white space count as one blank, as in open_clip.
        """
        if not texts:
            return TextVectors(torch.zeros(0, self.dimension), truncated=0)
        device = next(self.parameters()).device
        clean = [self.tokenizer.clean_fn(text) for text in texts]
        # the limit is for the warning alone: nothing is cut in this call
        lengths = self.tokenizer.tokenizer(clean, truncation=False, verbose=False)["input_ids"]
        batches = [
            F.normalize(self.encoder(self._ids(clean[start : start + self.batch_size], device)))
            for start in range(0, len(clean), self.batch_size)
        ]
        return TextVectors(
            vectors=torch.cat(batches).float().cpu(),
            truncated=sum(len(ids) > self.context_length for ids in lengths),
        )

    def _ids(self, texts: list[str], device: torch.device) -> Tensor:
        """``(B, N)`` token ids, padded to the longest text: the tower masks the padding."""
        ids: Tensor = self.tokenizer.tokenizer(
            texts,
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=self.context_length,
        )["input_ids"]
        return ids.to(device)


def _encoder(folder: BiomedClipFolder) -> HFTextEncoder:
    """The text tower with random weights."""
    try:
        encoder = HFTextEncoder(
            "",
            folder.embed_dim,
            config=BertConfig(**_bert(folder)),
            pooler_type=folder.text["hf_pooler_type"],
            proj_type=folder.text["hf_proj_type"],
        )
    except KeyError as error:
        raise RequestError(f"{folder.config}: text_cfg lacks {error}") from error
    encoder.transformer.pooler = None  # open_clip builds it without, when it reads the hub
    return encoder


def _bert(folder: BiomedClipFolder) -> Mapping[str, Any]:
    """BERT's configuration: the folder's, the asset folder's, the cache's, or the known one."""
    if folder.bert is not None:
        return folder.bert
    name = str(folder.text.get("hf_model_name", ""))
    for path in _copies(name, "config.json"):
        tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return tree
    if name in PUBMEDBERT_NAMES:
        return PUBMEDBERT
    raise RequestError(
        f"{folder.config} names the text model {name!r}, whose configuration is not known here: "
        f"copy that model's config.json into {folder.folder}"
    )


def _tokenizer(folder: BiomedClipFolder, context_length: int) -> HFTokenizer:
    """open_clip's tokenizer, from the folder or from a local copy of the one it names."""
    name = str(folder.text.get("hf_tokenizer_name", ""))
    copies = [folder.folder / "tokenizer.json", folder.folder / "vocab.txt"]
    copies += [*_copies(name, "tokenizer.json"), *_copies(name, "vocab.txt")]
    found = next((path.parent for path in copies if path.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"the tokenizer of BiomedCLIP's text tower is not there. Needed: "
            f"{', '.join(TOKENIZER_FILES)}. Looked in {folder.folder}, in the asset folder and in "
            f"Hugging Face's cache for {name or 'no other name'}. Copy the whole folder of "
            f"{folder.published.repository}, not only its weights."
        )
    with quiet():
        return HFTokenizer(
            str(found),
            context_length=context_length,
            local_files_only=True,
            trust_remote_code=False,
            config=BertConfig(),
        )


def _copies(name: str, file: str) -> list[Path]:
    """Local copies of a file of a hub repository."""
    if "/" not in name:
        return []
    local = Path(name) / file  # a folder may be named in place of a repository
    if local.is_file():
        return [local]
    asset = asset_path(name)
    if asset is not None and (asset / file).is_file():
        return [asset / file]
    cached = huggingface_hub.try_to_load_from_cache(name, file)
    return [Path(cached)] if isinstance(cached, str) else []
