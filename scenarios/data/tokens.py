"""Texts as whole numbers: characters, bytes, or byte pairs learned from the text itself."""

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...formats.errors import InputError

Codes = NDArray[np.int64]


class Encoder(NamedTuple):
    """Text to tokens from 0 to `classes` − 1."""

    encode: Callable[[str], Codes]
    classes: int


def character_encoder(text: str) -> Encoder:
    """A class is a character of `text`, in order of its code point."""
    points = np.array([ord(c) for c in sorted(set(text))], np.int64)

    def encode(part: str) -> Codes:
        found = np.frombuffer(part.encode("utf-32-le"), np.uint32)
        return np.searchsorted(points, found).astype(np.int64)

    return Encoder(encode, len(points))


def byte_encoder() -> Encoder:
    """A class is a byte of UTF-8."""

    def encode(part: str) -> Codes:
        return np.frombuffer(part.encode("utf-8"), np.uint8).astype(np.int64)

    return Encoder(encode, 256)


def pair_encoder(text: str, vocabulary: int) -> Encoder:
    """Byte pairs after GPT-2: the 256 bytes, then the pairs that are most frequent in `text`.

    Source: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword
    Units", ACL 2016; over bytes as in Radford et al. 2019. Learned by Hugging Face's tokenizers.

    Raises:
        InputError: the library is not installed, or the text has too few pairs.
    """
    # One thread: the pairs are the same however many cores there are.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    except ModuleNotFoundError:
        raise InputError(
            'tokens = "bpe" needs the library tokenizers: pip install "tapeout[text]", or set '
            'tokens = "bytes"'
        ) from None
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator([text], trainer)
    if tokenizer.get_vocab_size() < vocabulary:
        raise InputError(
            f"vocabulary = {vocabulary}: the text has pairs for {tokenizer.get_vocab_size()} only"
        )

    def encode(part: str) -> Codes:
        return np.array(tokenizer.encode(part).ids, np.int64)

    return Encoder(encode, vocabulary)
