"""Units, currencies and everyday sums. Exchange rates and tax rates are fixed, so that results can be compared."""

from __future__ import annotations

from typing import Literal

LengthUnit = Literal["mm", "cm", "m", "km", "inch", "foot", "mile"]
WeightUnit = Literal["g", "kg", "ounce", "pound", "stone"]
Currency = Literal["EUR", "USD", "GBP", "JPY", "CHF", "SEK"]
Country = Literal["Germany", "France", "Spain", "Sweden", "Switzerland"]

_METRES = {"mm": 0.001, "cm": 0.01, "m": 1.0, "km": 1000.0, "inch": 0.0254, "foot": 0.3048, "mile": 1609.344}
_GRAMS = {"g": 1.0, "kg": 1000.0, "ounce": 28.349523125, "pound": 453.59237, "stone": 6350.29318}
_PER_EURO = {"EUR": 1.0, "USD": 1.10, "GBP": 0.85, "JPY": 160.0, "CHF": 0.95, "SEK": 11.40}
_SALES_TAX = {"Germany": 19.0, "France": 20.0, "Spain": 21.0, "Sweden": 25.0, "Switzerland": 8.1}


def convert_length(value: float, from_unit: LengthUnit, to_unit: LengthUnit) -> float:
    """Convert a length or distance from one unit to another.

    Read-only.

    Args:
        value: Length in the first unit, from 0.1 to 5000.
        from_unit: Unit that the length is given in.
        to_unit: Unit that is wanted.

    Returns:
        Length in the wanted unit.
    """
    return round(value * _METRES[from_unit] / _METRES[to_unit], 4)


def convert_weight(value: float, from_unit: WeightUnit, to_unit: WeightUnit) -> float:
    """Convert a weight from one unit to another.

    Read-only.

    Args:
        value: Weight in the first unit, from 0.5 to 500.
        from_unit: Unit that the weight is given in.
        to_unit: Unit that is wanted.

    Returns:
        Weight in the wanted unit.
    """
    return round(value * _GRAMS[from_unit] / _GRAMS[to_unit], 4)


def convert_temperature(degrees: float, to_scale: Literal["Celsius", "Fahrenheit"]) -> float:
    """Convert a temperature between Celsius and Fahrenheit.

    Read-only.

    Args:
        degrees: Temperature on the other scale, from -40 to 250.
        to_scale: Scale that is wanted.

    Returns:
        Degrees on the wanted scale.
    """
    celsius = to_scale == "Celsius"
    return round((degrees - 32) / 1.8 if celsius else degrees * 1.8 + 32, 2)


def convert_money(amount: float, from_currency: Currency, to_currency: Currency) -> float:
    """Convert an amount of money from one currency to another.

    Read-only.

    Args:
        amount: Amount in the first currency, from 1 to 10000.
        from_currency: Currency that the amount is in.
        to_currency: Currency that is wanted.

    Returns:
        Amount in the wanted currency.
    """
    return round(amount / _PER_EURO[from_currency] * _PER_EURO[to_currency], 2)


def split_bill(total: float, people: int, tip_percent: float = 0.0) -> float:
    """Split a bill evenly, with a tip if there is one.

    Read-only.

    Args:
        total: Sum of the bill, from 10 to 900.
        people: Number of people who share it, from 2 to 20.
        tip_percent: Tip in percent of the bill, from 5 to 25.

    Returns:
        What each person pays.
    """
    if people < 1:
        raise ValueError("there must be at least one person")
    return round(total * (1 + tip_percent / 100) / people, 2)


def loan_payment(principal: float, annual_rate: float, years: int) -> float:
    """Work out the monthly payment of a loan.

    Read-only.

    Args:
        principal: Sum that is borrowed, from 1000 to 500000.
        annual_rate: Interest per year in percent, from 0.5 to 12.
        years: Years over which it is paid back, from 1 to 30.

    Returns:
        Payment per month.
    """
    months, rate = years * 12, annual_rate / 1200
    if months < 1:
        raise ValueError("a loan runs for at least one year")
    return round(principal / months if rate == 0 else principal * rate / (1 - (1 + rate) ** -months), 2)


def add_sales_tax(net: float, country: Country) -> float:
    """Add a country's sales tax (VAT) to a net price.

    Read-only.

    Args:
        net: Price without tax, from 1 to 5000.
        country: Country whose rate applies.

    Returns:
        Price with tax.
    """
    return round(net * (1 + _SALES_TAX[country] / 100), 2)
