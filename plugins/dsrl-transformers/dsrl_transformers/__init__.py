"""Hugging Face models in this process: sampler ``transformers``, trainer ``grpo``, model ``tiny``."""
