"""References to secrets: parsed whole or refused, never left standing as text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopgate.references import Reference, parse_template

GOOD = [
    ("plain", ("plain",)),
    ("${secret:billing}", (Reference("secret", "billing"),)),
    ("Bearer ${env:API_KEY}!", ("Bearer ", Reference("env", "API_KEY"), "!")),
    ("${vault:kv/data/app#password}", (Reference("vault", "kv/data/app", "password"),)),
    ("${secret:a}${secret:b-1.2_c}", (Reference("secret", "a"), Reference("secret", "b-1.2_c"))),
    ("$5 and $$ and {x}", ("$5 and $$ and {x}",)),
    ("$${secret:a}", ("${", "secret:a}")),
    ("${file:/etc/key with space}", (Reference("file", "/etc/key with space"),)),
]


@pytest.mark.parametrize(("text", "parts"), GOOD)
def test_templates(text: str, parts: tuple[object, ...]) -> None:
    assert parse_template(text).parts == parts


BAD = ["${", "${}", "${secret}", "${secret:}", "${secret:a b}", "${secret:../x}", "${secrets:a}", "${SECRET:a}", "${env:1A}", "${env:A-B}",
       "${file:}", "${vault:a}", "${vault:#f}", "${vault:a#}", "${secret:a", "${secret:${env:A}}", "x ${ y", "${ secret:a}"]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_what_names_no_secret_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"has a \$\{"):
        parse_template(text)


def test_the_refusal_quotes_nothing() -> None:
    with pytest.raises(ValueError, match="names no secret") as caught:
        parse_template("hunter2 ${hunter2}")
    assert "hunter2" not in str(caught.value)


def test_file_paths_start_at_the_base(tmp_path: Path) -> None:
    assert parse_template("${file:k}", tmp_path).references == (Reference("file", str(tmp_path / "k")),)
    assert parse_template("${file:/k}", tmp_path).references == (Reference("file", "/k"),)


def test_rendering_needs_every_value() -> None:
    template = parse_template("a ${secret:x} b ${env:Y}")
    values = {Reference("secret", "x"): "${env:Z}", Reference("env", "Y"): "2"}
    assert template.render(values) == "a ${env:Z} b 2"  # values are not templates
    with pytest.raises(KeyError):
        template.render({Reference("secret", "x"): "1"})


def test_a_repr_shows_names_and_hides_text() -> None:
    assert repr(parse_template("hunter2 ${secret:x}")) == "Template('…${secret:x}')"
    assert str(Reference("vault", "a/b", "c")) == "${vault:a/b#c}"


@given(st.text(alphabet="${}:#sectra x", max_size=30))
def test_literal_text_survives_or_is_refused(text: str) -> None:
    try:
        template = parse_template(text)
    except ValueError:
        assert "${" in text
        return
    if not template.references:
        assert template.render({}) == text.replace("$${", "${")
