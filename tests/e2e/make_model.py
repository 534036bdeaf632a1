"""Writes the folder of a tiny OPT model without weights: `vllm serve --load-format dummy` makes them up.

    python make_model.py FOLDER

Only the standard library is needed: the tokenizer is a byte-level vocabulary without merges.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

VOCABULARY = 1024
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>"]


def byte_symbols() -> list[str]:
    """The printable character that stands for each byte in a byte-level tokenizer."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    unprintable = [byte for byte in range(256) if byte not in printable]
    return sorted([*map(chr, printable), *(chr(256 + n) for n in range(len(unprintable)))])


def tokenizer() -> dict[str, Any]:
    """The content of `tokenizer.json`."""
    tokens = SPECIAL_TOKENS + byte_symbols()
    tokens += [f"<extra_{n}>" for n in range(VOCABULARY - len(tokens))]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [],
            "unk_token": "<unk>",
        },
    }


TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": 512,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "clean_up_tokenization_spaces": False,
}

CONFIG = {
    "architectures": ["OPTForCausalLM"],
    "model_type": "opt",
    "hidden_size": 128,
    "ffn_dim": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "word_embed_proj_dim": 128,
    "activation_function": "relu",
    "do_layer_norm_before": True,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
    "dropout": 0.0,
    "attention_dropout": 0.0,
}


def write(folder: Path) -> None:
    """Writes the three files."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "config.json": CONFIG,
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": TOKENIZER_CONFIG,
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(Path(sys.argv[1]))
