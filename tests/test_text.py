from __future__ import annotations

from dsrl.text import printable, replace_surrogates


def test_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    """The JSON of a model may hold one; neither SQLite nor a file in UTF-8 takes it."""
    assert replace_surrogates("a\ud83d b") == "a? b"
    assert replace_surrogates("ä 𝔘 \x00\n") == "ä 𝔘 \x00\n", "everything else stays"


def test_a_printable_text_cannot_control_a_terminal() -> None:
    assert printable("\x1b[2J\x07red\r") == " [2J red "
    assert printable("right\u202eto left") == "right to left"


def test_a_printable_text_keeps_its_lines_and_its_length() -> None:
    text = "first\nsecond\tä\u200b"
    assert printable(text) == "first\nsecond ä "
    assert len(printable(text)) == len(text)
