"""Measured numbers as text: in tables, in plots, and in the pages of the documentation."""
import math


def format_digits(x: float, n: int = 3) -> str:
    """Format a number with n digits and without an exponent: 1,280 and 64,800, 43.2, 0.00512."""
    if not x or not math.isfinite(x):
        return f"{x:g}"
    decimals = n - 1 - math.floor(math.log10(abs(float(f"{x:.{n - 1}e}"))))
    return f"{round(x, decimals):,.{max(decimals, 0)}f}"


def format_duration(seconds: float) -> str:
    """Format a time in the unit that suits it: 64.8 s, 115 ms, 3.20 µs."""
    units = (("s", 1), ("ms", 1e-3), ("µs", 1e-6))
    unit, scale = next(((unit, scale) for unit, scale in units if float(f"{seconds:.2e}") >= scale), ("ns", 1e-9))
    return f"{format_digits(seconds / scale)} {unit}"


def format_percent(share: float) -> str:
    """Format a share in whole percent, and below 1% with one digit: 43%, 0.3%."""
    return f"{share:.0%}" if share >= 0.01 or not share else f"{format_digits(100 * share, 1)}%"
