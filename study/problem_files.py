"""The local problem files of a study by what they hold, so that a later edit does not go unseen."""

from __future__ import annotations

import hashlib
from pathlib import Path

from study.spec import StudySpec
from trainer.paths import expanded


def digests(spec: StudySpec) -> dict[str, str]:
    """SHA-256 of each local problem file that `spec` names, by its path as it stands there.

    Raises:
        OSError: a file is there and cannot be read.
    """
    return {path: _digest(path) for path in _paths(spec) if Path(expanded(path)).is_file()}


def _digest(path: str) -> str:
    with Path(expanded(path)).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _paths(spec: StudySpec) -> list[str]:
    train = [spec.trainer.get("data", {}).get("train")]
    if "data.train" in spec.space:
        train += spec.space["data.train"].ends()
    train += [control.values.get("data.train") for control in spec.enqueue]
    return [*dict.fromkeys(str(path) for path in train if path), *(each.path for each in spec.evaluation_config().sets)]
