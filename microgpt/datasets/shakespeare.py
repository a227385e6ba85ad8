"""Plays of Shakespeare as running text."""

from pathlib import Path

from microgpt.datasets.sources import Text, downloaded


class Shakespeare(Text):
    """1,115,394 characters (Karpathy 2015, char-rnn), downloaded once and checked against their sha256."""

    url = (
        "https://raw.githubusercontent.com/karpathy/char-rnn/"
        "d1d7aa34fdb3626174bce1d753e6cc6845ce7087/data/tinyshakespeare/input.txt"
    )
    sha256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"

    def default(self) -> Path:
        return downloaded(self.url, self.sha256, "tinyshakespeare.txt")
