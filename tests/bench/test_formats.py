"""Measured numbers as text."""
from tinyscout.bench.formats import format_digits, format_duration, format_percent


def test_numbers_have_no_exponent():
    assert [*map(format_digits, (1280.4, 64800.2, 43.21, 0.00512, 999.6, 0))] == [
        "1,280", "64,800", "43.2", "0.00512", "1,000", "0"]
    assert [*map(format_duration, (64.8, 0.115, 3.2e-6, 5e-10, 0.9999))] == [
        "64.8 s", "115 ms", "3.20 µs", "0.500 ns", "1.00 s"]
    assert [*map(format_percent, (0.43, 0.0031, 0, 1.2))] == ["43%", "0.3%", "0%", "120%"]
