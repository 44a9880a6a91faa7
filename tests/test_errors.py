from __future__ import annotations

import pytest

from dsrl import errors
from dsrl.errors import BudgetReached, DsrlError, RowRefused, SettingsError, TeacherError, TransientError
from dsrl.types import Usage

ENDINGS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, DsrlError)]


@pytest.mark.parametrize("error", ENDINGS)
def test_only_a_wrong_setting_has_the_exit_code_of_wrong_usage(error: type[DsrlError]) -> None:
    assert error.exit_code == (2 if error is SettingsError else 1)


@pytest.mark.parametrize("error", [RowRefused("content_filter"), TransientError("503")])
def test_what_a_run_survives_is_not_an_error_that_ends_a_command(error: Exception) -> None:
    assert not isinstance(error, DsrlError)


def test_a_refusal_without_a_message_shows_its_reason() -> None:
    assert str(RowRefused("content_filter")) == "content_filter"
    refusal = RowRefused("content_filter", "violence", Usage(7))
    assert (str(refusal), refusal.reason, refusal.usage) == ("violence", "content_filter", Usage(7))


def test_a_budget_that_is_reached_is_handled_where_teachers_fail() -> None:
    with pytest.raises(TeacherError, match="too dear") as caught:
        raise BudgetReached("too dear", unknown=True)
    assert (caught.value.usage, caught.value.unknown) == (None, True)
