"""What tools are asked about: cities, people, things, numbers; some are held out of training."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

CITIES: Final = (
    "Paris", "London", "Berlin", "Rome", "Madrid", "Tokyo", "New York", "San Francisco", "Vienna",
    "Prague", "Warsaw", "Dublin", "Athens", "Munich", "Hamburg", "Milan", "Naples", "Venice",
    "Barcelona", "Seville", "Porto", "Lyon", "Marseille", "Brussels", "Amsterdam", "Copenhagen",
    "Stockholm", "Helsinki", "Riga", "Budapest", "Bucharest", "Sofia", "Belgrade", "Istanbul",
    "Ankara", "Cairo", "Tunis", "Lagos", "Accra", "Cape Town", "Mumbai", "Delhi", "Bangkok",
    "Singapore", "Jakarta", "Manila", "Seoul", "Osaka", "Kyoto", "Beijing", "Shanghai", "Taipei",
    "Hong Kong", "Sydney", "Melbourne", "Auckland", "Boston", "Chicago", "Denver", "Dallas",
    "Seattle", "Los Angeles", "Miami", "Montreal", "Vancouver", "Mexico City", "Bogota", "Quito",
    "Santiago", "Buenos Aires", "Sao Paulo", "Geneva", "Zurich", "Basel", "Oxford", "Leeds",
    "Glasgow", "Cork", "Bergen", "Turin", "Dubai", "Doha", "Kabul", "Tehran", "Moscow", "Kiev",
)  # fmt: skip
HELD_OUT_CITIES: Final = (
    "Lisbon", "Nairobi", "Oslo", "Toronto", "Hanoi", "Lima", "Zagreb", "Perth", "Havana", "Bilbao",
)  # fmt: skip
PEOPLE: Final = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ida", "Jack", "Karen",
    "Leo", "Mia", "Noah", "Olivia", "Peter", "Rosa", "Sam", "Tom", "Ursula", "Victor", "Wendy",
    "Yusuf", "Zoe", "Maria", "John", "Alice", "Bob", "Carol", "Mei", "Ravi", "Fatima", "Omar",
    "Lucy", "Martin", "Nina", "Paul", "Sara", "Tim", "Eva", "Jonas", "Laura", "Simon", "Julia",
)  # fmt: skip
HELD_OUT_PEOPLE: Final = (
    "Ingrid", "Marcus", "Priya", "Stefan", "Helena", "Tobias", "Camille", "Dmitri",
)  # fmt: skip
SINGLE_THINGS: Final = (
    "pen", "pencil", "lamp", "chair", "table", "bicycle", "ball", "kite", "hat", "scarf", "coat",
    "ticket", "bottle", "book", "map", "clock", "phone", "laptop", "camera", "radio", "guitar",
    "drum", "tent", "rope", "cake", "pizza", "sandwich", "violin", "helmet", "blanket",
)  # fmt: skip
"""Those that one says with an article: what does a pen cost?"""

THINGS: Final = (
    "milk", "bread", "coffee", "tea", "butter", "cheese", "honey", "rice", "sugar", "salt", "soap",
    "paper", "ink", "apples", "pears", "plums", "cherries", "eggs", "nuts", "carrots", "onions",
    "potatoes", "flowers", "candles", "shoes", "gloves", "socks", "wool", "glue", "tape", "paint",
    "chocolate", "oranges", "bananas", "grapes", "lemons", "soup", *SINGLE_THINGS[:-3],
)  # fmt: skip
HELD_OUT_THINGS: Final = ("tomatoes", "pepper", "melons", *SINGLE_THINGS[-3:])
WEEKDAYS: Final = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
)  # fmt: skip
MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
SKIES: Final = (
    "sunny", "cloudy", "rainy", "windy", "foggy", "snowy", "clear", "stormy", "overcast", "dry",
)  # fmt: skip
ROOMS: Final = (
    "kitchen", "bedroom", "bathroom", "hall", "garage", "office", "garden", "attic", "cellar",
    "living room", "nursery", "library",
)  # fmt: skip
COLORS: Final = ("red", "green", "blue", "yellow", "white", "black", "brown", "orange", "purple")
TITLES: Final = ("The {} {}", "{} {}", "A {} {}", "The {} of {}")
ONSETS: Final = (
    "b", "br", "c", "cl", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "pr",
    "qu", "r", "s", "sh", "st", "t", "th", "tr", "v", "w", "y", "z", "",
)  # fmt: skip
VOWELS: Final = ("a", "e", "i", "o", "u", "a", "e", "i", "o", "ai", "ea", "ou", "ie")
CODAS: Final = ("", "", "n", "r", "l", "s", "m", "t", "ck", "nd", "x", "rn", "st", "b", "g", "p")


def invent(rng: random.Random) -> str:
    """A word that no language has, in small letters: two or three syllables."""
    count = rng.choice((2, 2, 2, 3))
    parts = [rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(count)]
    return "".join(parts) + rng.choice(CODAS)


def draw(rng: random.Random, slot: str, *, held_out: bool = False) -> str | int | float:
    """A value for a slot; of those that training never sees, if the slot has such values."""
    if held_out and slot in HELD_OUT:
        return rng.choice(HELD_OUT[slot])
    return DRAWS[slot](rng)


def with_article(thing: object) -> str:
    """The thing as it stands in a sentence."""
    return f"a {thing}" if thing in SINGLE_THINGS else str(thing)


def _number(low: int, high: int) -> Callable[[random.Random], int]:
    """Numbers of few digits are as likely as those of many."""

    def drawn(rng: random.Random) -> int:
        top = high if rng.random() < 0.5 else max(low + 1, high // 10)
        return rng.randint(low, top)

    return drawn


def _one_of(values: tuple[str, ...], invented: float = 0.0) -> Callable[[random.Random], str]:
    """One of these, or, with that probability, an invented name."""

    def drawn(rng: random.Random) -> str:
        return invent(rng).capitalize() if rng.random() < invented else rng.choice(values)

    return drawn


def _degrees(rng: random.Random) -> int | float:
    return rng.randint(-15, 40) if rng.random() < 0.85 else rng.randint(-150, 400) / 10


def _price(rng: random.Random) -> int | float:
    return rng.randint(1, 99) if rng.random() < 0.5 else rng.randint(50, 9999) / 100


def _time(rng: random.Random) -> str:
    return f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"


def _phone(rng: random.Random) -> str:
    return f"{rng.randint(100, 999)}-{rng.randint(1000, 9999)}"


def _date(rng: random.Random) -> str:
    return f"{rng.choice(MONTHS)} {rng.randint(1, 31)}"


def _title(rng: random.Random) -> str:
    return rng.choice(TITLES).format(invent(rng).capitalize(), invent(rng).capitalize())


_city = _one_of(CITIES, invented=0.45)
_person = _one_of(PEOPLE, invented=0.45)
DRAWS: Final[dict[str, Callable[[random.Random], str | int | float]]] = {
    "city": _city, "start": _city, "end": _city, "country": _one_of((), invented=1.0),
    "person": _person, "other": _person, "thing": _one_of(THINGS), "day": _one_of(WEEKDAYS),
    "sky": _one_of(SKIES), "room": _one_of(ROOMS), "color": _one_of(COLORS), "title": _title,
    "degrees": _degrees, "price": _price, "time": _time, "phone": _phone, "date": _date,
    "count": _number(2, 999), "age": _number(2, 99), "minutes": _number(1, 90),
    "first": _number(1, 99), "second": _number(1, 99), "people": _number(1000, 9999999),
    "distance": _number(10, 9999), "sides": _number(4, 100), "percent": _number(1, 100),
}  # fmt: skip
HELD_OUT: Final[dict[str, tuple[str, ...]]] = {
    "city": HELD_OUT_CITIES, "start": HELD_OUT_CITIES[:5], "end": HELD_OUT_CITIES[5:],
    "person": HELD_OUT_PEOPLE, "thing": HELD_OUT_THINGS,
}  # fmt: skip
