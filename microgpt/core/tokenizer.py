"""A character tokenizer with one special token, BOS, which begins and ends a document."""

from collections.abc import Iterable, Sequence


class UnknownCharacter(ValueError):
    """A character that is not in the vocabulary."""


class CharTokenizer:
    """The vocabulary is the sorted set of characters, then BOS as the last id."""

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = sorted(set(characters))
        self.bos, self.vocab_size = len(self.characters), len(self.characters) + 1
        self._ids = {character: i for i, character in enumerate(self.characters)}

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without BOS. Raises UnknownCharacter."""
        try:
            return list(map(self._ids.__getitem__, text))
        except KeyError as error:
            raise UnknownCharacter(
                f"{error}: not in the vocabulary {''.join(self.characters)!r}"
            ) from None

    def document(self, text: str) -> list[int]:
        """BOS, the ids of `text`, BOS."""
        return [self.bos, *self.encode(text), self.bos]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, which must not contain BOS."""
        return "".join(self.characters[i] for i in ids)
