from dsrl.testing import RepeatableSamplerContract


class TestGenerate(RepeatableSamplerContract):
    plugin = "generate"
    model = "tiny"  # the base model of dsrl-transformers
