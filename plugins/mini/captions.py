"""Classes of pictures and sounds of the embedded pack, and their captions.

A prompt belongs to a class if it contains one of the class's keywords. The pack's text encoder is trained to ignore the
rest of a prompt ("a painting of", "lithograph style").
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["visual", "audio"]


@dataclass(frozen=True, kw_only=True)
class Concept:
    """Class of pictures or sounds.

    Attributes:
        keywords: regular expressions, matched at word boundaries; a prompt that matches any of them has this class.
        phrases: names of the class in captions. The first ones are the paper's (arXiv 2405.12221, Tables 4 and 5).
        share: relative frequency in training, among the classes of its kind.
    """

    keywords: tuple[str, ...]
    phrases: tuple[str, ...]
    share: float = 1.0


MAIN = {"castle", "tiger", "train", "kitten", "dog", "racing", "garden"}
MAIN |= {"bell", "bark", "meow", "chirp", "growl", "car", "whistle"}
"""The classes of Table 5's seven pairs, which make up about two thirds of the training data."""


def _concepts(classes: dict[str, tuple[str, str]]) -> dict[str, Concept]:
    return {
        name: Concept(
            keywords=tuple(keywords.split()),
            phrases=tuple(part.strip() for part in phrases.split(";")),
            share=2.0 if name in MAIN else 1.0,
        )
        for name, (keywords, phrases) in classes.items()
    }


VISUAL = _concepts(
    {
        "castle": (
            r"castles? towers? fortress(es)? palaces?",
            "castle towers; castles; castle with bell towers; a castle; a medieval castle; an old castle; a tower",
        ),
        "tiger": (r"tigers?", "tigers; a tiger; wild tigers; a tiger's face; the face of a tiger"),
        "train": (
            r"trains? locomotives? railways? railroads?",
            "trains; a train; steam trains; a steam locomotive; locomotives; an old train on a railway",
        ),
        "kitten": (
            r"kittens? cats? kitty kitties",
            "furry kittens; kittens; a kitten; cats; a cat; cute kittens; a furry cat; the face of a cat",
        ),
        "dog": (
            r"dogs? corgis? pupp(y|ies) hounds?",
            "cute dogs; dogs; corgis; a dog; a puppy; puppies; a corgi; cute corgis; the face of a dog",
        ),
        "racing": (
            r"racing race(cars?)? cars? automobiles?",
            "auto racing game; an auto racing game; racing cars; a race car; cars; a car",
        ),
        "mountain": (r"mountains? hills? peaks?", "mountains; a mountain; snowy mountains; high peaks; hills"),
        "garden": (
            r"gardens? flowers? sunflowers? tulips? birds?",
            "a garden; a blooming garden with many birds; a blooming garden; flowers; tulips; sunflowers; "
            "a garden with birds; a flower; birds",
        ),
        "forest": (r"forests? trees? woods?", "a forest; forests; trees; a dark forest; a tree; the woods"),
        "farm": (r"farms? cows? tractors? farmhouses?", "a farm; farms; cows; a tractor; a farm with cows; a cow"),
        "beach": (
            r"beach(es)? palms? umbrellas? seaside",
            "a beach; beaches; palm trees; a beach with umbrellas; the seaside",
        ),
        "horse": (
            r"horses? pon(y|ies) stallions?",
            "horse heads; horses; a horse; wild horses; a horse's head; the head of a horse; a pony",
        ),
        "pond": (
            r"ponds? lil(y|ies) lotus(es)?",
            "a pond full of water lilies; water lilies; a pond; a water lily; a pond with lilies; a lotus",
        ),
    }
)

