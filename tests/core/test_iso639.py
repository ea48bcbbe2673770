"""Names of languages: every code of ISO 639-1 once, in order."""

from stages.core.iso639 import LANGUAGE_NAMES


def test_codes_are_of_two_letters_and_names_are_each_of_one() -> None:
    assert len(LANGUAGE_NAMES) == len(set(LANGUAGE_NAMES.values())) == 183
    assert list(LANGUAGE_NAMES) == sorted(LANGUAGE_NAMES)
    assert all(len(code) == 2 and code.islower() for code in LANGUAGE_NAMES)
    named = {"en": "English", "nb": "Norwegian Bokmål", "ht": "Haitian Creole", "zh": "Chinese"}
    assert named.items() <= LANGUAGE_NAMES.items()
