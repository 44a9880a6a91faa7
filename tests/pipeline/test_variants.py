from __future__ import annotations

import pytest

from dsrl.errors import SettingsError
from dsrl.pipeline.variants import list_default_variants, parse_variant, parse_variants
from dsrl.settings import Settings


def test_a_variant_is_read() -> None:
    variant = parse_variant("select=100+balance=on")
    assert variant.settings == {"select": 100, "balance": True}
    assert variant.folder == "select-100-balance-on"
    assert not variant.changes_samples
    assert parse_variant("votes=4").changes_samples
    assert parse_variant("pattern=off").without_pattern
    assert [v.name for v in parse_variants(["adapt=off, votes=4", "adapt=off"])] == ["adapt=off", "votes=4"]


def test_a_trainer_that_chooses_gets_no_doubtful_labels_unless_the_variant_wants_them() -> None:
    paper = Settings(task=("mednli",), min_agreement=0.0)
    assert parse_variant("selection=online").apply(paper).min_agreement == 0.75
    assert parse_variant("selection=online+min_agreement=0").apply(paper).min_agreement == 0
    assert parse_variant("selection=easy").apply(paper).min_agreement == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("random", "NAME=VALUE"),
        ("selection=", "NAME=VALUE"),
        ("selection=best", "must be one of"),
        ("selektion=random", "did you mean 'selection'?"),
        ("teacher=openai", "cannot change 'teacher'"),
        ("output_model=/tmp/x", "cannot change"),
        ("select=many", "must be a number"),
        ("select=0", "must be at least 1"),
        ("adapt=no", "must be on or off"),
        ("pattern=on", "pattern can only be off"),
    ],
)
def test_a_wrong_variant_is_refused(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words.replace("?", r"\?")):
        parse_variant(text)


def test_two_variants_need_two_folders() -> None:
    with pytest.raises(SettingsError, match="too much alike"):
        parse_variants(["select=100+balance=on", "select=100 + balance=on"])


def test_the_variants_of_the_paper() -> None:
    settings = Settings(task=("x",), select=500, votes=16)
    names = [variant.name for variant in list_default_variants(settings, 900, has_pattern=True)]
    assert names[:3] == ["select=100", "select=300", "select=900"]
    assert {"selection=easy", "selection=hard", "selection=full", "selection=random"} <= set(names)
    assert names[-4:] == ["pattern=off", "adapt=off", "votes=4", "votes=8"]
    # All samples are selected anyway, so no rule would choose others.
    few = [
        v.name for v in list_default_variants(Settings(task=("x",), select=500, adapt=False), 100, has_pattern=False)
    ]
    assert few == ["select=20", "select=60", "votes=4", "votes=8"]