AUDIO = _concepts(
    {
        "bell": (
            r"bells?",
            "bell ringing; church bell ringing; church bells ringing; a bell; the sound of bells; bells; a bell tolls",
        ),
        "bark": (
            r"bark(s|ing)? woof(s|ing)?",
            "dog barking; dogs barking; a dog barks; barking; a dog is barking; a puppy barking; loud barking",
        ),
        "meow": (
            r"meow(s|ing)? mew(s|ing)? purr(s|ing)?",
            "a kitten meowing for attention; cat meowing; a cat meows; meowing; a kitten meowing; cats meowing",
        ),
        "chirp": (
            r"chirp(s|ing)? tweet(s|ing)? birds?",
            "birds singing sweetly; bird chirping, tweeting; birds chirping; birdsong, chirping; a bird singing; "
            "birds tweeting",
        ),
        "growl": (
            r"growl(s|ing)? roar(s|ing)? snarl(s|ing)?",
            "tiger growling; a tiger growls; growling; a tiger roaring; tigers growling; a lion roaring; a low growl",
        ),
        "car": (
            r"cars? engines? auto",
            "a race car passing by and disappearing; race car, auto racing; a car passing by; race cars passing; "
            "an engine roars past; engine of a race car",
        ),
        "whistle": (
            r"whistl(e|es|ing)",
            "train whistling; a train whistle; a steam train whistling; whistling; the whistle of a train; "
            "a locomotive whistles",
        ),
        "fireworks": (
            r"fireworks? explosions? bang(s|ing)?",
            "fireworks banging; fireworks; fireworks exploding; loud explosions",
        ),
        "cheering": (
            r"cheer(s|ing)? crowds? applau(se|ding)",
            "people cheering; a crowd cheering; cheering; the crowd cheers; a cheering crowd; applause",
        ),
        "guitar": (
            r"guitars? strum(s|ming)?",
            "playing acoustic guitar; acoustic guitar; a guitar; someone strumming a guitar; guitar music",
        ),
        "neigh": (
            r"neigh(s|ing)? whinn(y|ies|ying)",
            "horse neighing; a horse neighs; neighing; horses neighing; a horse whinnying; a neighing horse",
        ),
        "frog": (
            r"frogs? croak(s|ing)? toads?",
            "frog croaking; frogs croaking; a frog croaks; croaking; frogs at a pond",
        ),
    }
)

CONCEPTS: dict[Kind, dict[str, Concept]] = {"visual": VISUAL, "audio": AUDIO}

_TEMPLATES: dict[Kind, tuple[str, ...]] = {
    "visual": (
        "a painting of {}, grayscale",
        "a painting of {}, grayscale",
        "{}, grayscale, lithograph style",
        "a painting of {}, grayscale, black background",
        "{}, grayscale, black background",
        "a painting of {}",
        "a colorful photo of {}",
        "a drawing of {}, grayscale",
        "a photo of {}",
        "{}, grayscale",
        "an image of {}",
        "{}",
    ),
    "audio": (
        "{}",
        "{}",
        "{}",
        "the sound of {}",
        "a recording of {}",
        "{}, high quality",
        "{} in the distance",
        "{} outdoors",
        "we hear {}",
    ),
}


def caption(kind: Kind, name: str, rng: random.Random) -> str:
    """Draw a random caption of class `name`: a phrase in a template."""
    return rng.choice(_TEMPLATES[kind]).format(rng.choice(CONCEPTS[kind][name].phrases))


def captions(kind: Kind, name: str) -> list[str]:
    """Return all distinct captions of class `name`, in a fixed order."""
    phrases = CONCEPTS[kind][name].phrases
    return list(dict.fromkeys(template.format(p) for template in _TEMPLATES[kind] for p in phrases))


def classes(kind: Kind, prompt: str) -> list[str]:
    """Return the classes of a prompt, in the order of `CONCEPTS`."""
    text = prompt.lower()
    return [
        name
        for name, concept in CONCEPTS[kind].items()
        if any(re.search(rf"\b{keyword}\b", text) for keyword in concept.keywords)
    ]


def words(kind: Kind) -> list[str]:
    """List the plain words that match a keyword of any class, for `known_words.json` beside a UNet."""
    stems = [re.split(r"[^a-z]", keyword)[0] for concept in CONCEPTS[kind].values() for keyword in concept.keywords]
    ends = ("", "s", "es", "e", "y", "ies", "ing", "car", "cars", "se", "ding")
    candidates = {stem[: len(stem) - cut] + end for stem in stems for cut in (0, 1) for end in ends}
    return sorted(word for word in candidates if classes(kind, word))
