"""The configuration of one training run. Each default stands here and nowhere else.

Lengths are in tokens, rates are per optimizer step, paper means arXiv 2603.19835 (FIPO), DAPO means arXiv 2503.14476.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_HALF_LIFE = 32.0
"""What tau is where neither it nor gamma is given (paper Tables 2 and 3), in tokens."""
Aggregation = Literal["token-mean", "seq-mean-token-sum", "seq-mean-token-mean"]


class Frozen(BaseModel):
    """Immutable, and an unknown key is an error. Fields are documented by the string below them."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class ModelConfig(Frozen):
    path: str = "embedded"
    """`embedded` (the tiny base model this project makes itself), a local directory, or a hub name."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the forward pass. Master weights and optimizer state are always float32."""
    activation_checkpointing: bool = False
    """Recompute each layer's activations in the backward pass: less memory, about a third more time."""
    cpu_offload: bool = False
    """Keep parameters and optimizer state in the memory of the host between uses; needs several ranks."""


class DataConfig(Frozen):
    train: str = "embedded:train"
    """Training problems: `embedded:train` (generated sums), a local JSONL, JSON, CSV or parquet file, or a hub name
    (`owner/name`, `owner/name:split` or `owner/name:config:split`)."""
    template: Literal["plain", "boxed", "answer"] = "plain"
    """What is asked around a problem: nothing, the answer in a box, or DAPO's line `Answer: ...`."""
    chat: bool = False
    """Put the prompt into the tokenizer's chat format."""
    max_prompt_length: int = Field(default=64, ge=1)
    """Prompts longer than this many tokens are dropped and counted (paper Table 2: 2048)."""


class VllmConfig(Frozen):
    tensor_parallel_size: int = Field(default=1, ge=1)
    """Ranks that share one engine; must divide the number of ranks and the model's key-value heads."""
    gpu_memory_utilization: float = Field(default=0.5, gt=0, le=1)
    """Share of each GPU for the engine's weights and cache; they are given up while training. Not read on a CPU, where
    the cache has VLLM_CPU_KVCACHE_SPACE GiB (1 when unset)."""
    max_model_len: int | None = Field(default=None, ge=1)
    """Longest prompt and response together, in tokens; null is what the model was made for."""
    max_num_seqs: int = Field(default=256, ge=1)
    """Responses drawn at the same time."""
    max_num_batched_tokens: int = Field(default=8192, ge=1)
    """Tokens that go through the engine at once; longer prompts are read in parts."""
    enforce_eager: bool | None = None
    """No compiled model and no CUDA graphs: starts sooner, samples slower. Null is false on GPUs and true on a CPU."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the engine; auto is `model.dtype`. On a CPU only float32."""
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    """Precision of the cache; auto is that of the engine, fp8 widens the gap to the trainer."""
    prefix_caching: bool = True
    """Read the prompt of a group once, not once per response."""


class RolloutConfig(Frozen):
    backend: Literal["auto", "transformers", "vllm"] = "auto"
    """What draws responses: the training model itself, or a vLLM engine beside it in the same process. auto is vllm on
    GPUs where it is installed."""
    vllm: VllmConfig = VllmConfig()
    """The engine's settings; read when the backend is vllm."""
    prompts_per_step: int = Field(default=16, ge=1)
    """Prompts sampled for one training step, the paper's global batch size (Table 2: 512)."""
    group_size: int = Field(default=8, ge=2)
    """Responses per prompt, G in GRPO (Table 2: 16)."""
    max_response_length: int = Field(default=64, ge=1)
    """Tokens after which a response is cut (Table 2: 20480)."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature. It divides the logits when sampling and when scoring alike."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Must be 1 in training (Table 2: 1.0): a truncated distribution makes every ratio of the loss wrong."""
    importance_cap: float | None = Field(default=None, gt=0)
    """Truncated importance sampling (https://fengyao.notion.site/off-policy-rl): each token's loss is multiplied by
    min(p_trainer / p_rollout, this), both before the update. Null is off: the loss takes the rollout for exact."""
    max_sampled_batches: int = Field(default=1, ge=1)
    """Dynamic sampling (DAPO 3.2): at most this many batches are drawn to replace groups that are all right or all
    wrong."""


class RewardConfig(Frozen):
    overlong_buffer: int = Field(default=0, ge=0)
    """Soft overlong punishment (DAPO eq. 13): the reward falls over this many tokens before the limit; 0 is off."""
    overlong_penalty: float = Field(default=1.0, ge=0)
    """The largest soft punishment, reached at `rollout.max_response_length`."""


