"""Short English stories, drawn from plots whose every sentence has several wordings."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
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
TRAITS: Final = ("little", "small", "young", "kind", "curious", "brave", "shy", "clever", "gentle")
HOMES: Final = (
    "a quiet forest", "a green valley", "a small village", "an old wooden house",
    "a cosy cottage", "a farm on a hill", "a town by the sea", "a meadow full of flowers",
)  # fmt: skip
PLACES: Final = (
    "the river", "the old bridge", "the big oak tree", "the garden", "the hill", "the lake",
    "the edge of the forest", "the market", "the old mill", "the beach",
)  # fmt: skip
TREASURES: Final = (
    "red ball", "blue kite", "silver bell", "golden key", "wooden boat", "green scarf",
    "shiny stone", "yellow hat", "little lantern", "warm blanket",
)  # fmt: skip
FOODS: Final = ("apples", "berries", "nuts", "pears", "honey cakes", "carrots", "warm bread")
SKILLS: Final = (
    "swim", "sing", "ride a bicycle", "climb trees", "fly a kite", "paint", "bake bread", "dance",
)  # fmt: skip
BUILDINGS: Final = ("a small boat", "a tree house", "a bridge of stones", "a tall tower",
                    "a warm nest", "a swing")  # fmt: skip
WEATHERS: Final = ("sunny", "cold", "windy", "rainy", "bright", "misty", "warm")
MORALS: Final = (
    "A good friend is the best treasure of all.",
    "It is always good to help each other.",
    "Being kind makes everyone happy.",
    "With a little patience you can learn almost anything.",
    "Sharing makes everything taste better.",
    "Even the smallest one can do something big.",
    "It is brave to try again.",
)
ENDINGS: Final = (
    "From that day on, {name} and {friend} were the best of friends.",
    "That night {name} fell asleep with a smile.",
    "And they all lived happily ever after.",
    "{name} went home happy and told everyone about the day.",
    "They laughed and played until the sun went down.",
    "{name} never forgot that day.",
)

Line = tuple[str, ...]
"""The wordings of one sentence."""

OPENINGS: Final[Line] = (
    "Once upon a time there was a {trait} {kind} named {name}.",
    "Once upon a time, in {home}, there lived a {trait} {kind} named {name}.",
    "In {home} there lived a {trait} {kind} called {name}.",
    "There was once a {trait} {kind} whose name was {name}.",
    "{name} was a {trait} {kind} who lived in {home}.",
    "Long ago, a {trait} {kind} named {name} lived in {home}.",
    "The {trait} {kind} lived in {home}. Everyone called {him} {name}.",
)
MORNINGS: Final[Line] = (
    "One {weather} morning, {name} went to {place}.",
    "One {weather} day, {name} walked to {place}.",
    "On a {weather} morning {name} woke up early and ran to {place}.",
    "It was a {weather} day, and {name} wanted to play near {place}.",
)
PLOTS: Final[tuple[tuple[Line, ...], ...]] = (
    (  # lost and found
        ("{He} had a {treasure} that {he} loved very much.",
         "{His} favourite thing in the world was a {treasure}.",
         "{Name} always carried a {treasure}."),
        MORNINGS,
        ("But when {he} looked, the {treasure} was gone!",
         "Suddenly {he} saw that the {treasure} was not there any more.",
         "There {he} lost the {treasure} in the long grass."),
        ("{Name} was very sad and began to cry.",
         "{He} looked everywhere, but could not find it.",
         "{He} searched under every leaf and behind every stone."),
        ("Then a {fkind} named {friend} came by and asked, \"Why are you sad?\"",
         "A {fkind} named {friend} heard {him} and asked, \"What is the matter?\""),
        ("\"I have lost my {treasure},\" said {name}.",
         "{Name} said, \"My {treasure} is gone, and I do not know where it is.\""),
        ("\"Do not worry, we will look for it together,\" said {friend}.",
         "\"I will help you,\" said {friend} with a smile."),
        ("They looked near {place2}, and there it was!",
         "After a while they found the {treasure} near {place2}.",
         "At last {friend} saw something under a bush. It was the {treasure}!"),
        ("{Name} was so happy that {he} danced around.",
         "\"Thank you, {friend}!\" said {name}, and gave {fhim} a big hug."),
    ),
    (  # learning
        ("{Name} wanted to learn how to {skill}.",
         "More than anything, {name} wished to {skill}.",
         "All {his} friends could {skill}, but {name} could not."),
        MORNINGS,
        ("{He} tried and tried, but it was too hard.",
         "The first time {he} tried, it did not go well at all.",
         "{He} tried once, and {he} tried twice, and nothing worked."),
        ("\"I will never learn it,\" {he} said and sat down.",
         "{Name} felt tired and wanted to give up."),
        ("An old {fkind} named {friend} had watched {him}.",
         "Then {friend}, a wise {fkind}, sat down beside {him}."),
        ("\"I could not do it at first,\" said {friend}. \"Go slowly and try once more.\"",
         "\"Take your time,\" said {friend}. \"Every day you will get a little better.\""),
        ("So {name} practised every day.",
         "{Name} listened and tried again, a little every day.",
         "So the two of them practised together until the evening."),
        ("After a week, {name} could {skill} very well.",
         "And one morning {he} could do it! {Name} could {skill} at last."),
        ("Everyone clapped and {name} felt very proud.",
         "{Friend} smiled and said, \"I knew that you could do it.\""),
    ),
    (  # sharing
        MORNINGS,
        ("There {he} found a basket full of {food}.",
         "{He} had a big bag of {food} for the winter.",
         "On the way {he} picked many {food}."),
        ("{He} wanted to keep all the {food} for {himself}.",
         "\"These {food} are all mine,\" thought {name}."),
        ("On the way home {he} met a {fkind} named {friend}.",
         "Then {he} saw {friend} the {fkind}, who sat alone under a tree."),
        ("\"I am so hungry,\" said {friend}. \"I have not eaten all day.\"",
         "{Friend} looked at the {food} and said, \"I have nothing to eat today.\""),
        ("{Name} thought about it for a moment.",
         "First {name} did not know what to say."),
        ("Then {he} gave half of the {food} to {friend}.",
         "Then {he} smiled and said, \"Please have some of my {food}.\""),
        ("They sat down together and ate the {food}.",
         "The two of them ate together and told each other stories."),
        ("The {food} had never tasted so good.",
         "\"You are very kind,\" said {friend}. \"Thank you.\""),
    ),
    (  # storm
        MORNINGS,
        ("Suddenly the sky grew dark and it began to rain.",
         "Soon a strong wind came, and big clouds covered the sun.",
         "In the afternoon a storm came over the hills."),
        ("{Name} was afraid and did not know where to go.",
         "{He} ran as fast as {he} could, but home was far away."),
        ("Then {he} heard a small voice that called for help.",
         "Near {place2} {he} heard somebody cry."),
        ("It was {friend}, a {fkind}, who could not find the way home.",
         "A {fkind} named {friend} was stuck in the mud."),
        ("{Name} was still afraid, but {he} wanted to help.",
         "\"Do not be afraid,\" said {name}. \"I am here.\""),
        ("{He} took {friend} by the hand, and they hid in a dry cave.",
         "Together they found a hollow tree where it was dry and warm."),
        ("They waited and sang songs until the rain stopped.",
         "They sat close together and listened to the rain."),
        ("When the sun came out, there was a big rainbow in the sky.",
         "After the storm the air was fresh and a rainbow stood over {place2}."),
    ),
    (  # building
        ("{Name} had a wonderful idea. {He} wanted to build {building}.",
         "One day {name} decided to build {building}."),
        ("{He} took some wood and began to work near {place}.",
         "{He} carried stones and sticks to {place} all morning."),
        ("But the work was too heavy for one.",
         "But every time it was almost ready, it fell down again."),
        ("{Friend} the {fkind} came by and watched.",
         "A {fkind} named {friend} stopped and looked at the work."),
        ("\"May I help you?\" asked {friend}.",
         "\"Two can do more than one,\" said {friend}."),
        ("So {friend} held the wood, and {name} tied the rope.",
         "They worked side by side, and soon it went much better."),
        ("In the evening it was finished.",
         "After three days of work they were done."),
        ("It was {building}, and it was beautiful.",
         "\"Look,\" said {name}, \"we did it together!\""),
    ),
    (  # new friend
        ("{Name} had no one to play with and often felt alone.",
         "{He} was a bit lonely, because {he} did not have many friends."),
        MORNINGS,
        ("There {he} saw a {fkind} who played with a {treasure}.",
         "There {he} met a {fkind} with a {treasure}."),
        ("{Name} wanted to say hello, but {he} was too shy.",
         "{He} hid behind a tree and did not dare to speak."),
        ("Then the {fkind} turned around and said, \"Hello, my name is {friend}. "
         "What is your name?\"",
         "\"Hello,\" said the {fkind}. \"I am {friend}. Do you want to play with me?\""),
        ("\"I am {name},\" {he} said in a quiet voice.",
         "\"My name is {name},\" {he} answered, \"and I would like that very much.\""),
        ("They played with the {treasure} all day long.",
         "The two of them ran and laughed and played near {place2}."),
        ("When it was time to go home, {friend} asked, \"Will you come again tomorrow?\"",
         "In the evening {friend} said, \"Let us meet here again tomorrow.\""),
        ("\"Yes,\" said {name}, \"I will come every day.\"",
         "{Name} nodded, and {his} heart felt light."),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hero:
    """Who a story is about: `kind` is boy, girl or an animal."""

    kind: str
    name: str
    pronoun: str


def draw_hero(rng: random.Random, kind: str | None = None) -> Hero:
    """A child or an animal; of that kind, if one is given."""
    if kind is None and rng.random() < 0.35:
        name, pronoun = rng.choice(CHILDREN)
        return Hero("girl" if pronoun == "she" else "boy", name, pronoun)
    name, pronoun = rng.choice(ANIMAL_NAMES)
    return Hero(kind or rng.choice(ANIMALS), name, pronoun)


def write_story(rng: random.Random, kind: str | None = None) -> str:
    """One story of about ten sentences in two or three paragraphs."""
    hero = draw_hero(rng, kind)
    friend = draw_hero(rng)
    while friend.name == hero.name or friend.kind == hero.kind:
        friend = draw_hero(rng)
    slots = _slots(rng, hero, friend)
    plot = rng.choice(PLOTS)
    lines = [rng.choice(OPENINGS), *(rng.choice(wordings) for wordings in plot)]
    lines.append(rng.choice(ENDINGS))
    if rng.random() < 0.4:
        lines.append(rng.choice(MORALS))
    sentences = [_fill(line, slots) for line in lines]
    middle = len(sentences) // 2 + rng.randint(-1, 1)
    paragraphs = (sentences[:middle], sentences[middle:])
    return "\n\n".join(" ".join(paragraph) for paragraph in paragraphs)


def _slots(rng: random.Random, hero: Hero, friend: Hero) -> dict[str, str]:
    place, place2 = rng.sample(PLACES, 2)
    is_she, friend_is_she = hero.pronoun == "she", friend.pronoun == "she"
    return {
        "kind": hero.kind,
        "name": hero.name,
        "Name": hero.name,
        "he": hero.pronoun,
        "He": hero.pronoun.capitalize(),
        "him": "her" if is_she else "him",
        "his": "her" if is_she else "his",
        "His": "Her" if is_she else "His",
        "himself": "herself" if is_she else "himself",
        "friend": friend.name,
        "Friend": friend.name,
        "fkind": friend.kind,
        "fhim": "her" if friend_is_she else "him",
        "trait": rng.choice(TRAITS),
        "home": rng.choice(HOMES),
        "weather": rng.choice(WEATHERS),
        "place": place,
        "place2": place2,
        "treasure": rng.choice(TREASURES),
        "food": rng.choice(FOODS),
        "skill": rng.choice(SKILLS),
        "building": rng.choice(BUILDINGS),
    }


def _fill(line: str, slots: dict[str, str]) -> str:
    """A wording with its slots filled; `a` becomes `an` where English wants it."""
    text = line.format(**slots)
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
