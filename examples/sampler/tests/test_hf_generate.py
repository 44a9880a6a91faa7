from dsrl.testing import RepeatableSamplerContract


class TestHfGenerate(RepeatableSamplerContract):
    plugin = "hf_generate"
    model = "tiny"  # the base model of dsrl-transformers
