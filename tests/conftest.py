"""One torch thread everywhere: the same numbers on every run, and no fight over two cores."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
