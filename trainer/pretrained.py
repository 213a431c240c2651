"""Loading a model and its tokenizer, and refusing what this trainer would score wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from trainer.attention import attention_implementation
from trainer.errors import UserError
from trainer.paths import is_local

SOURCES = "give a directory in Hugging Face format, a hub name, or 'embedded'"


def load_pretrained(
    path: str, *, dtype: torch.dtype, weights: bool = True
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model with float32 weights and tokenizer of a local directory or a hub name.

    Args:
        dtype: of the arithmetic to come.
        weights: without them the model has its parameters and buffers, whose values are still to come (see
            `trainer.sharding`). Memory that is never written to is not taken.
    Raises:
        UserError: nothing whole is there, the two do not fit each other, or the logits are more than a matrix product.
    """
    local_only = Path(path).exists() or is_local(path)
    if local_only and not (Path(path) / "config.json").exists():
        raise UserError(f"model.path = {path}: no model there (config.json is missing); {SOURCES}")
    with _loading(path):
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        model, absent = _whole(path, dtype) if weights else (_outline(path, dtype), [])
    if absent:
        raise UserError(
            f"model.path = {path}: holds no weights of the shape in config.json for {len(absent)} tensors, the first is"
            f" {absent[0]}; they would be random; give a whole model"
        )
    _check_knows_text(path, tokenizer)
    _check_ids(path, model, tokenizer)
    _check_logits(path, model)
    return model, tokenizer


def _whole(path: str, dtype: torch.dtype) -> tuple[PreTrainedModel, list[str]]:
    """The model, and the names of weights that are not there or of another shape."""
    model, loaded = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, trust_remote_code=False, attn_implementation=attention_implementation(dtype),
        output_loading_info=True, ignore_mismatched_sizes=True,
    )  # fmt: skip
    return model, sorted(loaded["missing_keys"]) + sorted(name for name, *_ in loaded["mismatched_keys"])


def _outline(path: str, dtype: torch.dtype) -> PreTrainedModel:
    """The model without values."""
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    with torch.device("meta"):  # or random weights would be drawn, for minutes
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, trust_remote_code=False, attn_implementation=attention_implementation(dtype)
        )
    model.to_empty(device="cpu")
    model.tie_weights()
    with suppress(OSError):  # a model need not have one
        model.generation_config = GenerationConfig.from_pretrained(path)
    return model.eval()


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer alone, as `load_pretrained` takes it. Raises UserError when there is none that knows text."""
    with _loading(path):
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    _check_knows_text(path, tokenizer)
    return tokenizer


@contextmanager
def _loading(path: str) -> Iterator[None]:
    """What cannot be loaded inside ends in one line."""
    try:
        with _quiet():
            yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # transformers raises whatever its readers and the network raise
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise UserError(f"model.path = {path}: cannot be loaded ({reason}); {SOURCES}") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """What transformers tells in passing would stand beside the one line of an error, once for each process."""
    verbosity = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _check_knows_text(path: str, tokenizer: PreTrainedTokenizerBase) -> None:
    # transformers makes an empty tokenizer, which knows no text, when it finds no file of one.
    if tokenizer("12")["input_ids"] == tokenizer("34")["input_ids"]:
        raise UserError(
            f"model.path = {path}: has no tokenizer that can tell numbers apart; put the tokenizer's files"
            " (tokenizer.json, tokenizer_config.json) beside config.json"
        )


def _check_ids(path: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    rows, last = model.get_input_embeddings().num_embeddings, max(tokenizer.get_vocab().values())
    if last >= rows:
        raise UserError(
            f"model.path = {path}: the tokenizer has ids up to {last}, but the embedding only {rows} rows (0 to"
            f" {rows - 1}); give the tokenizer that belongs to the model, or resize the model's embedding"
        )


def _check_logits(path: str, model: PreTrainedModel) -> None:
    """`trainer.token_scores` takes logits = hidden weight^T and nothing else."""
    config = model.config.get_text_config()
    scalings = ("final_logit_softcapping", "logit_scale", "logits_scaling")
    extra = [name for name in scalings if getattr(config, name, None) not in (None, 1.0)]
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        extra.append("a bias of the output layer")
    if extra:
        raise UserError(
            f"model.path = {path}: {config.model_type} has {', '.join(extra)}, which the loss here does not apply;"
            " choose a model whose logits are a plain product, such as Qwen2, Qwen3 or Llama"
        )
