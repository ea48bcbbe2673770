"""Models of a few thousand weights, made in the test's own folder; nothing is downloaded."""

from pathlib import Path
from typing import Any

import numpy as np

from stages.core.params import Encoder
from stages.encode.encoders import describe, load_encoder

WORDS = [
    *("guitar", "violin", "drum", "flute", "piano", "trumpet", "harp", "cello", "banjo", "organ"),
    *("tuner", "strap", "string", "pick", "stand", "cable", "amp", "pedal", "mute", "reed"),
    *("wood", "metal", "loud", "quiet", "child", "stage", "gift", "travel"),
]
WIDTH = 16


def tokenizer(positions: int = 64) -> Any:
    """WordPiece over whole words and single letters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    signs = "abcdefghijklmnopqrstuvwxyz0123456789[]"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    entries = [*special, *WORDS, *signs, *(f"##{sign}" for sign in signs)]
    vocabulary = {token: number for number, token in enumerate(entries)}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        bos_token="[CLS]",
        eos_token="[SEP]",
        model_max_length=positions,
    )


def config(words: Any, positions: int) -> dict[str, Any]:
    return {
        "vocab_size": len(words),
        "hidden_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 2 * WIDTH,
        "max_position_embeddings": positions,
        "pad_token_id": words.pad_token_id,
        "bos_token_id": words.cls_token_id,
        "eos_token_id": words.sep_token_id,
    }


def mean_pooled(transformer: Path, folder: Path) -> Path:
    """Save a transformer as a sentence-transformers model, as all-MiniLM-L6-v2 is one."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    modules = [Transformer(str(transformer)), Pooling(WIDTH), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    return folder


def bert(folder: Path, seed: int = 0, positions: int = 64) -> Path:
    """A random BERT with mean pooling."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    words = tokenizer(positions)
    BertModel(BertConfig(**config(words, positions))).save_pretrained(folder / "transformer")
    words.save_pretrained(folder / "transformer")
    return mean_pooled(folder / "transformer", folder)


def static(folder: Path, rotation: int = 0) -> Path:
    """A bag of words: one dimension a token, so that inner products are known by hand."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    words = tokenizer()
    weights = np.roll(np.eye(len(words), dtype=np.float32), rotation, axis=1)
    modules = [StaticEmbedding(words, embedding_weights=weights)]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    return folder


def bge_m3(folder: Path, seed: int = 0, positions: int = 66, width: int = WIDTH) -> Path:
    """A random XLM-R in the layout in which BGE-M3 is published; every token weighs about one."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(seed)
    words = tokenizer()
    # Large weights, or its [CLS] vector knows too little of the other tokens to learn in seconds.
    options = config(words, positions) | {"initializer_range": 0.2, "hidden_size": width}
    XLMRobertaModel(XLMRobertaConfig(**options)).save_pretrained(folder)
    words.save_pretrained(folder)
    torch.save(torch.nn.Linear(width, width).state_dict(), folder / "colbert_linear.pt")
    weigh = torch.nn.Linear(width, 1)
    torch.nn.init.normal_(weigh.weight, std=0.02)
    torch.nn.init.ones_(weigh.bias)
    torch.save(weigh.state_dict(), folder / "sparse_linear.pt")
    return folder


def clip(folder: Path, seed: int = 0) -> Path:
    """A random CLIP with its processor, as transformers saves them; pictures of 32 pixels."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(seed)
    words = tokenizer()
    text = config(words, 64) | {"eos_token_id": words.eos_token_id}
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    vision = {name: text[name] for name in sizes} | {"image_size": 32, "patch_size": 8}
    made = CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    CLIPModel(made).save_pretrained(folder)
    size = {"shortest_edge": 32}
    pictures = CLIPImageProcessorPil(size=size, crop_size={"height": 32, "width": 32})
    CLIPProcessor(pictures, words).save_pretrained(folder)
    return folder


def settings(model: Path | None, kind: str = "sentence_transformers", **options: Any) -> Encoder:
    """Parameters of an encoder that gives the same bits on every device."""
    common = {"max_query_length": 32, "max_doc_length": 32, "precision": "fp32"}
    name = None if model is None else str(model)
    return Encoder.model_validate({"kind": kind, "model": name, **common, **options})


def described(folder: Path, params: Encoder) -> Path:
    """Write the description that the stages `base` and `finetune` leave."""
    folder.mkdir(parents=True, exist_ok=True)
    describe(folder, params, load_encoder(params))
    return folder
