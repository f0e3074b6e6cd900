"""A bicycle and outdoor shop: what it sells, what is in stock, and what becomes of an order."""

from __future__ import annotations

from typing import Literal, TypedDict

Category = Literal["tents", "bags", "lights", "clothing", "tools"]
Product = Literal["trail tent", "dry bag", "head lamp", "rain jacket", "tyre pump", "multi-tool", "bike light"]
Zone = Literal["domestic", "Europe", "worldwide"]


class OrderLine(TypedDict):
    """One line of an order.

    Attributes:
        product: What is ordered.
        quantity: How many, from 1 to 20.
    """

    product: Product
    quantity: int


_CATALOGUE: dict[str, tuple[str, float, int]] = {  # category, price in EUR, pieces in stock
    "trail tent": ("tents", 189.0, 7),
    "dry bag": ("bags", 24.5, 40),
    "head lamp": ("lights", 35.0, 0),
    "rain jacket": ("clothing", 99.9, 15),
    "tyre pump": ("tools", 29.0, 22),
    "multi-tool": ("tools", 18.75, 3),
    "bike light": ("lights", 21.0, 60),
}
_ORDERS = {"A-1001": "shipped", "A-1002": "packed", "A-1003": "delivered", "A-1004": "waiting for payment"}
_PER_KILO = {"domestic": 1.2, "Europe": 2.6, "worldwide": 6.5}


def search_products(category: Category, max_price: float | None = None, in_stock: bool = False) -> list[str]:
    """Search the shop's catalogue by category.

    Read-only.

    Args:
        category: Kind of product.
        max_price: Highest price in euros, from 20 to 300.
        in_stock: Only products that can be sent at once.

    Returns:
        Names of products, cheapest first.
    """
    found = [
        (price, name)
        for name, (kind, price, stock) in _CATALOGUE.items()
        if kind == category and (max_price is None or price <= max_price) and (stock or not in_stock)
    ]
    return [name for _, name in sorted(found)]


def product_price(product: Product, quantity: int = 1) -> float:
    """Look up what a product costs in euros; ten or more get 10 percent off.

    Read-only.

    Args:
        product: Product that is to be bought.
        quantity: How many, from 2 to 40.

    Returns:
        Price of all of them together, in EUR.
    """
    if quantity < 1:
        raise ValueError("quantity must be at least 1")
    return round(_CATALOGUE[product][1] * quantity * (0.9 if quantity >= 10 else 1.0), 2)


def check_stock(product: Product) -> int:
    """Tell how many pieces of a product are in stock.

    Read-only.

    Args:
        product: Product that is asked for.

    Returns:
        Number of pieces.
    """
    return _CATALOGUE[product][2]


def order_status(order_id: str) -> str:
    """Look up how far an order has come.

    Read-only.

    Args:
        order_id: Number of the order, such as A-1001, A-1002 or A-1004.

    Returns:
        Its state, such as shipped.

    Raises:
        ValueError: There is no such order.
    """
    if order_id not in _ORDERS:
        raise ValueError(f"there is no order {order_id}")
    return _ORDERS[order_id]


def place_order(lines: list[OrderLine], gift_wrap: bool = False) -> str:
    """Order products from the shop.

    Args:
        lines: What is ordered, and how many of each.
        gift_wrap: Wrap everything as a present.

    Returns:
        Number of the new order, with the sum to pay.
    """
    if not lines:
        raise ValueError("an order needs at least one line")
    total = sum(product_price(line["product"], line["quantity"]) for line in lines) + (4.0 if gift_wrap else 0.0)
    order_id = f"A-{1001 + len(_ORDERS)}"
    _ORDERS[order_id] = "waiting for payment"
    return f"{order_id}: {total:.2f} EUR"


def return_order(order_id: str, reason: Literal["damaged", "wrong size", "not needed"]) -> str:
    """Register that an order is sent back.

    Args:
        order_id: Number of the order, such as A-1001, A-1003 or A-1004.
        reason: Why it is sent back.

    Returns:
        What happens next.

    Raises:
        ValueError: There is no such order.
    """
    if order_id not in _ORDERS:
        raise ValueError(f"there is no order {order_id}")
    _ORDERS[order_id] = "returned"
    return "refund and new piece" if reason == "damaged" else "refund"


def shipping_cost(weight_kg: float, zone: Zone, express: bool = False) -> float:
    """Work out what it costs to ship a parcel.

    Read-only.

    Args:
        weight_kg: Weight of the parcel in kilograms, from 0.5 to 30.
        zone: Where it goes.
        express: Whether it goes by express.

    Returns:
        Cost in EUR.
    """
    if not 0 < weight_kg <= 31.5:
        raise ValueError("a parcel weighs at most 31.5 kg")
    return round((3.5 + weight_kg * _PER_KILO[zone]) * (1.8 if express else 1.0), 2)
