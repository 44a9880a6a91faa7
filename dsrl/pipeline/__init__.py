"""The pipeline from a task to a trained model (paper, Algorithm 1). Start reading at :mod:`dsrl.pipeline.run`."""
