"""The embedded library says what it holds."""

from __future__ import annotations

import pytest

from dsrl.corpus.embedded import SUBJECTS, describe_library, embedded_library, knows_domain


def test_it_says_what_it_holds() -> None:
    assert {f"{subject.name}.jsonl" for subject in SUBJECTS} == {path.name for path in embedded_library().iterdir()}
    text = describe_library()
    assert "medicine: 220 passages" in text
    assert "word problems" in text


@pytest.mark.parametrize(
    "keywords",
    [
        ["Clinical medicine"],
        ["asthma"],
        ["grade-school math"],
        ["contract law"],
        ["SQL"],
        ["chess", "algebra"],
        ["fever"],
    ],
)
def test_domains_that_it_knows(keywords: list[str]) -> None:
    assert knows_domain(keywords)


@pytest.mark.parametrize("keywords", [["French poetry"], ["astronomy", "telescopes"], ["Roman history"], [""], []])
def test_domains_that_it_does_not_know(keywords: list[str]) -> None:
    assert not knows_domain(keywords)