INFLUENCE = frozenset({"gamma", "half_life", "epsilon_f_low", "epsilon_f_high", "safety_threshold", "filtering"})
"""The keys of `FipoConfig` that are FIPO's own: they decide the influence weights. The others are PPO's or DAPO's."""


class FipoConfig(Frozen):
    gamma: float | None = Field(default=None, ge=0, le=1)
    """Discount of the future KL per token (paper eq. 7). Give this or `half_life`."""
    half_life: float | None = Field(default=None, gt=0)
    """tau in tokens, gamma = 2^(-1/tau). Give this or `gamma`; with neither, 32 (Tables 2 and 3)."""
    epsilon_f_low: float = Field(default=0.2, ge=0, le=1)
    """Influence weights are clipped from below at 1 - epsilon_f_low. DAPO is 0 here and in epsilon_f_high."""
    epsilon_f_high: float = Field(default=0.2, ge=0)
    """Influence weights are clipped from above at 1 + epsilon_f_high."""
    safety_threshold: float = Field(default=3.0, ge=1)
    """Ratio above which a token with negative advantage keeps a weight of at most 1 (Table 2: 10, Table 3: 3)."""
    filtering: bool = True
    """Leave tokens whose ratio exceeds `dual_clip` out of the future KL (the mask M of paper eq. 8, Figure 9)."""
    clip_low: float = Field(default=0.2, ge=0, le=1)
    """Policy ratio clip from below, 1 - clip_low. GRPO is clip_low = clip_high."""
    clip_high: float = Field(default=0.28, ge=0)
    """Policy ratio clip from above, 1 + clip_high (DAPO's clip-higher)."""
    dual_clip: float = Field(default=10.0, gt=1)
    """c of dual-clip PPO (arXiv 1912.09729): bounds the loss of tokens with negative advantage. A response in which it
    cuts more than one token is left out, and `filtering` goes by it."""
    kl_coef: float = Field(default=0.0, ge=0)
    """Weight of the k3 estimate of KL(policy || base model) per token in the loss (Table 2: 0). Above 0 the base model
    stays in memory beside the policy."""
    aggregation: Aggregation = "token-mean"
    """How token losses become one number; DAPO and the paper use token-mean."""

    @model_validator(mode="before")
    @classmethod
    def _one_discount(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("gamma") is not None and data.get("half_life") is not None:
            raise ValueError(
                f"gamma = {data['gamma']} and half_life = {data['half_life']} are the same quantity"
                " (gamma = 2^(-1/half_life)); keep one of them"
            )
        return data

    @property
    def tau(self) -> float | None:
        """The half-life in tokens, from whichever of the two was given; gamma 0 and 1 have none."""
        if self.gamma is None:
            return self.half_life or _HALF_LIFE
        return -1.0 / math.log2(self.gamma) if 0.0 < self.gamma < 1.0 else None

    @property
    def discount(self) -> float:
        """gamma, from whichever of the two was given."""
        return self.gamma if self.gamma is not None else 2.0 ** (-1.0 / (self.half_life or _HALF_LIFE))

    @property
    def is_dapo(self) -> bool:
        """Whether every influence weight is 1, so that gamma and what else is FIPO's decide nothing."""
        return self.epsilon_f_low == self.epsilon_f_high == 0.0

    @property
    def influence(self) -> dict[str, Any] | None:
        """What decides the influence weights, the two names of the discount as one; None where all weights are 1."""
        if self.is_dapo:
            return None
        others = {name: getattr(self, name) for name in INFLUENCE - {"gamma", "half_life"}}
        return others | {"discount": self.discount}


class OptimizerConfig(Frozen):
    learning_rate: float = Field(default=3e-5, ge=0)
    """AdamW's rate after warm-up (Table 2: 1e-6)."""
    schedule: Literal["constant", "cosine"] = "constant"
    """After warm-up: the same rate to the end (Table 2), or falling along a cosine, to 0 after the last step."""
    warmup_steps: int = Field(default=0, ge=0)
    """Training steps over which the learning rate rises linearly (Table 2: 10)."""
    weight_decay: float = Field(default=0.1, ge=0)
    """AdamW's decoupled decay (Table 2: 0.1)."""
    grad_clip: float = Field(default=1.0, gt=0)
    """Largest gradient norm (Table 2: 1.0)."""
    prompts_per_minibatch: int = Field(default=4, ge=1)
    """Prompts per optimizer step (Table 2: 64). Must leave at least two minibatches per rollout."""
    micro_batch_tokens: int = Field(default=4096, ge=1)
    """Tokens that go through the model at once; changes memory, not the gradient."""


class EvaluationSet(Frozen):
    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_.-]+$")
    """Names the set in every metric, for example `aime_2024`."""
    path: str
    """`embedded:select`, `embedded:report`, a file or a hub name. Sets named aime... must have integer answers."""
    samples: int = Field(default=8, ge=1)
    """k: responses per problem (paper: 32)."""
    every: int | None = Field(default=3, ge=1)
    """Evaluate each this many training steps; null is never in between. Always before the first and after the last."""
    first_look: int | None = Field(default=None, ge=1)
    """Racing, in a study with pruner aime: samples per problem drawn first, then twice as many, and so on up to
    `samples`, while it is open whether the trial is pruned. The base model and the last step get all. Null draws all at
    once. Only for the first set, which selects."""


