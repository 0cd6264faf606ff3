import pytest

from its.errors import UserError
from its.methods.color_prompt import color_prompt


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a painting of castle towers, grayscale", "castle towers"),
        ("castle with bell towers, grayscale, lithograph style", "castle with bell towers"),
        ("tigers, grayscale, black background", "tigers"),
        ("a pond full of water lilies, grayscale, lithograph style", "a pond full of water lilies"),
        ("A Painting of corgis, Grayscale, black background", "corgis"),
        ("a black and white photo of a dog", "a dog"),
        ("a colorful photo of kittens with blue eyes, pink noses", "kittens with blue eyes, pink noses"),
        ("an old drawing of a grayscale tower", "a tower"),
        ("a garden, in grayscale", "a garden"),
        ("trains", "trains"),
        ("a black dog of the painting school", "a black dog of the painting school"),
    ],
)
def test_the_style_goes_and_the_subject_stays(prompt, expected):
    assert color_prompt(prompt) == f"a colorful photo of {expected}"


@pytest.mark.parametrize("prompt", ["", "  ", "grayscale, black background", "a painting of grayscale"])
def test_a_prompt_of_nothing_but_style_is_refused(prompt):
    with pytest.raises(UserError, match="no colour prompt can be derived from"):
        color_prompt(prompt)
