from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsrl.pipeline.model_card import find_license, make_model_card
from dsrl.settings import resolve

RESULT = {
    "base_accuracy": 0.5,
    "trained_accuracy": 0.75,
    "gain_ci95": [0.1, 0.4],
    "n_test": 20,
    "samples": {"initial": 8, "verified": 7, "harder": 3, "easier": 4, "selected": 6},
    "cost_usd": 1.25,
    "warnings": ["look <script>alert(1)</script> out"],
}


def make_card(base_model: str = "owner/base", license_name: str = "mit", **changes: Any) -> str:
    settings = resolve(
        {"task": "t", "name": "trial", "base_model": base_model, "output_model": "/secret/place"},
        {"sampler_option": {"base_url": "http://sk-secret"}, "teacher": "openai:gpt-4o"},
    )
    result = {**RESULT, **changes}
    return make_model_card(settings, result, {"t": "Say | yes\nor no."}, license_name, {"dsrl": "0.1"})


def test_a_card_says_what_the_model_is() -> None:
    card = make_card()
    assert card.startswith("---\nlibrary_name: ")
    for text in (
        'base_model: "owner/base"',
        "license: mit",
        "| base | 50.0% |",
        "| trained | 75.0% |",
        "Gain: +25.0% (95% interval, paired: +10.0% to +40.0%).",
        "wrote 8 samples, of which 7 got a label",
        "The teacher cost $1.25",
        "Task `t`: Say \\| yes or no.",
        "| epochs | 5 |",
        "look \\<script\\>alert(1)\\</script\\> out",
    ):
        assert text in card, text


def test_a_card_tells_nothing_of_this_machine(tmp_path: Path) -> None:
    folder = tmp_path / "private" / "base"
    folder.mkdir(parents=True)
    card = make_card(str(folder))
    for secret in ("sk-secret", "/secret/place", str(tmp_path)):
        assert secret not in card
    assert 'base_model: "base"' in card


def test_a_card_without_an_evaluation_and_a_licence() -> None:
    card = make_card(license_name="", base_accuracy=None, trained_accuracy=None, gain_ci95=None)
    assert "Not evaluated: there was no test set." in card
    assert "states no licence" in card
    assert "license:" not in card


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\nlicense: apache-2.0\nlanguage: en\n---\n# Model\n", "apache-2.0"),
        ("# Model\nlicense: mit\n", ""),
        ("---\ntags: x\n---\nlicense: mit\n", ""),
        ("---\nlicense: " + "x" * 200 + "\n---\n", ""),
        ("", ""),
    ],
)
def test_the_licence_of_a_base_model(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "README.md").write_text(text)
    assert find_license(str(tmp_path)) == expected
    assert find_license("owner/name") == ""