class EvaluationConfig(Frozen):
    sets: tuple[EvaluationSet, ...] = (
        EvaluationSet(name="sums_select", path="embedded:select"),
        EvaluationSet(name="sums_report", path="embedded:report", every=None),
    )
    """The first set selects and prunes, the others are only reported (AIME 2024, then AIME 2025)."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature in evaluation (paper: 1.0)."""
    top_p: float = Field(default=0.7, gt=0, le=1)
    """Nucleus sampling in evaluation (paper: 0.7)."""
    completions: int = Field(default=8, ge=0)
    """Training responses kept for reading at each evaluated step, of its last minibatch, with their tokens' influence
    weights; 0 is none."""
    seed: int = Field(default=20240, ge=0)
    """Evaluation samples depend on this, the set and the step only, so that trials are compared on the same draws."""

    @model_validator(mode="after")
    def _distinct_names(self) -> EvaluationConfig:
        names = [each.name for each in self.sets]
        if not names:
            raise ValueError("sets is empty; give at least one evaluation set, the first selects")
        if len(set(names)) != len(names):
            raise ValueError(f"sets has the names {', '.join(names)}; each name may stand once, rename one")
        for at, each in enumerate(self.sets):
            if each.first_look is not None and (at > 0 or each.first_look >= each.samples):
                raise ValueError(
                    f"{each.name}: first_look = {each.first_look} is for the first set, and below its samples ="
                    f" {self.sets[0].samples}; lower it, or set it to null"
                )
        return self


class CheckpointConfig(Frozen):
    every: int | None = Field(default=3, ge=1)
    """Training steps between checkpoints; null keeps only the one after the last step."""
    keep: int = Field(default=1, ge=1)
    """Newest checkpoints kept."""


class TrainerConfig(Frozen):
    """Everything that decides a run's numbers: the same config, seed and machine give the same metrics."""

    steps: int = Field(default=24, ge=1)
    """Training steps; each samples one rollout and makes one optimizer step per minibatch."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seeds data order and training rollouts."""
    threads: int = Field(default=1, ge=1)
    """CPU threads of each rank. One thread gives the same numbers on every run."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    rollout: RolloutConfig = RolloutConfig()
    reward: RewardConfig = RewardConfig()
    fipo: FipoConfig = FipoConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    rank_timeout: float = Field(default=1800.0, gt=0, le=7 * 86400)
    """Seconds after which a rank that does not answer ends the run; a week at most."""

    @model_validator(mode="after")
    def _minibatches(self) -> TrainerConfig:
        rollout, mini = self.rollout.prompts_per_step, self.optimizer.prompts_per_minibatch
        if mini >= rollout:
            raise ValueError(
                f"optimizer.prompts_per_minibatch = {mini} makes one minibatch of the {rollout} prompts in"
                " rollout.prompts_per_step: the policy has not moved when the loss is taken, so FutureKL is 0 and gamma"
                f" and epsilon_f do nothing; allowed 1 to {rollout // 2}, choose a divisor of {rollout}"
            )
        if rollout % mini:
            raise ValueError(
                f"optimizer.prompts_per_minibatch = {mini} does not divide rollout.prompts_per_step = {rollout};"
                f" choose a divisor of {rollout}"
            )
        if self.rollout.top_p < 1:
            raise ValueError(
                f"rollout.top_p = {self.rollout.top_p} cuts off part of the policy that sampled, so the ratios of the"
                " loss would be wrong; only 1.0 is allowed in training, evaluation.top_p is free"
            )
        longest = self.rollout.vllm.max_model_len
        if longest is not None and longest <= self.rollout.max_response_length:
            raise ValueError(
                f"rollout.vllm.max_model_len = {longest} leaves no room for a prompt and rollout.max_response_length ="
                f" {self.rollout.max_response_length} tokens; raise it, or lower that"
            )
        if self.reward.overlong_buffer >= self.rollout.max_response_length:
            raise ValueError(
                f"reward.overlong_buffer = {self.reward.overlong_buffer} must be below rollout.max_response_length ="
                f" {self.rollout.max_response_length}; lower it"
            )
        return self
