"""The stages of the pipeline, one module each, in the paper's words. :mod:`dsrl.pipeline.run` runs them in order."""
