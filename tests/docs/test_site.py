"""What the site's hook makes of pages, before mkdocs sees them and after."""

from types import SimpleNamespace

from link_pages import on_page_content, on_page_markdown


PAGE = SimpleNamespace(file=SimpleNamespace(src_uri="reference/data.md"))


def test_files_outside_the_pages_are_linked_to_where_there_is_an_address():
    """Otherwise the strict build fails, or a reader gets a dead link."""
    text = "[rules](../sharpness.md), [script](../../examples/study.py#l1)"
    with_address = on_page_markdown(text, PAGE, {"repo_url": "https://example.org/it"})
    assert with_address == (
        "[rules](../sharpness.md), [script](https://example.org/it/blob/main/examples/study.py#l1)"
    )
    assert on_page_markdown(text, PAGE, {"repo_url": ""}) == "[rules](../sharpness.md), script"


def test_docstrings_are_shown_without_their_signs():
    field = '<code><span title="a.config_field">config_field</span>(4, low=0, help=&#39;Number (n).&#39;)</code>'
    assert on_page_content(f"(<code>int</code>, default: {field})") == "(<code>int</code>, default: <code>4</code>)"
    assert on_page_content(f"(<code>`int`, *optional*</code>, default: {field})") == "(int, optional)"
    assert on_page_content("[<code>~data.ImageFeatures</code>]") == "<code>ImageFeatures</code>"
