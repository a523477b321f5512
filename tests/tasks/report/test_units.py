"""Tests of the reasons for which units failed."""

from tasks.report.units import Reason, UnitLine, reasons_of


def failed(name: str, error_class: str, error: str) -> UnitLine:
    return UnitLine(name, state="failed", error_class=error_class, error=error)


def test_reasons_are_counted_with_an_example_and_the_advice_for_their_class() -> None:
    lines = [
        UnitLine("a", state="done"),
        failed("b", "NoApplicableCode", "Process failed"),
        failed("c", "FileSizeExceeded", "too large"),
        failed("d", "NoApplicableCode", "Process failed"),
    ]
    assert reasons_of(lines, {"FileSizeExceeded": "Simplify it."}) == [
        Reason("NoApplicableCode", "Process failed", 2, "b", ""),
        Reason("FileSizeExceeded", "too large", 1, "c", "Simplify it."),
    ]


def test_errors_that_differ_in_numbers_and_identifiers_only_are_one_reason() -> None:
    lines = [
        failed("a", "BadGeometry", "Self-intersection at 149.12 -35.3."),
        failed("b", "BadGeometry", "Self-intersection at 150.7 -36."),
        failed("c", "BadGeometry", "It is empty."),
    ]
    found = reasons_of(lines, {})
    assert [(reason.count, reason.error, reason.example) for reason in found] == [
        (2, "Self-intersection at 149.12 -35.3.", "a"),
        (1, "It is empty.", "c"),
    ]


def test_one_text_of_two_classes_is_two_reasons() -> None:
    assert len(reasons_of([failed("a", "One", "text"), failed("b", "Two", "text")], {})) == 2


def test_beyond_a_thousand_reasons_the_others_of_a_class_are_one() -> None:
    letters = "abcdefghijklmnopqrst"
    lines = [
        failed(one + two + three, "Odd", one + two + three)
        for one in letters
        for two in letters
        for three in letters
    ]
    found = reasons_of(lines, {"Odd": "Ask."})
    assert len(found) == 1_001
    assert found[0].count == 7_000
    assert sum(reason.count for reason in found) == 8_000
    assert found[0].advice == "Ask."


def test_the_order_of_reasons_does_not_depend_on_that_of_equal_ones() -> None:
    lines = [failed("a", "Two", "x"), failed("b", "One", "x")]
    classes = [reason.error_class for reason in reasons_of(lines, {})]
    assert classes == ["One", "Two"]
