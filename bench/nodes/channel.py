"""The connection between two nodes: frames over a socket, after both have shown that they know the token.

A frame is JSON and, for the content of files, bytes. Frames are neither encrypted nor signed: the network between the
nodes must be trusted. Without the token nobody gets beyond the first 96 bytes, whatever he sends.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import socket
import struct
import threading
import time
from typing import Any

MAGIC = b"stepbench nodes 1".ljust(32, b"\0")  # the last number is the version of the messages
NONCE = 32  # bytes
HANDSHAKE_S = 5.0
LENGTHS = struct.Struct("!IQ")  # of the JSON and of the bytes
MOST_JSON, MOST_BYTES = 1 << 26, 1 << 29
KEEP_MS = 5000  # the kernel gives up what it could not send in this time

Message = dict[str, Any]


class Refused(Exception):  # noqa: N818
    """The other side does not know the token, or is no stepbench of this version. The message says which."""


class Channel:
    """One connection. ``send`` may be called from several threads, ``receive`` from one."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket, self._sending = connection, threading.Lock()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(AttributeError, OSError):  # Linux
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, KEEP_MS)
        connection.settimeout(None)

    @property
    def own_address(self) -> str:
        """The address of this side."""
        return str(self._socket.getsockname()[0])

    def send(self, kind: str, blob: bytes = b"", **values: Any) -> None:
        """Send a message. Raise OSError if the connection is lost."""
        text = json.dumps({"kind": kind, **values}).encode()
        with self._sending:
            try:
                self._socket.sendall(LENGTHS.pack(len(text), len(blob)) + text + blob)
            except OSError:
                self.close()  # a part of a message may have been sent
                raise

    def receive(self, seconds: float) -> tuple[Message, bytes]:
        """Return the next message.

        Raise TimeoutError if ``seconds`` pass without a byte, ConnectionError at the end, or for what is no message.
        """
        self._socket.settimeout(seconds)
        length, size = LENGTHS.unpack(_exactly(self._socket, LENGTHS.size))
        if length > MOST_JSON or size > MOST_BYTES:
            raise ConnectionError(f"a message of {length + size} bytes")
        try:
            message = json.loads(_exactly(self._socket, length))
        except ValueError:
            raise ConnectionError("a message that is not JSON") from None
        if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
            raise ConnectionError("a message without a kind")
        return message, _exactly(self._socket, size)

    def close(self) -> None:
        """Close the connection; a thread that waits for a message gets its end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def accept(connection: socket.socket, token: str) -> Channel:
    """Return the channel to one that has connected. Raise Refused or OSError, and close the connection then."""
    nonce = os.urandom(NONCE)
    with _closed_on_error(connection):
        connection.settimeout(HANDSHAKE_S)
        connection.sendall(MAGIC + nonce)
        theirs, proof = _halves(_exactly(connection, 2 * NONCE, time.monotonic() + HANDSHAKE_S))
        if not hmac.compare_digest(proof, _proof(token, b"follower", nonce, theirs)):
            raise Refused("its token is not the one of this node (STEPBENCH_TOKEN)")
        connection.sendall(_proof(token, b"head", nonce, theirs))
        return Channel(connection)


def connect(address: tuple[str, int], token: str, seconds: float) -> Channel:
    """Return a channel to the node that listens at an address. Raise Refused or OSError."""
    connection = socket.create_connection(address, seconds)
    with _closed_on_error(connection):
        connection.settimeout(HANDSHAKE_S)
        magic, nonce = _halves(_exactly(connection, 2 * NONCE))
        if magic != MAGIC:
            raise Refused("what listens there is no stepbench, or one of another version")
        own = os.urandom(NONCE)
        connection.sendall(own + _proof(token, b"follower", nonce, own))
        try:
            answer = _exactly(connection, NONCE)
        except ConnectionError:
            raise Refused("it does not know this node's token (STEPBENCH_TOKEN)") from None
        if not hmac.compare_digest(answer, _proof(token, b"head", nonce, own)):
            raise Refused("what listens there does not know the token (STEPBENCH_TOKEN)")
        return Channel(connection)


def _proof(token: str, who: bytes, head: bytes, follower: bytes) -> bytes:
    return hmac.new(token.encode(), MAGIC + who + head + follower, hashlib.sha256).digest()


def _halves(data: bytes) -> tuple[bytes, bytes]:
    return data[:NONCE], data[NONCE:]


@contextlib.contextmanager
def _closed_on_error(connection: socket.socket) -> Any:
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _exactly(connection: socket.socket, size: int, deadline: float | None = None) -> bytes:
    """Return so many bytes. Raise ConnectionError if the other side closes before, TimeoutError after a deadline."""
    found = bytearray()
    while len(found) < size:
        if deadline is not None:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
        piece = connection.recv(min(size - len(found), 1 << 20))
        if not piece:
            raise ConnectionError("it closed the connection")
        found += piece
    return bytes(found)
