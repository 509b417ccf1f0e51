"""Folders of text towers as `save_pretrained` writes them, of the published kinds, with small random networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

KINDS = ("chinese-clip", "altclip", "taiyi", "clip", "sentences")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CHARACTERS = "关于的视频踢球打篮坐在椅子上一段人"
_SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
_VISION = {**_SIZES, "image_size": 16, "patch_size": 8}
_POSITIONS = 20


def save_text_tower(folder: Path, kind: str, *, seed: int = 0) -> Path:
    """A folder of 16 dimensions (24 of `sentences`) that reads up to 20 tokens (17 of `altclip`)."""
    import torch
    import transformers as hf

    folder.mkdir(parents=True, exist_ok=True)
    text: dict[str, Any] = {**_SIZES, "max_position_embeddings": _POSITIONS}
    if kind == "altclip":
        text["vocab_size"] = _save_sentencepieces(folder)
    elif kind == "clip":
        text["vocab_size"] = _save_byte_pairs(folder)
        text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    else:
        text["vocab_size"] = _save_word_pieces(folder)
    both = {"vision_config": _VISION, "projection_dim": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "chinese-clip":
            network = hf.ChineseCLIPModel(hf.ChineseCLIPConfig(text_config=text, **both))
        elif kind == "altclip":
            network = hf.AltCLIPModel(hf.AltCLIPConfig(text_config={**text, "project_dim": 20}, **both))
        elif kind == "clip":
            network = hf.CLIPModel(hf.CLIPConfig(text_config={**text, "projection_dim": 16}, **both))
        elif kind == "taiyi":
            network = hf.BertForSequenceClassification(hf.BertConfig(**text, num_labels=16))
        else:
            network = hf.BertModel(hf.BertConfig(**text))
        for weights in network.parameters():  # as they are drawn, all texts have nearly one embedding
            weights.data += 0.2 * torch.randn(weights.shape)
    network.save_pretrained(folder)
    return folder


def _save_word_pieces(folder: Path) -> int:
    """As the published Chinese folders have it: a vocabulary of characters and words, and no tokenizer.json."""
    words = [*SPECIAL, *CHARACTERS, *(f"##{letter}" for letter in CHARACTERS), "a", "video", "of"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(words)


def _save_sentencepieces(folder: Path) -> int:
    """As XLM-R has it: pieces that begin with a space, and 的 that is another one where it begins a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [
        "▁",
        "▁的",
        "▁关于",
        "关于",
        "▁踢",
        *"踢球打篮球的",
        "视频",
        "▁a",
        "▁video",
        "▁of",
        *"关于视频坐在",
    ]
    vocabulary = [(each, 0.0) for each in special]
    vocabulary += [(each, -1.0 - len(each) / 100) for each in dict.fromkeys(pieces)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    return len(vocabulary)


def _save_byte_pairs(folder: Path) -> int:
    """As CLIP has it: one token ends, pads and is the unknown one."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<|startoftext|>", "<|endoftext|>", "a", "video", "of", "kicking", "ball", "."]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<|endoftext|>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.RobertaProcessing(("<|endoftext|>", 1), ("<|startoftext|>", 0))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    return len(words)
