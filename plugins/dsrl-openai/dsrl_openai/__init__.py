"""OpenAI, Azure, and every server that speaks OpenAI's API, as a teacher and as a sampler."""
