"""Trips between a few cities: flights, distances, weather, hotels and clocks."""

from __future__ import annotations

from datetime import date
from math import asin, cos, radians, sin, sqrt
from typing import Literal, TypedDict

City = Literal["Lisbon", "Oslo", "Vienna", "Cairo", "Kyoto", "Toronto"]
Airport = Literal["LIS", "OSL", "VIE", "CAI", "KIX", "YYZ"]

_CITIES: dict[str, tuple[str, float, float, int]] = {  # airport, latitude, longitude, hours from UTC
    "Lisbon": ("LIS", 38.72, -9.14, 0),
    "Oslo": ("OSL", 59.91, 10.75, 1),
    "Vienna": ("VIE", 48.21, 16.37, 1),
    "Cairo": ("CAI", 30.04, 31.24, 2),
    "Kyoto": ("KIX", 35.01, 135.77, 9),
    "Toronto": ("YYZ", 43.65, -79.38, -5),
}
_WEATHER = {"Lisbon": (19, "sunny"), "Oslo": (-2, "snow"), "Vienna": (8, "cloudy"), "Cairo": (27, "sunny"),
            "Kyoto": (13, "rain"), "Toronto": (-6, "snow")}  # fmt: skip
_ROOM = {"Lisbon": 95.0, "Oslo": 140.0, "Vienna": 110.0, "Cairo": 60.0, "Kyoto": 120.0, "Toronto": 130.0}
_SPEED = {"walk": 5.0, "bicycle": 16.0, "car": 80.0, "train": 140.0}
_RESERVATIONS: list[str] = []


class Forecast(TypedDict):
    """The weather of one day."""

    degrees: float
    sky: str


def airport_code(city: City) -> str:
    """Give the code of a city's airport.

    Read-only.

    Args:
        city: City that is asked for.

    Returns:
        Code of three letters.
    """
    return _CITIES[city][0]


def find_flights(origin: Airport, destination: Airport, day: date, direct: bool = False) -> list[str]:
    """Find flights between two airports on one day.

    Read-only.

    Args:
        origin: Code of the airport of departure.
        destination: Code of the airport of arrival.
        day: Date as YYYY-MM-DD.
        direct: Only flights without a stop.

    Returns:
        Flights with their times.
    """
    if origin == destination:
        raise ValueError("origin and destination are the same")
    seed = sum(map(ord, origin + destination + day.isoformat()))
    direct_flight = f"{origin}-{destination} {6 + seed % 12:02d}:15 direct"
    with_stop = f"{origin}-{destination} {8 + seed % 10:02d}:40 one stop"
    return [direct_flight] if direct else [direct_flight, with_stop]


def distance_between(origin: City, destination: City) -> float:
    """Give the distance between two cities as the crow flies.

    Read-only.

    Args:
        origin: First city.
        destination: Second city.

    Returns:
        Distance in kilometres.
    """
    _, lat1, lon1, _ = _CITIES[origin]
    _, lat2, lon2, _ = _CITIES[destination]
    a = sin(radians(lat2 - lat1) / 2) ** 2
    a += cos(radians(lat1)) * cos(radians(lat2)) * sin(radians(lon2 - lon1) / 2) ** 2
    return round(2 * 6371 * asin(sqrt(a)), 1)


def travel_time(distance_km: float, mode: Literal["walk", "bicycle", "car", "train"]) -> float:
    """Estimate how long it takes to cover a distance.

    Read-only.

    Args:
        distance_km: Distance in kilometres, from 1 to 900.
        mode: How one travels.

    Returns:
        Hours.
    """
    if distance_km < 0:
        raise ValueError("a distance is not negative")
    return round(distance_km / _SPEED[mode], 2)


def weather_forecast(city: City, day: date, unit: Literal["Celsius", "Fahrenheit"] = "Celsius") -> Forecast:
    """Forecast the weather of a city for one day.

    Read-only.

    Args:
        city: City that is asked for.
        day: Date as YYYY-MM-DD.
        unit: Scale of the temperature.

    Returns:
        Degrees and what the sky looks like.
    """
    degrees, sky = _WEATHER[city]
    degrees += day.day % 5
    return {"degrees": float(degrees) if unit == "Celsius" else round(degrees * 1.8 + 32, 1), "sky": sky}


def hotel_price(city: City, nights: int, stars: Literal[3, 4, 5] = 3, breakfast: bool = False) -> float:
    """Work out what a hotel room costs.

    Read-only.

    Args:
        city: City of the hotel.
        nights: Number of nights, from 1 to 21.
        stars: Class of the hotel.
        breakfast: Whether breakfast is included.

    Returns:
        Price of the whole stay in EUR.
    """
    if nights < 1:
        raise ValueError("a stay is at least one night")
    return round(nights * (_ROOM[city] * (1 + 0.4 * (stars - 3)) + (15 if breakfast else 0)), 2)


def book_hotel(city: City, arrival: date, nights: int, guests: int = 1) -> str:
    """Book a hotel room.

    Args:
        city: City of the hotel.
        arrival: Date of arrival as YYYY-MM-DD.
        nights: Number of nights, from 1 to 21.
        guests: Number of people, from 1 to 4.

    Returns:
        Number of the reservation.
    """
    _RESERVATIONS.append(f"H{len(_RESERVATIONS) + 1:03d} {city} {arrival} {nights} nights, {guests} guests")
    return _RESERVATIONS[-1].split()[0]


def local_time(time: str, from_city: City, to_city: City) -> str:
    """Tell what time it is in one city when it is a given time in another.

    Read-only.

    Args:
        time: Time in the first city, as HH:MM in 24 hours.
        from_city: City whose time is given.
        to_city: City whose time is wanted.

    Returns:
        Time as HH:MM.
    """
    hours, minutes = map(int, time.split(":"))
    if not (0 <= hours < 24 and 0 <= minutes < 60):
        raise ValueError(f"{time} is no time of the day")
    shifted = (hours + _CITIES[to_city][3] - _CITIES[from_city][3]) % 24
    return f"{shifted:02d}:{minutes:02d}"
