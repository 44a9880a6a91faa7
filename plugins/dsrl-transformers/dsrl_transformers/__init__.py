"""Hugging Face models in this process: sampler ``transformers``, trainers ``grpo`` and ``sft``, model ``tiny``."""
