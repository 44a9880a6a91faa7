"""For dsrl: the sampler ``vllm``."""
