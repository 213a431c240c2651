"""The embedded base model: a tiny Qwen2 policy, made on this machine once and then kept in a cache.

Finding it imports no torch, which takes seconds; making it does, see `trainer.base_training`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path

import filelock
import safetensors

from trainer.errors import UserError
from trainer.problems import held_out
from trainer.progress import Progress

_MARKER = "complete.json"  # written last: a directory without it is half made


def ensure_base_model(progress: Progress | None = None, *, cache: Path | None = None) -> Path:
    """The directory of the embedded base model in Hugging Face format; made first, in about a minute, if missing.

    `AutoModelForCausalLM` and `AutoTokenizer` load it without custom code. It lies under `cache`, else $FIPO_CACHE,
    else ~/.cache/fipo, named by a hash of all that defines it. Processes that ask at once make it once.

    Raises:
        UserError: the cache cannot be written, or no seed gave a model within the bounds (what was measured is said).
    """
    report = progress or (lambda fraction, text: None)
    root = cache or Path(os.environ.get("FIPO_CACHE") or "~/.cache/fipo").expanduser()
    directory = root / f"base-{_definition()}"
    if _is_complete(directory):
        return directory
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(root / f"{directory.name}.lock")
        _acquire(lock, report)
        try:
            if not _is_complete(directory):
                _make(directory, report)
        finally:
            lock.release()
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{root}: the embedded base model cannot be kept here ({reason});"
            " make it writable with 2 MB free, or set FIPO_CACHE to a directory that is"
        ) from None
    report(1.0, "embedded base model ready")
    return directory


def _acquire(lock: filelock.FileLock, report: Progress) -> None:
    while True:
        try:
            lock.acquire(timeout=1)
            return
        except filelock.Timeout:
            report(0.0, "waiting for another process that is making the embedded base model")


def _make(directory: Path, report: Progress) -> None:
    """Train it, and put it at `directory` in one rename."""
    import transformers

    from trainer import base_training, tokenizer

    words = tokenizer.character_tokenizer()
    partial = directory.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    partial.mkdir()  # fails now, not after a minute, where nothing can be written
    try:
        seed, model, measured = base_training.train_base(words, report)
        transformers.utils.logging.disable_progress_bar()  # it would write over the caller's display
        model.save_pretrained(partial)
        transformers.utils.logging.enable_progress_bar()
        tokenizer.character_tokenizer().save_pretrained(partial)  # `words` has padded, and would carry that along
        digests = {path.name: _digest(path) for path in sorted(partial.iterdir())}
        _write_marker(partial, {"seed": seed, "measured": measured, "sha256": digests})
        shutil.rmtree(directory, ignore_errors=True)  # one that is damaged
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _definition() -> str:
    """Changes with the recipe, the tokenizer, the problems and the libraries that carry it out."""
    digest = hashlib.sha256(f"{version('torch')} {version('transformers')} {sorted(held_out())}".encode())
    for name in ("base_training.py", "tokenizer.py", "worked_sums.py"):
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()[:12]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_complete(directory: Path) -> bool:
    """Whether the marker is there and every file still is what was written."""
    try:
        digests = json.loads((directory / _MARKER).read_text(encoding="utf-8"))["sha256"]
        return all(_digest(directory / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, KeyError):
        return False


def _write_marker(directory: Path, content: dict[str, object]) -> None:
    (directory / _MARKER).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for path in directory.iterdir():  # on disk before the rename makes them visible
        with path.open("rb") as file:
            os.fsync(file.fileno())
