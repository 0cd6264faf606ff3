"""The embedded pack's classes of pictures and sounds, and the captions that name them.

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
    """A class of pictures or of sounds.

    Attributes:
        keywords: regular expressions, matched at word boundaries; any of them names the class.
        phrases: names of the class in captions. The first ones are the paper's (arXiv 2405.12221, Tables 4 and 5).
        share: relative frequency in training, among the classes of its kind.
    """

    keywords: tuple[str, ...]
    phrases: tuple[str, ...]
    share: float = 1.0


def _concept(keywords: str, phrases: str, share: float = 1.0) -> Concept:
    split = tuple(part.strip() for part in phrases.split(";"))
    return Concept(keywords=tuple(keywords.split()), phrases=split, share=share)


MAIN = 2.0  # share of each class of Table 5's seven pairs, which make up about two thirds of the training data

VISUAL: dict[str, Concept] = {
    "castle": _concept(
        r"castles? towers? fortress(es)? palaces?",
        "castle towers; castles; castle with bell towers; a castle; a medieval castle; an old castle; a tower",
        MAIN,
    ),
    "tiger": _concept(r"tigers?", "tigers; a tiger; wild tigers; a tiger's face; the face of a tiger", MAIN),
    "train": _concept(
        r"trains? locomotives? railways? railroads?",
        "trains; a train; steam trains; a steam locomotive; locomotives; an old train on a railway",
        MAIN,
    ),
    "kitten": _concept(
        r"kittens? cats? kitty kitties",
        "furry kittens; kittens; a kitten; cats; a cat; cute kittens; a furry cat; the face of a cat",
        MAIN,
    ),
    "dog": _concept(
        r"dogs? corgis? pupp(y|ies) hounds?",
        "cute dogs; dogs; corgis; a dog; a puppy; puppies; a corgi; cute corgis; the face of a dog",
        MAIN,
    ),
    "racing": _concept(
        r"racing race(cars?)? cars? automobiles?",
        "auto racing game; an auto racing game; racing cars; a race car; cars; a car",
        MAIN,
    ),
    "mountain": _concept(r"mountains? hills? peaks?", "mountains; a mountain; snowy mountains; high peaks; hills"),
    "garden": _concept(
        r"gardens? flowers? sunflowers? tulips? birds?",
        "a garden; a blooming garden with many birds; a blooming garden; flowers; tulips; sunflowers; "
        "a garden with birds; a flower; birds",
        MAIN,
    ),
    "forest": _concept(r"forests? trees? woods?", "a forest; forests; trees; a dark forest; a tree; the woods"),
    "farm": _concept(r"farms? cows? tractors? farmhouses?", "a farm; farms; cows; a tractor; a farm with cows; a cow"),
    "beach": _concept(
        r"beach(es)? palms? umbrellas? seaside",
        "a beach; beaches; palm trees; a beach with umbrellas; the seaside",
    ),
    "horse": _concept(
        r"horses? pon(y|ies) stallions?",
        "horse heads; horses; a horse; wild horses; a horse's head; the head of a horse; a pony",
    ),
    "pond": _concept(
        r"ponds? lil(y|ies) lotus(es)?",
        "a pond full of water lilies; water lilies; a pond; a water lily; a pond with lilies; a lotus",
    ),
}

AUDIO: dict[str, Concept] = {
    "bell": _concept(
        r"bells?",
        "bell ringing; church bell ringing; church bells ringing; a bell; the sound of bells; bells; a bell tolls",
        MAIN,
    ),
    "bark": _concept(
        r"bark(s|ing)? woof(s|ing)?",
        "dog barking; dogs barking; a dog barks; barking; a dog is barking; a puppy barking; loud barking",
        MAIN,
    ),
    "meow": _concept(
        r"meow(s|ing)? mew(s|ing)? purr(s|ing)?",
        "a kitten meowing for attention; cat meowing; a cat meows; meowing; a kitten meowing; cats meowing",
        MAIN,
    ),
    "chirp": _concept(
        r"chirp(s|ing)? tweet(s|ing)? birds?",
        "birds singing sweetly; bird chirping, tweeting; birds chirping; birdsong, chirping; a bird singing; "
        "birds tweeting",
        MAIN,
    ),
    "growl": _concept(
        r"growl(s|ing)? roar(s|ing)? snarl(s|ing)?",
        "tiger growling; a tiger growls; growling; a tiger roaring; tigers growling; a lion roaring; a low growl",
        MAIN,
    ),
    "car": _concept(
        r"cars? engines? auto",
        "a race car passing by and disappearing; race car, auto racing; a car passing by; race cars passing; "
        "an engine roars past; engine of a race car",
        MAIN,
    ),
    "whistle": _concept(
        r"whistl(e|es|ing)",
        "train whistling; a train whistle; a steam train whistling; whistling; the whistle of a train; "
        "a locomotive whistles",
        MAIN,
    ),
    "fireworks": _concept(
        r"fireworks? explosions? bang(s|ing)?",
        "fireworks banging; fireworks; fireworks exploding; loud explosions",
    ),
    "cheering": _concept(
        r"cheer(s|ing)? crowds? applau(se|ding)",
        "people cheering; a crowd cheering; cheering; the crowd cheers; a cheering crowd; applause",
    ),
    "guitar": _concept(
        r"guitars? strum(s|ming)?",
        "playing acoustic guitar; acoustic guitar; a guitar; someone strumming a guitar; guitar music",
    ),
    "neigh": _concept(
        r"neigh(s|ing)? whinn(y|ies|ying)",
        "horse neighing; a horse neighs; neighing; horses neighing; a horse whinnying; a neighing horse",
    ),
    "frog": _concept(
        r"frogs? croak(s|ing)? toads?",
        "frog croaking; frogs croaking; a frog croaks; croaking; frogs at a pond",
    ),
}

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
    """Return the classes that a prompt names, in the order of `CONCEPTS`."""
    words = prompt.lower()
    return [
        name
        for name, concept in CONCEPTS[kind].items()
        if any(re.search(rf"\b{keyword}\b", words) for keyword in concept.keywords)
    ]


def words(kind: Kind) -> list[str]:
    """List the plain words that match a keyword of any class, for `known_words.json` beside a UNet."""
    stems = [re.split(r"[^a-z]", keyword)[0] for concept in CONCEPTS[kind].values() for keyword in concept.keywords]
    ends = ("", "s", "es", "e", "y", "ies", "ing", "car", "cars", "se", "ding")
    candidates = {stem[: len(stem) - cut] + end for stem in stems for cut in (0, 1) for end in ends}
    return sorted(word for word in candidates if classes(kind, word))
