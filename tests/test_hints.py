"""Which words a text can have, held against a search for each."""

from __future__ import annotations

import random

import pytest

from ksyms._decode.hints import Pairs

WORDS = (b"::", b"abc", b"cab: ", b"aaaa", b"Tainted:", b"]: ")


@pytest.mark.parametrize("size", [0, 1, 100, (1 << 13) - 1, 1 << 13, (1 << 13) + 1])
@pytest.mark.parametrize("word", WORDS)
def test_word_is_found_wherever_it_is(size: int, word: bytes) -> None:
    for place in {0, 1, size // 2, size // 2 + 1, max(size - 1, 0), size}:
        text = b"x" * place + word + b"x" * (size - place)
        assert Pairs(text).any([b"Linux", word])


@pytest.mark.parametrize("alphabet", [b"ab", b"abc: ", bytes(range(256))])
def test_answers_are_those_of_a_search(alphabet: bytes) -> None:
    draw = random.Random(5)
    for size in (10, 1 << 13, (1 << 14) + 1):
        text = bytes(draw.choices(alphabet, k=size))
        for length in (1, 2, 3, 5, 8):
            at = draw.randrange(size - 8)
            words = [bytes(draw.choices(alphabet, k=length)), text[at : at + length]]
            for word in words:
                assert Pairs(text).any([word]) == (word in text)
        assert not Pairs(text).any([])
