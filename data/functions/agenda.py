"""A small team's calendar: who is where, when there is time, and how many days lie between two dates."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Literal, TypedDict

Person = Literal["Amira", "Bruno", "Chen", "Dora"]

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_OPENS, _CLOSES = 9 * 60, 17 * 60  # minutes after midnight


class Event(TypedDict):
    """An entry of the calendar."""

    event_id: str
    title: str
    day: str
    start: str
    minutes: int
    people: list[str]


_EVENTS: dict[str, Event] = {
    event_id: Event(event_id=event_id, title=title, day=day, start=start, minutes=minutes, people=people)
    for event_id, title, day, start, minutes, people in (
        ("E101", "Budget review", "2026-03-09", "09:00", 90, ["Amira", "Chen"]),
        ("E102", "Design workshop", "2026-03-09", "11:00", 120, ["Bruno"]),
        ("E103", "Interview", "2026-03-10", "10:30", 45, ["Dora", "Amira"]),
        ("E104", "Supplier call", "2026-03-11", "14:00", 30, ["Chen"]),
        ("E105", "Release planning", "2026-03-12", "13:00", 60, ["Bruno", "Dora"]),
        ("E106", "Board dinner", "2026-03-13", "16:00", 60, ["Amira"]),
    )
}


def list_events(person: Person, day: date) -> list[str]:
    """List what a team member has in the calendar on one day.

    Read-only.

    Args:
        person: Team member whose calendar is read.
        day: Date as YYYY-MM-DD.

    Returns:
        Times and titles, earliest first.
    """
    found = [event for event in _EVENTS.values() if person in event["people"] and event["day"] == day.isoformat()]
    return [f"{event['start']} {event['title']}" for event in sorted(found, key=lambda event: event["start"])]


def find_free_slot(person: Person, day: date, minutes: int) -> str:
    """Find the earliest time of a working day at which a team member is free for long enough.

    Read-only.

    Args:
        person: Team member who shall be free.
        day: Date as YYYY-MM-DD.
        minutes: Length of the slot in minutes, from 5 to 480.

    Returns:
        Start of the slot as HH:MM.

    Raises:
        ValueError: There is no such slot on that day.
    """
    busy = sorted(
        (_minute(event["start"]), _minute(event["start"]) + event["minutes"])
        for event in _EVENTS.values()
        if person in event["people"] and event["day"] == day.isoformat()
    )
    start = _OPENS
    for begins, ends in busy:
        if begins - start >= minutes:
            break
        start = max(start, ends)
    if start + minutes > _CLOSES:
        raise ValueError(f"{person} has no {minutes} free minutes on {day}")
    return f"{start // 60:02d}:{start % 60:02d}"


def add_event(title: str, day: date, start: str, minutes: int = 60, people: list[Person] | None = None) -> Event:
    """Put a new event into the team calendar.

    Args:
        title: What the event is called, such as Kick-off, Lunch with the auditors or Dentist.
        day: Date as YYYY-MM-DD.
        start: Time at which it begins, as HH:MM in 24 hours.
        minutes: Length in minutes, from 5 to 480.
        people: Team members who attend.

    Returns:
        The event with its new id.
    """
    event_id = f"E{101 + len(_EVENTS)}"
    _minute(start)
    _EVENTS[event_id] = Event(
        event_id=event_id, title=title, day=day.isoformat(), start=start, minutes=minutes, people=list(people or [])
    )
    return _EVENTS[event_id]


def cancel_event(event_id: str, notify: bool = True) -> str:
    """Take an event out of the team calendar.

    Args:
        event_id: Id of the event, such as E101, E103 or E105.
        notify: Whether the people who attend are told.

    Returns:
        The title of the event that was cancelled.

    Raises:
        ValueError: There is no such event.
    """
    if event_id not in _EVENTS:
        raise ValueError(f"there is no event {event_id}")
    told = " (people told)" if notify else ""
    return _EVENTS.pop(event_id)["title"] + told


def days_between(start: date, end: date, workdays_only: bool = False) -> int:
    """Count the days from one date to a later one; the first day is not counted.

    Read-only.

    Args:
        start: First date as YYYY-MM-DD.
        end: Last date as YYYY-MM-DD.
        workdays_only: Count Monday to Friday only.

    Returns:
        Number of days.
    """
    if end < start:
        raise ValueError(f"{end} is before {start}")
    days = [start + timedelta(n) for n in range(1, (end - start).days + 1)]
    return sum(not workdays_only or day.weekday() < 5 for day in days)


def add_workdays(day: date, count: int) -> date:
    """Give the date that lies a number of working days (Monday to Friday) after another.

    Read-only.

    Args:
        day: Date to count from, as YYYY-MM-DD.
        count: Working days to add, from 1 to 60.

    Returns:
        Date as YYYY-MM-DD.
    """
    if count < 0:
        raise ValueError("count must not be negative")
    while count:
        day += timedelta(1)
        count -= day.weekday() < 5
    return day


def weekday_of(day: date) -> str:
    """Tell which day of the week a date falls on.

    Read-only.

    Args:
        day: Date as YYYY-MM-DD.

    Returns:
        Name of the weekday, such as Tuesday.
    """
    return _WEEKDAYS[day.weekday()]


def _minute(time: str) -> int:
    parsed = datetime.strptime(time, "%H:%M")
    return parsed.hour * 60 + parsed.minute
