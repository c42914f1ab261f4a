"""Numbers as pages and figures write them."""

from __future__ import annotations

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"


def number(value: float) -> str:
    """Format a number with three significant digits, or all digits before the decimal point.

    >>> number(-0.1234), number(1234.5), number(0.0)
    ('−0.123', '1234', '0')
    """
    text = f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"
    return text.replace("-", MINUS)


def percent(value: float) -> str:
    """Format a fraction as percent with one decimal.

    >>> percent(0.1234).replace(SPACE, " ")
    '12.3 %'
    """
    return f"{rounded(value):.1f}{SPACE}%".replace("-", MINUS)


def signed_percent(value: float) -> str:
    """Format a signed fraction as percent; the sign is always written, except for zero.

    >>> signed_percent(0.1234).replace(SPACE, " "), signed_percent(0.0).replace(SPACE, " ")
    ('+12.3 %', '0.0 %')
    """
    return ("+" if rounded(value) > 0 else "") + percent(value)


def probability(value: float) -> str:
    """Format a probability in whole percent; what would round to 0 or 100 % is given as a bound.

    >>> [probability(p).replace(SPACE, " ") for p in (0.914, 0.9991, 0.0001)]
    ['91 %', 'over 99 %', 'under 1 %']
    """
    if value > 0.99:
        return f"over 99{SPACE}%"
    if value < 0.01:
        return f"under 1{SPACE}%"
    return f"{value * 100:.0f}{SPACE}%"


def rounded(share: float) -> float:
    """Round a fraction to a tenth of a percent, in percent."""
    # Adding zero turns -0.0, which would print a sign, into 0.0.
    return round(share * 100, 1) + 0.0


def times(ratio: float) -> str:
    """Format a ratio: "0.25 times"."""
    return f"{ratio:.2g}{SPACE}times".replace("-", MINUS)
