"""In which form each model is asked for structured output."""

from __future__ import annotations

from dsrl import SettingsError


class StructuredOutput:
    """Chooses, for each model, the strongest form of structured output that the model has not refused.

    Args:
        forms: all forms from the strongest to the weakest, e.g. ``("schema", "json", "off")``.
        choice: the user's option: one of the forms, which then holds for all models, or ``auto``.
        option: how the user sets it, for the text.

    Raises:
        SettingsError: ``choice`` is not one of these.
    """

    def __init__(self, forms: tuple[str, ...], choice: str, option: str) -> None:
        if choice not in ("auto", *forms):
            *others, last = ("auto", *forms)
            raise SettingsError(f"{option}={choice!r} must be {', '.join(others)} or {last}")
        self._forms = forms
        self._first, self._is_fixed = (forms[0], False) if choice == "auto" else (choice, True)
        self._form_by_model: dict[str, str] = {}

    def get_form(self, model: str) -> str:
        """Return the form to ask a model for."""
        return self._form_by_model.get(model, self._first)

    def weaken(self, model: str, refused_form: str) -> bool:
        """Choose a weaker form for a model that refused one; return False if the user's option does not allow it."""
        if self._is_fixed:
            return False
        weaker = self._forms[self._forms.index(refused_form) + 1]
        # Requests that were sent together are refused together; none may undo what another one has learned.
        self._form_by_model[model] = max(self.get_form(model), weaker, key=self._forms.index)
        return True
