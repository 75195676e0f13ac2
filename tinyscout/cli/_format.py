"""Formatting and parsing of numbers for all commands: tables, prefixes, ranges and counts of tokens."""
import argparse

from rich.table import Table

from tinyscout.cli import positive_int

TOKEN_UNITS = {"k": 1 << 10, "m": 1 << 20}


def make_table(title, *columns):
    """Make a table without boxes.  The first column is aligned to the left, the others to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=any(columns),
                  pad_edge=False, padding=(0, 2, 0, 0))
    for n, column in enumerate(columns):
        table.add_column(column, justify="right" if n else "left")
    return table


def format_si(number, unit):
    """Format 108,641,793,536 as 108.6 G."""
    for size, prefix in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]:
        if number >= size:
            return f"{number / size:.4g} {prefix}{unit}"
    return f"{number} {unit}".rstrip()


def format_ranges(numbers):
    """Format rising numbers as ranges and leave out the middle: "1-3, 5-7, 9-11 … 45-47"."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and runs[-1][1] == n - 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    text = [f"{low}-{high}" if low < high else f"{low}" for low, high in runs]
    return ", ".join(text) if len(text) <= 4 else f"{', '.join(text[:3])} … {text[-1]}"


def parse_tokens(text):
    """Parse a number of tokens such as 4096, 128k or 10M, for argparse."""
    unit = TOKEN_UNITS.get(text[-1:].lower())
    try:
        return positive_int(text[:-1]) * unit if unit else positive_int(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of tokens such as 4096, 128k or 10M") from None


def parse_token_list(text):
    """Parse a list such as 512,128k,10M into sorted numbers, for argparse."""
    return sorted({parse_tokens(word) for word in text.split(",")})
