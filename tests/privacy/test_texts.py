"""The texts of the privacy pages: the same fields in each language, and the choice of the language."""

from __future__ import annotations

import re
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server.privacy.recipient_page import State
from pixel_server.privacy.texts import FOLDER, LANGUAGES, TEXTS, StateTexts, choose_language, load_texts


def flatten(table, prefix=""):
    """Returns {"recipient.titles.foreign": text} of a nested table."""
    texts = {}
    for name, value in table.items():
        texts |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return texts


def read_texts(language):
    return flatten(tomllib.loads((FOLDER / f"{language}.toml").read_text("utf-8")))


def placeholders(texts):
    return {name: re.findall(r"{.*?}", text) for name, text in texts.items() if "{" in text or "}" in text}


def test_texts_each_file_is_a_language():
    assert {path.name for path in FOLDER.iterdir()} == {f"{language}.toml" for language in LANGUAGES}
    assert list(TEXTS) == list(LANGUAGES) == ["en", "de", "fr", "es", "it"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_each_language_has_the_fields_of_english(language):
    texts, english = read_texts(language), read_texts("en")
    assert texts.keys() == english.keys()
    assert all(text.strip(" \n") == text != "" for text in texts.values())
    assert placeholders(texts) == placeholders(english)


def test_texts_placeholders_are_days_and_the_parts_of_a_consent():
    days = ["browser.opt_out_hint", "shared.one_day", "shared.several_days"]
    assert placeholders(read_texts("en")) == {
        **{name: ["{days}"] for name in days},
        "recipient.recorded.consent": ["{version}", "{time}"],
    }


def test_texts_languages_share_no_sentence():
    sentences = [text for language in LANGUAGES for text in read_texts(language).values() if len(text) > 40]
    assert len(set(sentences)) == len(sentences)


def test_texts_each_state_has_a_title_and_a_lead():
    assert list(StateTexts.__struct_fields__) == [state.name.lower() for state in State]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sender = ", "sendr = "),
        ("[browser]", "extra = 'x'\n[browser]"),
        ("[recipient.leads]", "[recipient.leads]\nextra = 'x'"),
        ('one_day = "{days} day"', "one_day = 1"),
        ('one_day = "{days} day"', ""),
    ],
)
def test_load_texts_other_fields_raises_value_error(tmp_path, old, new):
    content = (FOLDER / "en.toml").read_text("utf-8")
    assert old in content
    (tmp_path / "en.toml").write_text(content.replace(old, new, 1))
    with pytest.raises(ValueError, match=r"."):
        load_texts(tmp_path / "en.toml")


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("DE-ch", "de"),
        ("zh-Hant-TW, fr-CA;q=0.8, en;q=0.7", "fr"),
        ("en;q=0.5, es;q=0.9", "es"),
        ("en ; q=0.5 , es ; q=0.9", "es"),
        ("fr, de", "fr"),
        ("de;q=0, fr;q=0.001", "fr"),
        ("de;q=0", "en"),
        ("*", "en"),
        ("*, de;q=0.9", "en"),
        ("*;q=0.1, de;q=0.9", "de"),
        ("it-CH, de;q=0.5", "it"),
        ("ja, ru", "en"),
        ("deu, den", "en"),
        ("de;q=nan, fr;q=0.1", "fr"),
        ("de;q=inf", "en"),
        ("de;q=1e9", "en"),
        ("de;q=2", "en"),
        ("de;q=-1", "en"),
        ("de;q=", "en"),
        ("de;q=\u0661", "en"),
        ("de;;q=1", "en"),
        ("de;level=1", "en"),
        (",,;,q=1,-, de", "de"),
        ("\x00\ud800\u202e, es", "es"),
        ("x," * 100_000 + "de", "en"),
        ("de-" + "-" * 100_000, "de"),
    ],
)
def test_choose_language_header_gives_preferred_or_english(accept, language):
    assert choose_language(accept) == language


@given(st.text(alphabet="defrns*-;,=q01. \t\x00\u0131") | st.text())
def test_choose_language_any_text_gives_a_language(accept):
    assert choose_language(accept) in TEXTS
