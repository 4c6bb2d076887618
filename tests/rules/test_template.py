"""Templates: fields are data, whatever their value."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sokuji.rules.template import TemplateField, missing, parse, parse_url, render, render_image, render_link, render_value

HOSTILE = [
    "javascript:alert(1)",
    " javascript:alert(1)",
    "java\tscript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "//evil.example/x",
    "\\\\evil.example",
    "https:evil.example",
    "https://evil.example/x?y#z",
    "/\\evil.example",
    "///evil.example",
    "\x00//evil.example",
    "http://[",
]


def test_fields_are_filled_in() -> None:
    template = parse("Hello {first_name|there}, {{really}} {count} x {context.page.title}!")
    assert template.fields == (
        TemplateField("first_name", "there"),
        TemplateField("count", None),
        TemplateField("context.page.title", None),
    )
    values = {"first_name": None, "count": 3.0, "context.page.title": "Shoes"}
    assert render(template, values) == "Hello there, {really} 3 x Shoes!"


def test_numbers_read_as_people_write_them() -> None:
    values = {"a": 30.0, "b": 0.1, "c": True, "d": ["x", 1], "e": 1e300}
    assert render(parse("{a} {b} {c} {d} {e}"), values) == '30 0.1 true ["x",1] 1e300'


def test_what_a_field_holds_is_no_template_and_has_no_control_characters() -> None:
    assert render(parse("{a}"), {"a": "{b} {{}} \x00\u202eevil\x1b[0m\n"}) == "{b} {{}} evil[0m\n"


def test_a_field_without_value_and_fallback_is_missing() -> None:
    fields = parse("{a|x} {b}").fields
    assert missing(fields, {"a": None, "b": None}) == "b"
    assert missing(fields, {"b": ""}) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a { b", "the '{' at character 3 has no other half; write '{{' for a brace"),
        ("a } b", "the '}' at character 3 has no other half; write '}}' for a brace"),
        ("{}", "'{}' does not name a field; write {name}"),
        ("{1 + 1}", "does not name a field"),
        ("{a.}", "does not name a field"),
        ("{a|{b}}", "has no other half"),
    ],
)
def test_a_text_that_is_no_template_says_what_to_write(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://shop.example/items/{id}?q={q}",
        "http://shop.example:8080/",
        "/cart",
        "/items/{id}",
        "/",
        "?page={n}",
        "#top",
        "{url}",
        "https://s.example",
    ],
)
def test_links_with_a_fixed_beginning_are_taken(text: str) -> None:
    parse_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "javascript:alert(1)",
        "//evil.example",
        "https://{host}/x",
        "https://a.{host}/",
        "{scheme}://x/",
        "{a}{b}",
        "x/y",
        "/\\e",
        "mailto:x",
        "",
    ],
)
def test_links_without_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write 'https://host"):
        parse_url(text)


def test_an_empty_field_makes_no_host_of_the_next_part() -> None:
    assert render_link(parse_url("/{category}/evil.example"), {"category": ""}) == "/evil.example"


def test_fields_of_links_are_encoded() -> None:
    values = {"id": "../a b/ü?&#", "q": 'x"&y=1'}
    assert (
        render_link(parse_url("https://s.example/i/{id}?q={q}"), values)
        == "https://s.example/i/..%2Fa%20b%2F%C3%BC%3F%26%23?q=x%22%26y%3D1"
    )


@given(st.one_of(st.sampled_from(HOSTILE), st.text()))
def test_a_field_alone_never_leads_off_the_site_nor_runs(value: str) -> None:
    link = render_link(parse_url("{url}"), {"url": value})
    assert link.startswith("/")
    assert not link.startswith("//")
    assert "\\" not in link
    image = render_image(parse_url("{url}"), {"url": value}, ["cdn.example"])
    assert image == "" or urljoin("https://shop.example/page", image).startswith(("https://shop.example/", "https://cdn.example/"))


def test_a_field_alone_gives_its_path_as_link() -> None:
    values = {"url": "https://shop.example/items/1?a=b#c"}
    assert render_link(parse_url("{url}"), values) == "/items/1?a=b#c"
    assert render_image(parse_url("{url}"), values, ["shop.example"]) == "https://shop.example/items/1?a=b#c"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("/img/1.jpg?w=9", True),
        ("https://cdn.example/1.jpg", True),
        ("HTTPS://CDN.example/1.jpg", True),
        ("https://evil.example/1.jpg", False),
        ("https://cdn.example.evil.example/1.jpg", False),
        ("https://cdn.example:8443/1.jpg", False),
        ("https://cdn.example@evil.example/1.jpg", False),
        ("http://cdn.example/1.jpg", False),
        ("//evil.example/1.jpg", False),
        ("/\\evil.example/1.jpg", False),
        ("data:image/png;base64,AAAA", False),
        ("1.jpg", False),
    ],
)
def test_a_field_alone_names_images_of_the_site_and_of_hosts_that_the_project_names(image: str, expected: bool) -> None:
    assert render_image(parse_url("{url}"), {"url": image}, ["cdn.example"]) == (image if expected else "")


def test_in_json_a_field_alone_keeps_its_type() -> None:
    values = {"revenue": 30.5, "tags": ["a"], "none": None}
    assert render_value(parse("{revenue}"), values) == 30.5
    assert render_value(parse("{tags}"), values) == ["a"]
    assert render_value(parse("{none|-}"), values) == "-"
    assert render_value(parse("{revenue} yen"), values) == "30.5 yen"
