"""Kinds of tools: how they are called, what is asked of them, what they find and what one says.

Words in braces are the slots that `names.draw` fills; `a_thing` is a thing with its article. The
keys of `parameters` are slots, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LOOK_UP: Final = (
    "get", "get", "get", "fetch", "find", "look_up", "check", "read", "show", "query", "search",
)  # fmt: skip
HELD_OUT_LOOK_UP: Final = ("retrieve", "obtain", "ask")
DO: Final = ("set", "start", "make", "create", "add")
CITY: Final = ("city", "city", "location", "place", "town", "where", "city_name")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a tool returns, as JSON or as text, and the sentence that tells it."""

    result: dict[str, str | bool] | str
    answer: str


@dataclass(frozen=True, slots=True)
class Kind:
    """Tools that do the same under different names."""

    nouns: tuple[str, ...]
    describes: tuple[str, ...]
    parameters: dict[str, tuple[str, ...]]
    questions: tuple[str, ...]
    findings: tuple[Finding, ...]
    pairs: tuple[str, ...] = ()
    verbs: tuple[str, ...] = LOOK_UP
    held_out_nouns: tuple[str, ...] = ()


KINDS: Final = (
    Kind(
        nouns=("weather", "weather", "current_weather", "weather_report", "temperature"),
        describes=("Get the weather in a city.", "Current weather", "The weather at a place.",
                   "Get current temperature for a given location."),
        parameters={"city": CITY},
        questions=("What is the weather in {city}?", "What is the weather like in {city}?",
                   "What's the weather in {city}?", "What is the weather like in {city} today?",
                   "How is the weather in {city}?", "How warm is it in {city}?",
                   "How cold is it in {city}?", "Tell me the weather in {city}.",
                   "What is the temperature in {city}?", "Weather in {city}?",
                   "What is the weather in {city} now?", "Is it warm in {city}?",
                   "Check the weather in {city}."),
        findings=(
            Finding({"degrees": "{degrees}", "sky": "{sky}"},
                    "It is {degrees} degrees and {sky} in {city}."),
            Finding({"temperature": "{degrees}", "condition": "{sky}"},
                    "It is {degrees} degrees and {sky} in {city}."),
            Finding({"sky": "{sky}", "temp": "{degrees}"},
                    "It is {degrees} degrees and {sky} in {city}."),
            Finding({"city": "{city}", "temperature": "{degrees}", "weather": "{sky}"},
                    "It is {degrees} degrees and {sky} in {city}."),
            Finding({"temperature": "{degrees}", "unit": "celsius"},
                    "It is {degrees} degrees in {city}."),
            Finding({"temperature": "{degrees}"}, "It is {degrees} degrees in {city}."),
            Finding("{degrees} degrees and {sky}", "It is {degrees} degrees and {sky} in {city}."),
            Finding("{sky}, {degrees} degrees", "It is {degrees} degrees and {sky} in {city}."),
            Finding("{degrees} degrees", "It is {degrees} degrees in {city}."),
            Finding("{sky}", "It is {sky} in {city}."),
            Finding("{degrees}", "It is {degrees} degrees in {city}."),
        ),
        pairs=("What is the weather in {one} and in {two}?", "How warm is it in {one} and {two}?",
               "What is the weather in {one} and {two}?",
               "Compare the weather in {one} and {two}."),
        held_out_nouns=("forecast", "climate"),
    ),
    Kind(
        nouns=("time", "current_time", "local_time", "clock", "time_in_city"),
        describes=("Get the time in a city.", "Current local time", "What the clock says there."),
        parameters={"city": CITY},
        questions=("What time is it in {city}?", "What is the time in {city}?",
                   "Tell me the time in {city}.", "What is the local time in {city}?",
                   "What time is it now in {city}?", "How late is it in {city}?"),
        findings=(
            Finding({"time": "{time}"}, "It is {time} in {city}."),
            Finding({"local_time": "{time}", "day": "{day}"}, "It is {time} on {day} in {city}."),
            Finding({"city": "{city}", "time": "{time}"}, "It is {time} in {city}."),
            Finding("{time}", "It is {time} in {city}."),
        ),
        pairs=("What time is it in {one} and in {two}?", "What is the time in {one} and {two}?"),
        held_out_nouns=("hour",),
    ),
    Kind(
        nouns=("price", "price_of", "cost", "item_price"),
        describes=("Get the price of a thing.", "What a product costs.", "Look a price up."),
        parameters={"thing": ("item", "product", "thing", "article", "name")},
        questions=("What is the price of {a_thing}?", "How much is {a_thing}?",
                   "What does {a_thing} cost?", "How much does {a_thing} cost?",
                   "Tell me the price of {a_thing}."),
        findings=(
            Finding({"price": "{price}"}, "The price of {a_thing} is {price}."),
            Finding({"price": "{price}", "currency": "EUR"},
                    "The price of {a_thing} is {price} EUR."),
            Finding({"price": "{price}", "currency": "USD"},
                    "The price of {a_thing} is {price} USD."),
            Finding("{price}", "The price of {a_thing} is {price}."),
            Finding("{price} euros", "The price of {a_thing} is {price} euros."),
            Finding("{price} dollars", "The price of {a_thing} is {price} dollars."),
        ),
        pairs=("What is the price of {one} and of {two}?",
               "How much is {one} and how much is {two}?"),
        held_out_nouns=("quote",),
    ),
    Kind(
        nouns=("stock", "inventory", "stock_count", "supply"),
        describes=("How many of a thing are in stock.", "Count what is in the store."),
        parameters={"thing": ("item", "product", "thing", "article", "name")},
        questions=("Is there {a_thing} in stock?", "Do you have {a_thing} in stock?",
                   "Is there {a_thing} in the store?", "Check the stock of {thing}."),
        findings=(
            Finding({"in_stock": "{count}"}, "The stock of {thing} is {count}."),
            Finding({"count": "{count}"}, "The stock of {thing} is {count}."),
            Finding("{count}", "The stock of {thing} is {count}."),
        ),
        held_out_nouns=("warehouse",),
    ),
    Kind(
        nouns=("population", "inhabitants", "number_of_people", "city_population"),
        describes=("How many people live in a city.", "Population of a place"),
        parameters={"city": CITY},
        questions=("How many people live in {city}?", "What is the population of {city}?",
                   "Tell me the population of {city}."),
        findings=(
            Finding({"population": "{people}"}, "{people} people live in {city}."),
            Finding({"people": "{people}"}, "{people} people live in {city}."),
            Finding("{people}", "{people} people live in {city}."),
        ),
        pairs=("How many people live in {one} and in {two}?",),
        held_out_nouns=("census",),
    ),
    Kind(
        nouns=("distance", "route_length", "how_far", "distance_between"),
        describes=("Get the distance between two cities.", "How far one city is from another."),
        parameters={"start": ("start", "origin", "from", "from_city"),
                    "end": ("end", "destination", "to", "to_city")},
        questions=("How far is it from {start} to {end}?",
                   "What is the distance from {start} to {end}?",
                   "How far is {end} from {start}?", "How long is the way from {start} to {end}?"),
        findings=(
            Finding({"kilometers": "{distance}"},
                    "It is {distance} kilometers from {start} to {end}."),
            Finding({"km": "{distance}"}, "It is {distance} km from {start} to {end}."),
            Finding({"miles": "{distance}"}, "It is {distance} miles from {start} to {end}."),
            Finding("{distance} km", "It is {distance} km from {start} to {end}."),
        ),
        held_out_nouns=("mileage",),
    ),
    Kind(
        nouns=("train", "next_train", "departure", "train_times"),
        describes=("Find the next train.", "When the next train leaves."),
        parameters={"start": ("start", "origin", "from", "from_station"),
                    "end": ("end", "destination", "to", "to_station")},
        questions=("When is the next train from {start} to {end}?",
                   "When does a train go from {start} to {end}?",
                   "Find a train from {start} to {end}.", "I need a train from {start} to {end}."),
        findings=(
            Finding({"departure": "{time}"}, "The next train to {end} leaves at {time}."),
            Finding({"leaves": "{time}", "platform": "{sides}"},
                    "The next train to {end} leaves at {time} from platform {sides}."),
            Finding("{time}", "The next train to {end} leaves at {time}."),
        ),
        held_out_nouns=("railway",),
    ),
    Kind(
        nouns=("phone", "phone_number", "contact", "number"),
        describes=("Get the phone number of a person.", "Look a contact up."),
        parameters={"person": ("name", "person", "who", "contact")},
        questions=("What is the phone number of {person}?", "What is {person}'s phone number?",
                   "How can I call {person}?", "Give me the number of {person}."),
        findings=(
            Finding({"phone": "{phone}"}, "The number of {person} is {phone}."),
            Finding({"name": "{person}", "number": "{phone}"},
                    "The number of {person} is {phone}."),
            Finding("{phone}", "The number of {person} is {phone}."),
        ),
        pairs=("What are the phone numbers of {one} and {two}?",),
        held_out_nouns=("directory",),
    ),
    Kind(
        nouns=("birthday", "birth_date", "date_of_birth"),
        describes=("Get the birthday of a person.", "When somebody was born."),
        parameters={"person": ("name", "person", "who", "friend")},
        questions=("When is {person}'s birthday?", "When is the birthday of {person}?",
                   "When was {person} born?"),
        findings=(
            Finding({"birthday": "{date}"}, "The birthday of {person} is {date}."),
            Finding({"date": "{date}"}, "The birthday of {person} is {date}."),
            Finding("{date}", "The birthday of {person} is {date}."),
        ),
        pairs=("When are the birthdays of {one} and {two}?",),
        held_out_nouns=("anniversary",),
    ),
    Kind(
        nouns=("calendar", "events", "appointments", "agenda"),
        describes=("Read the calendar of a day.", "What is planned on a day."),
        parameters={"day": ("day", "weekday", "date", "when")},
        questions=("What is on my calendar on {day}?", "What do I have to do on {day}?",
                   "Do I have a meeting on {day}?", "What is planned for {day}?"),
        findings=(
            Finding({"event": "meeting with {person}", "time": "{time}"},
                    "On {day} at {time} you have a meeting with {person}."),
            Finding({"time": "{time}", "event": "lunch with {person}"},
                    "On {day} at {time} you have lunch with {person}."),
            Finding("{time} meeting with {person}",
                    "On {day} at {time} you have a meeting with {person}."),
            Finding("nothing", "You have nothing planned on {day}."),
        ),
        held_out_nouns=("schedule",),
    ),
    Kind(
        nouns=("author", "writer", "book", "who_wrote"),
        describes=("Find who wrote a book.", "The author of a book."),
        parameters={"title": ("title", "book", "name")},
        questions=("Who wrote {title}?", "Who is the author of {title}?",
                   "Tell me who wrote {title}."),
        findings=(
            Finding({"author": "{person}"}, "{title} was written by {person}."),
            Finding({"title": "{title}", "author": "{person}"}, "{title} was written by {person}."),
            Finding("{person}", "{title} was written by {person}."),
        ),
        held_out_nouns=("novelist",),
    ),
    Kind(
        nouns=("timer", "alarm", "countdown"),
        describes=("Set a timer.", "Start a timer of some minutes."),
        parameters={"minutes": ("minutes", "duration", "length", "minutes")},
        questions=("Set a timer for {minutes} minutes.", "Start a timer of {minutes} minutes.",
                   "Wake me in {minutes} minutes.", "Please set a timer for {minutes} minutes."),
        findings=(
            Finding({"status": "ok"}, "The timer is set for {minutes} minutes."),
            Finding({"rings_at": "{time}"}, "The timer is set for {minutes} minutes."),
            Finding("done", "The timer is set for {minutes} minutes."),
        ),
        verbs=DO,
        held_out_nouns=("reminder",),
    ),
    Kind(
        nouns=("light", "lamp", "light_on", "room_light"),
        describes=("Turn the light on in a room.", "Switch a light on."),
        parameters={"room": ("room", "where", "place", "location")},
        questions=("Turn on the light in the {room}.", "Switch on the light in the {room}.",
                   "I need light in the {room}.", "Please turn on the light in the {room}."),
        findings=(
            Finding({"status": "on"}, "The light in the {room} is on."),
            Finding({"ok": True}, "The light in the {room} is on."),
            Finding("done", "The light in the {room} is on."),
        ),
        verbs=("turn_on", "switch", "set", "start"),
        held_out_nouns=("bulb",),
    ),
    Kind(
        nouns=("sum", "numbers", "plus", "add"),
        describes=("Add two numbers.", "The sum of two numbers"),
        parameters={"first": ("a", "first", "x", "left"), "second": ("b", "second", "y", "right")},
        questions=("What is {first} plus {second}?", "Add {first} and {second}.",
                   "How much is {first} plus {second}?",
                   "What is the sum of {first} and {second}?"),
        findings=(
            Finding({"sum": "{count}"}, "{first} plus {second} is {count}."),
            Finding({"result": "{count}"}, "{first} plus {second} is {count}."),
            Finding("{count}", "{first} plus {second} is {count}."),
        ),
        verbs=("add", "compute", "calculate"),
        held_out_nouns=("addition",),
    ),
    Kind(
        nouns=("dice", "die", "random_number"),
        describes=("Roll a die.", "Roll a die with so many sides."),
        parameters={"sides": ("sides", "max", "faces")},
        questions=("Roll a die with {sides} sides.", "Throw a die with {sides} sides.",
                   "Please roll a die with {sides} sides."),
        findings=(
            Finding({"roll": "{minutes}"}, "You rolled a {minutes}."),
            Finding({"result": "{minutes}"}, "You rolled a {minutes}."),
            Finding("{minutes}", "You rolled a {minutes}."),
        ),
        verbs=("roll", "throw"),
        held_out_nouns=("cube",),
    ),
)  # fmt: skip
