from __future__ import annotations

import pytest
from dsrl_http.structured import StructuredOutput

from dsrl import SettingsError

FORMS = ("schema", "json", "off")


def test_each_model_is_asked_for_the_strongest_form_that_it_has_not_refused() -> None:
    structured = StructuredOutput(FORMS, "auto", "structured")
    assert structured.get_form("a") == "schema"
    assert structured.weaken("a", "schema")
    assert structured.weaken("a", "json")
    assert (structured.get_form("a"), structured.get_form("b")) == ("off", "schema")


def test_a_late_refusal_of_a_strong_form_does_not_make_the_form_strong_again() -> None:
    structured = StructuredOutput(FORMS, "auto", "structured")
    structured.weaken("a", "json")
    structured.weaken("a", "schema")
    assert structured.get_form("a") == "off"


def test_the_users_choice_is_not_weakened() -> None:
    structured = StructuredOutput(FORMS, "json", "structured")
    assert not structured.weaken("a", "json")
    assert structured.get_form("a") == "json"


def test_another_choice_is_refused() -> None:
    with pytest.raises(SettingsError, match="structured='tool' must be auto, schema, json or off"):
        StructuredOutput(FORMS, "tool", "structured")
