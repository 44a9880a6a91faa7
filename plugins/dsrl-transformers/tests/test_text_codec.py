from __future__ import annotations

from pathlib import Path

import pytest
from dsrl_transformers.text_codec import load_codec

from dsrl import DataError, Prompt


def test_it_reads_what_the_whole_model_reads(model_dir: Path) -> None:
    from dsrl_transformers.language_model import load_model

    codec, model = load_codec(str(model_dir)), load_model(str(model_dir), "cpu")
    assert (codec.stop, codec.context) == (model.stop, model.context)
    for text in ("what is 1+1?", ""):
        assert codec.encode(Prompt(text)) == model.encode(Prompt(text))
    assert codec.decode_text([4, 5, 2]) == model.decode_text([4, 5, 2])


def test_a_model_without_a_generation_config(model_dir: Path, tmp_path: Path) -> None:
    for file in model_dir.iterdir():
        if file.name != "generation_config.json" and file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert load_codec(str(tmp_path)).stop == load_codec(str(model_dir)).stop != frozenset()


def test_a_folder_that_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no tokenizer"):
        load_codec(str(tmp_path))
