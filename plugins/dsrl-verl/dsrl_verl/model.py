"""From verl's last checkpoint to a model in Hugging Face form: the base model with other weights, and nothing else.

verl saves its own tokenizer and chat template with the weights, and weights of another type. So only the weights are taken;
configuration, tokenizer, template and type of the weights are those of the base model.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsrl import DsrlError, TrainJob
from dsrl_verl.process import read_last_lines

#: Seconds that verl may take to bring the parts of an adapter together.
_MERGE_SECONDS = 3600.0


def save_model(job: TrainJob, checkpoint: Path) -> None:
    """Write the trained model into the output folder of a job; the folder appears whole or not at all.

    Args:
        job: names the base model and the folder, and says whether adapters were trained.
        checkpoint: verl's checkpoint of the last step.

    Raises:
        DsrlError: the checkpoint holds no weights for this model, or some are not finite numbers.
        StoreError: the model cannot be written.
    """
    import torch
    from dsrl_transformers.checkpoint import write_folder
    from dsrl_transformers.language_model import hide_progress_bars
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    actor = checkpoint / "actor"
    with hide_progress_bars():
        dtype = AutoConfig.from_pretrained(job.model).dtype or torch.float32
        model: Any = AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32, trust_remote_code=False)
        tokenizer: Any = AutoTokenizer.from_pretrained(job.model, trust_remote_code=False)
        if job.lora_rank > 0:
            model = _merge_adapter(model, actor)
        else:
            load_weights(model, _read_weights(actor / "huggingface"))
    _refuse_infinite(model)
    model = model.to(dtype)

    def write(folder: Path) -> None:
        with hide_progress_bars():
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    try:
        # Settings for sampling although sampling is off load with a warning, but transformers refuses to save them.
        model.generation_config.validate(strict=True)
    except ValueError:
        model.generation_config.do_sample = True
    write_folder(job.output_dir, write)


def load_weights(model: Any, weights: Mapping[str, Any]) -> None:
    """Put weights in the place of a model's own.

    Raises:
        DsrlError: a weight is missing, unknown, or of another shape.
    """
    own = model.state_dict()
    unknown = sorted(weights.keys() - own.keys())
    wrong = sorted(name for name in weights.keys() & own.keys() if own[name].shape != weights[name].shape)
    # Tied weights are stored once: two names are one piece of memory.
    places = {own[name].data_ptr() for name in weights.keys() & own.keys()}
    missing = sorted(name for name in own.keys() - weights.keys() if own[name].data_ptr() not in places)
    for names, what in ((unknown, "weights that the base model does not have"), (wrong, "weights of another shape")):
        if names:
            raise DsrlError(f"verl has saved {what}: {', '.join(names[:3])}; the trained model cannot be brought back")
    if missing:
        raise DsrlError(
            f"verl has not saved all weights of the base model: {', '.join(missing[:3])}; the trained model cannot be "
            "brought back"
        )
    model.load_state_dict(dict(weights), strict=False)
    model.tie_weights()


def _read_weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise DsrlError(f"verl's last checkpoint has no model in {folder}; run the same command again")
    return {name: weight for file in files for name, weight in load_file(file).items()}


def _merge_adapter(model: Any, actor: Path) -> Any:
    """Return a model with the adapter of a checkpoint added to its weights.

    verl's own merge writes a base model in another type, and its `hf_model` is that of peft. But it brings the parts of
    the adapter from all GPUs together, which is all that is needed.
    """
    from dsrl_transformers.lora import merge_adapters
    from peft import PeftModel

    with tempfile.TemporaryDirectory(prefix="dsrl-verl-merge-", dir=actor.parent) as folder:
        log = Path(folder, "log")
        command = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp"]
        with log.open("wb") as file:
            ran = subprocess.run(
                [*command, "--local_dir", str(actor), "--target_dir", folder],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=_MERGE_SECONDS,
                check=False,
            )
        adapter = Path(folder, "lora_adapter")
        if ran.returncode or not (adapter / "adapter_config.json").is_file():
            raise DsrlError(
                "verl could not bring the parts of the adapter together; the end of what it said:\n"
                + read_last_lines(log, 10)
            )
        return merge_adapters(PeftModel.from_pretrained(model, str(adapter)))


def _refuse_infinite(model: Any) -> None:
    import torch

    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise DsrlError(
                f"the trained weights {name} are not all finite numbers, so the training went wrong; give a lower "
                "--learning-rate, or --dtype float32"
            )
