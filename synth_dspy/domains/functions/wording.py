"""Texts for synthetic conversations: small talk, clarifying questions, system prompts, example replies."""

from __future__ import annotations

TALK = (
    "Thanks, that is all I wanted to know.",
    "Great, thank you!",
    "All right, I will think about it.",
    "Perfect, have a nice day.",
    "Good to know, thanks for your help.",
    "That was quick, thank you.",
    "Okay, let me talk to my partner about it first.",
    "Wonderful. You have been very helpful.",
)
"""Messages that request nothing."""

CLARIFY = (
    "Could you tell me the {}?",
    "Which {} shall it be?",
    "I still need the {}.",
)
"""Clarifying questions of the assistant; the argument's name is filled in."""

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "Be brief and polite.",
    "You help with bookings, calendars and orders.",
    "Call a function only when the user's request needs one. Never guess an argument: if it was not said, do not call. "
    "If several things are asked for, make one call for each.",
    "You are the assistant of a small company. Use the functions that you are given and no others. When the user only "
    "chats or thanks you, do not call anything. When a request lacks something that a function needs, make no call, so "
    "that the user can be asked for it. Values are passed on as the user said them; dates are written as YYYY-MM-DD.",
)
"""Short system prompts, and long ones with rules on when to call."""

REPLIES = (
    {"request": "How many miles are 10 kilometres?", "result": "6.2137", "reply": "10 kilometres are 6.2137 miles."},
    {"request": "Which weekday is 14 July 2026?", "result": "Tuesday", "reply": "14 July 2026 is a Tuesday."},
    {"request": "Where is my order A-77?", "result": "shipped", "reply": "Your order A-77 is shipped."},
)
"""Demonstrations of answers in words from a result."""
