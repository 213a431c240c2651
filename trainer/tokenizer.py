"""The tokenizer of the embedded base model: Qwen2's own class with a vocabulary of 27 tokens.

It has to be that class: for a model of type `qwen2` AutoTokenizer (and so vLLM) loads `Qwen2Tokenizer` whatever the
directory names, and that brings its own splitting and decoding, dropping the tokens they cannot reach.
"""

from __future__ import annotations

from tokenizers import AddedToken
from transformers import Qwen2Tokenizer

PAD, EOS = "<pad>", "<eos>"
BOX = "\\boxed{"
DIGITS = "0123456789"


def character_tokenizer() -> Qwen2Tokenizer:
    r"""One token per character, but one for `\boxed{`, and one for the `+7=` in front of a total of the working.

    With the latter a total is three tokens, `+7=` `1` `5`, like a number of the prompt and its sign: positions in the
    working then lie at a constant distance from the digits they read, which a tiny model learns in half the time.

    Text of known characters survives encode and decode unchanged. Other characters are dropped by encode, so a prompt
    that does not survive the round trip is not one for this model. Padding is on the left, as sampling needs.
    """
    characters = (PAD, EOS, *DIGITS, *"+=;}")
    tokenizer = Qwen2Tokenizer(
        vocab={token: at for at, token in enumerate(characters)},
        merges=[],
        pad_token=PAD,
        eos_token=EOS,
        unk_token=None,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    joined = [BOX, *(f"+{digit}=" for digit in DIGITS)]
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in joined])
    return tokenizer
