"""The words that stories are filled with: who, where, what."""

from __future__ import annotations

from typing import Final

ANIMALS: Final = (
    "fox", "rabbit", "bear", "mouse", "owl", "turtle", "squirrel", "hedgehog", "duck", "frog",
    "cat", "dog", "badger", "deer", "sparrow", "otter", "goat", "lamb", "pony", "beaver",
)  # fmt: skip
CHILDREN: Final = (
    ("Lily", "she"), ("Tom", "he"), ("Anna", "she"), ("Max", "he"), ("Mia", "she"),
    ("Ben", "he"), ("Sara", "she"), ("Leo", "he"), ("Emma", "she"), ("Sam", "he"),
    ("Nora", "she"), ("Jack", "he"), ("Ruby", "she"), ("Finn", "he"), ("Clara", "she"),
)  # fmt: skip
ANIMAL_NAMES: Final = (
    ("Pip", "he"), ("Rosie", "she"), ("Bruno", "he"), ("Hazel", "she"), ("Olli", "he"),
    ("Tilly", "she"), ("Rusty", "he"), ("Poppy", "she"), ("Milo", "he"), ("Daisy", "she"),
    ("Toby", "he"), ("Luna", "she"), ("Oscar", "he"), ("Willow", "she"), ("Felix", "he"),
)  # fmt: skip
TRAITS: Final = (
    "little", "little", "small", "young", "kind", "curious", "brave", "shy", "clever", "gentle",
    "cheerful", "quiet",
)  # fmt: skip
HOMES: Final = (
    "a quiet forest", "a green valley", "a small village", "an old wooden house",
    "a cosy cottage", "a farm on a hill", "a town by the sea", "a meadow full of flowers",
)  # fmt: skip
PLACES: Final = (
    "the river", "the old bridge", "the big oak tree", "the garden", "the hill", "the lake",
    "the edge of the forest", "the market", "the old mill", "the beach", "the pond", "the well",
)  # fmt: skip
TREASURES: Final = (
    "red ball", "blue kite", "silver bell", "golden key", "wooden boat", "green scarf",
    "shiny stone", "yellow hat", "little lantern", "warm blanket", "tin whistle", "paper star",
)  # fmt: skip
FOODS: Final = ("apples", "berries", "nuts", "pears", "plums", "cherries", "mushrooms", "carrots")
SKILLS: Final = (
    "swim", "sing", "ride a bicycle", "climb trees", "fly a kite", "paint", "bake bread", "dance",
    "read", "whistle",
)  # fmt: skip
BUILDINGS: Final = (
    "a small boat", "a tree house", "a bridge of stones", "a tall tower", "a swing", "a snug hut",
)  # fmt: skip
WEATHERS: Final = ("sunny", "cold", "windy", "cloudy", "bright", "misty", "warm")
