"""For dsrl: the sampler ``ray``."""
