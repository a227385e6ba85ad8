"""Passwords in addresses: used, and written nowhere.

`http://user:password@host` becomes `http://user:***@host` wherever it comes from. The password is kept
in the environment of this process, which those that it starts inherit: MLFLOW_TRACKING_PASSWORD.
"""

import os
import re
from urllib.parse import quote, unquote, urlsplit

MASK = "***"
NAME, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"  # as MLflow reads them
ADDRESS = "MLFLOW_TRACKING_URI"
# `://user:password@`: the password may have any characters up to the last @, but a port is none.
IN_FRONT = re.compile(
    r"(?<=://)([^\s:/@]*):(?!\d+(?:[/\s'\"]|$))([^\s@'\"]*(?:@[^\s@/,'\"]*)*)(?=@)"
)
SECRETS = "password|passwd|pwd|token|secret"  # within keys
IN_QUERY = re.compile(rf"(?<=[?&])(\w*(?:{SECRETS})\w*=)([^\s&'\"]+)", re.IGNORECASE)


def masked(text: str) -> str:
    """`text` without the passwords of the addresses in it."""
    if "://" not in text:
        return text
    return IN_QUERY.sub(rf"\1{MASK}", IN_FRONT.sub(rf"\1:{MASK}", text))


def kept(text: str) -> str:
    """`masked(text)`; its password is kept for those who connect."""
    in_query = [("", password) for _, password in IN_QUERY.findall(text)]
    for name, password in [*IN_FRONT.findall(text), *in_query]:
        if password != MASK:
            os.environ[PASSWORD] = unquote(password)
            os.environ.update({NAME: unquote(name)} if name else {})
    return masked(text)


def keep_all(words: list[str]) -> None:
    """Mask the passwords in the words of a command, and in the environment's address of the store."""
    words[:] = map(kept, words)
    if address := os.environ.get(ADDRESS):
        os.environ[ADDRESS] = kept(address)


def restored(address: str) -> str:
    """An address to connect to, with the password that was kept. Raises LookupError if none was.

    MLflow takes a server's credentials from the environment.
    """
    password = os.environ.get(PASSWORD, "")
    if MASK in address and not password:
        raise LookupError(f"its password is not kept: set {PASSWORD}, or give the address anew")
    if not address.startswith("http"):
        return address.replace(MASK, quote(password, safe=""))
    name = urlsplit(address).username
    if not name or not password:
        return address
    os.environ[NAME] = unquote(name)
    return public(address)


def public(address: str) -> str:
    """The address of a server without a user's name and password, as for a browser."""
    return re.sub("(?<=://)[^/]*@", "", address, count=1)


def blackened(text: str) -> str:
    """`masked(text)`, and without the password that was kept, as an error may quote it."""
    password = os.environ.get(PASSWORD)
    for form in {password, quote(password, safe="")} if password else ():
        text = text.replace(form, MASK)
    return masked(text)
