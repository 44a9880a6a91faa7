"""Claim: which prompts are in the same call changes at most one of 1,000 completions, on a CPU in float32.

    OMP_NUM_THREADS=1 python benchmarks/company.py --model SMOLLM2    # a folder that make_smollm2.py made; 10 minutes

A seeded completion follows from its prompt, the seed and its number. The prompts around it change sums only in their last
digits, and a sampled token only if it stands at the edge of its probability. Each prompt is completed in a call of its own,
and then all of them in one call; both with temperature 1. Prints how many completions differ.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> None:
    from dsrl_transformers.decode import DecodeSettings
    from dsrl_transformers.language_model import load_model
    from sampler_real import make_prompts

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=os.environ.get("DSRL_SMOLLM2"), help="folder of the model")
    parser.add_argument("--prompts", type=int, default=192)
    parser.add_argument("--attempts", type=int, default=32, help="completions of a prompt")
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    lm = load_model(options.model, "cpu", options.dtype)
    prompts = [
        lm.tokenizer.apply_chat_template(
            [{"role": "user", "content": f"{text} ({number})"}],
            add_generation_prompt=True, tokenize=True, return_dict=True,
        )["input_ids"]
        for number, text in enumerate(make_prompts("spread", options.prompts))
    ]  # fmt: skip
    settings = DecodeSettings(options.attempts, 1.0, 1.0, options.max_tokens, 1, 0)

    def list_completions(calls: list[list[list[int]]]) -> list[tuple[int, ...]]:
        drawn = [completions for call in calls for completions in lm.complete(call, settings)]
        return [completions.distinct[i] for completions in drawn for i in completions.indices]

    together = list_completions([prompts])
    alone = list_completions([[prompt] for prompt in prompts])
    changed = sum(one != other for one, other in zip(together, alone, strict=True))
    print(f"{changed} of {len(alone)} completions differ ({changed / len(alone):.2%}); {len(set(alone))} are distinct")


if __name__ == "__main__":
    main()
