"""Base models that cannot be trained are refused before a teacher is paid, with the place and the mend."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from model_folders import copy_tiny, edit_json

from dsrl.testing.fault_server import FaultServer

pytest.importorskip("openai")
torch = pytest.importorskip("torch")
Refused = Callable[..., None]


def test_folders_without_a_model(refused: Refused) -> None:
    folder = Path("model")
    folder.mkdir()
    refused("--base-model", "model", words=["model/config.json does not exist", "holds no model", "Hugging Face form"])
    (folder / "model-Q4_K_M.gguf").write_bytes(b"GGUF")
    refused("--base-model", "model", words=["model/config.json does not exist", "GGUF files cannot be trained"])
    refused("--base-model", "model/model-Q4_K_M.gguf", words=["is a file", "GGUF files cannot be trained"])
    (folder / "config.json").write_text("{}")
    refused("--base-model", "model", words=["no weights (*.safetensors)", "GGUF files cannot be trained"])


def test_a_folder_with_a_lora_adapter(refused: Refused) -> None:
    adapter = Path("adapter")
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "owner/base"}')
    (adapter / "adapter_model.safetensors").write_bytes(b"x")
    refused("--base-model", "adapter", words=["holds a LoRA adapter and not a model", "merge the adapter"])
    both = copy_tiny(Path("both"))
    shutil.copy(adapter / "adapter_config.json", both)
    refused("--base-model", "both", words=["both holds a LoRA adapter (adapter_config.json) beside a model", "merge"])


def test_a_model_without_a_tokenizer(refused: Refused) -> None:
    folder = copy_tiny(Path("model"), without="tokenizer*")
    words = ["model holds no tokenizer that can be read: tokenizer.json is not there", "copy them from the model"]
    refused("--base-model", "model", words=words)
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE"}}')
    refused("--base-model", "model", words=["holds no tokenizer that can be read", "fetch the files of the tokenizer"])


def test_a_tokenizer_with_other_settings_than_an_object(refused: Refused) -> None:
    for content in (b"[]", b"\xff\xfe", b"{"):
        shutil.rmtree("model", ignore_errors=True)
        (copy_tiny(Path("model")) / "tokenizer_config.json").write_bytes(content)
        refused(
            "--base-model", "model", words=["holds no tokenizer that can be read", "fetch the files of the tokenizer"]
        )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_weights_that_are_not_numbers(refused: Refused, value: float, form: str) -> None:
    from safetensors.torch import load_file, save_file

    file = copy_tiny(Path("model")) / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.2.mlp.up_proj.weight"][3, 5] = value
    if form == "bin":
        file.unlink()
        torch.save(weights, file.with_name("pytorch_model.bin"))
    else:
        save_file(weights, file, metadata={"format": "pt"})
    words = ["1 of 39 weights of the model model", "NaN or infinity", "layers.2.mlp.up_proj", "fetch the model again"]
    refused("--base-model", "model", words=words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"vocab_size": 4000},
            ["do not belong to its config.json", "4000 x 128, in the files 2304 x 128", "--base-model"],
        ),
        ({"hidden_size": 64}, ["do not belong to its config.json", "in the files 2304 x 128"]),
        ({"num_hidden_layers": 6}, ["do not belong to its config.json", "among them model.layers.4.", "--base-model"]),
        ({"num_hidden_layers": 10**9}, ["config.json tells of 1000000000 layers", "--base-model"]),
        ({"hidden_size": -64}, ["model holds no model that can be read", "negative dimension"]),
        ({"max_position_embeddings": "many"}, ["model holds no model that can be read", "max_position_embeddings"]),
    ],
)
def test_a_configuration_of_another_model(refused: Refused, changes: dict[str, Any], words: Sequence[str]) -> None:
    edit_json(copy_tiny(Path("model")) / "config.json", **changes)
    refused("--base-model", "model", words=words)


def test_quantized_weights_without_their_library(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.quantizers.quantizer_gptq.is_optimum_available", lambda: False)
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    edit_json(copy_tiny(Path("model")) / "config.json", quantization_config=settings)
    refused("--base-model", "model", words=["weights of model are quantized", "optimum", "without quantization"])


def test_a_context_that_is_too_short_for_a_prompt_and_an_answer(refused: Refused) -> None:
    edit_json(copy_tiny(Path("model")) / "config.json", max_position_embeddings=60)
    words = [
        "context of model is 60 tokens",
        "space for a prompt of 12 tokens",
        "give a smaller --max-completion-tokens",
    ]
    refused("--base-model", "model", "--max-completion-tokens", 48, words=words, code=2)
    refused("--base-model", "model", "--max-completion-tokens", 48, "--stop-after", "scored", words=words, code=2)
    refused("--max-prompt-tokens", 5, words=["--max-prompt-tokens 5 is less than", "give a larger number"], code=2)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('no system text here') }}", "TemplateError: no system text here"),
        ("{% for x in %}", "TemplateSyntaxError"),
        ("{{ 'x' * 10000000000 }}", "more than 512 MB of memory"),
        ("{{ messages[0].content * 30000 }}", "a text of 300000 characters"),
        ("Hello!", "leaves out the text of the user"),
        ([{"name": "tools", "template": "x"}], "multiple chat templates"),
    ],
)
def test_a_template_that_cannot_be_used(
    dsrl: Any, server: FaultServer, command: Sequence[str], template: object, reason: str
) -> None:
    edit_json(copy_tiny(Path("model")) / "tokenizer_config.json", chat_template=template)
    outcome = dsrl(*command, "--base-model", "model")
    assert outcome.code == 1, outcome.err
    assert "Error: the chat template of model cannot render a prompt: " in outcome.err
    assert reason in outcome.err
    assert "give --chat-template off" in outcome.err
    assert server.requests == []


def test_a_template_with_a_token_that_the_model_does_not_have(
    dsrl: Any, server: FaultServer, command: Sequence[str]
) -> None:
    folder = copy_tiny(Path("model"))
    tokens = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    edit_json(folder / "tokenizer.json", added_tokens=[*tokens, {**tokens[0], "id": 2304, "content": "<turn>"}])
    edit_json(folder / "tokenizer_config.json", chat_template="<turn>{{ messages[0].content }}")
    outcome = dsrl(*command, "--base-model", "model")
    assert outcome.code == 1, outcome.err
    assert "it writes the token '<turn>' (number 2304), and the model has only 2304 tokens" in outcome.err
    assert "note: The tokenizer of model has 2305 tokens and the model only 2304" in outcome.err
    assert server.requests == []


def test_a_model_that_does_not_fit_into_the_memory(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """The free memory is faked. Five numbers for each weight are needed to train, one to answer."""
    from safetensors.torch import load_file

    weights = load_file(copy_tiny(Path("model")) / "model.safetensors")
    size = 4 * sum(weight.numel() for weight in weights.values())
    free = 0
    monkeypatch.setattr("dsrl_transformers.memory_check.read_available_memory", lambda device: free)
    free = size // 4
    words = ["the model model has", "GB of memory to answer", "give a --base-model of at most", "or a larger device"]
    refused("--base-model", "model", words=words, code=2)
    free = size * 3 // 4
    words = ["GB of memory to answer", "these would fit: --dtype bfloat16"]
    refused("--base-model", "model", words=words, code=2)
    free = size * 3
    words = ["the training of model needs at least", "these would fit: --lora-rank 16"]
    refused("--base-model", "model", words=words, code=2)


def test_training_on_answers_that_are_all_alike_is_an_alarm(dsrl: Any, small: Sequence[str]) -> None:
    """A reward without differences; the pass rates of the samples do not show it before the training."""
    Path("same.py").write_text(
        "from dsrl import hookimpl\n\n@hookimpl\ndef reward(output, label, input):\n    return 0.5\n"
    )
    outcome = dsrl(*small, "--override", "same.py", "--kl-coef", "0", "--stop-after", "trained", "--json")
    assert outcome.code == 0, outcome.err
    (alarm,) = (text for text in json.loads(outcome.out)["warnings"] if "had the same reward" in text)
    assert "all answers to a prompt had the same reward, so the model has learned nothing" in alarm
    assert "Give a higher --train-temperature" in alarm
    assert outcome.err.count(f"note: {alarm}") == 1
    assert alarm in " ".join(dsrl("show", "small").out.split())
    assert "learned nothing" not in dsrl(*small, "--name", "other", "--stop-after", "trained").err


def test_a_long_time_between_checkpoints_is_a_note(dsrl: Any, small: Sequence[str]) -> None:
    flags = ("--trainer-option", "checkpoint_seconds=300", "--stop-after", "trained", "--json")
    outcome = dsrl(*small, *flags)
    assert outcome.code == 0, outcome.err
    (note,) = (text for text in json.loads(outcome.out)["warnings"] if "a kill can lose" in text)
    assert "at most one checkpoint every 300 s" in note
    assert outcome.err.count(f"note: {note}") == 1
