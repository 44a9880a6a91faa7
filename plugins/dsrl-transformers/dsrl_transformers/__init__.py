"""What runs in this process on Hugging Face models: the sampler ``transformers``, the trainer ``grpo``, the model ``tiny``."""
