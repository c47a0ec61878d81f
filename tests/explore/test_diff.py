"""The coloured difference of two sources."""

import s4kit as s4
from s4kit.methods import get


def test_every_line_of_both_sources_is_there_in_order() -> None:
    found = s4.show_diff("fixmatch", "unimatch", only="losses")
    first, second = (s4.show(name, only="losses").code.splitlines() for name in ("fixmatch", "unimatch"))
    assert [line for mark, line in found.lines if mark in "- "] == first
    assert [line for mark, line in found.lines if mark in "+ "] == second
    assert found.removed == sum(mark == "-" for mark, _ in found.lines) > 0 and found.added > 0
    assert found.places[0].startswith("s4kit/methods/consistency/fixmatch.py, lines ")


def test_a_source_does_not_differ_from_itself() -> None:
    found = s4.show_diff(get("fixmatch"), "fixmatch")
    assert found.removed == found.added == 0 and {mark for mark, _ in found.lines} == {" "}


def test_code_is_escaped() -> None:
    def left(a: int) -> bool:
        return a < 1

    def right(a: int) -> bool:
        return a < len("<script>")

    page = s4.show_diff(left, right)._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page and "−" in page
