"""The connection between nodes: who knows the token gets in, and nobody else does anything."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from bench.nodes import channel as module
from bench.nodes.channel import MAGIC, Channel, Refused, accept, connect

TOKEN = "s3cret"


class Listening:
    """Accepts one connection in a thread; ``result`` is the channel, or the error."""

    def __init__(self, token: str) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        self.result: Channel | Exception | None = None
        self._thread = threading.Thread(target=self._accept, args=(token,))
        self._thread.start()

    def _accept(self, token: str) -> None:
        connection, _ = self._socket.accept()
        try:
            self.result = accept(connection, token)
        except Exception as error:
            self.result = error

    def ended(self) -> Channel | Exception | None:
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._socket.close()
        return self.result


@contextlib.contextmanager
def pair() -> Iterator[tuple[Channel, Channel]]:
    listening = Listening(TOKEN)
    follower = connect(listening.address, TOKEN, 5)
    head = listening.ended()
    assert isinstance(head, Channel)
    yield head, follower
    head.close()
    follower.close()


def test_messages_arrive_as_they_were_sent() -> None:
    with pair() as (head, follower):
        head.send("launch", b"\0\xff" * 100_000, ranks=2, name="a\nb 'é'")
        head.send("ping")
        message, blob = follower.receive(5)
        assert message == {"kind": "launch", "ranks": 2, "name": "a\nb 'é'"}
        assert blob == b"\0\xff" * 100_000
        assert follower.receive(5) == ({"kind": "ping"}, b"")
        follower.send("pong")
        assert head.receive(5)[0]["kind"] == "pong"
        assert (head.own_address, follower.own_address) == ("127.0.0.1", "127.0.0.1")


def test_threads_do_not_mix_their_messages() -> None:
    with pair() as (head, follower):
        threads = [
            threading.Thread(target=lambda n=n: [head.send("x", bytes([n]) * 5000, n=n) for _ in range(20)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for _ in range(80):
            message, blob = follower.receive(5)
            assert blob == bytes([message["n"]]) * 5000
        for thread in threads:
            thread.join()


def test_silence_and_the_end_are_told_apart() -> None:
    with pair() as (head, follower):
        with pytest.raises(TimeoutError):
            follower.receive(0.1)
        head.close()
        with pytest.raises(ConnectionError, match="it closed the connection"):
            follower.receive(5)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (struct.pack("!IQ", 1 << 31, 0), "a message of 2147483648 bytes"),
        (struct.pack("!IQ", 2, 1 << 62), "a message of 4611686018427387906 bytes"),
        (struct.pack("!IQ", 3, 0) + b"{x}", "a message that is not JSON"),
        (struct.pack("!IQ", 2, 0) + b"[]", "a message without a kind"),
    ],
)
def test_what_is_no_message_ends_the_connection(raw: bytes, said: str) -> None:
    with pair() as (head, follower):
        head._socket.sendall(raw)
        with pytest.raises(ConnectionError, match=said):
            follower.receive(5)


@pytest.mark.parametrize(("ours", "theirs"), [(TOKEN, "other"), (TOKEN, ""), ("", TOKEN)])
def test_another_token_is_refused_on_both_sides(ours: str, theirs: str) -> None:
    listening = Listening(ours)
    with pytest.raises(Refused, match="token"):
        connect(listening.address, theirs, 5)
    error = listening.ended()
    assert isinstance(error, Refused)
    assert "its token is not the one of this node" in str(error)


def answering(answer: Callable[[socket.socket], None]) -> tuple[tuple[str, int], threading.Thread]:
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with connection, server, contextlib.suppress(OSError):
            answer(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    return server.getsockname(), thread


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            lambda s: s.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 64),
            "no stepbench, or one of another version",
        ),
        (lambda s: (s.sendall(MAGIC + b"n" * 32), s.recv(64), s.sendall(b"p" * 32)), "does not know the token"),
    ],
    ids=["http", "impostor"],
)
def test_what_is_no_head_is_refused(answer: Callable[[socket.socket], None], said: str) -> None:
    address, thread = answering(answer)
    with pytest.raises(Refused, match=said):
        connect(address, TOKEN, 5)
    thread.join(5)


def test_a_stranger_cannot_hold_or_fill_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by silence nor by sending without an end: it reads 64 bytes, for as long as a handshake may take."""
    monkeypatch.setattr(module, "HANDSHAKE_S", 0.3)
    for send in (lambda s: None, lambda s: s.sendall(b"x" * 10)):
        listening = Listening(TOKEN)
        with socket.create_connection(listening.address) as stranger:
            send(stranger)
            began = time.monotonic()
            assert isinstance(listening.ended(), TimeoutError)
            assert time.monotonic() - began < 10
    listening = Listening(TOKEN)
    with socket.create_connection(listening.address) as stranger:
        with contextlib.suppress(OSError):
            for _ in range(1000):
                stranger.sendall(b"x" * (1 << 20))
        assert isinstance(listening.ended(), Refused)


def test_a_proof_is_of_one_handshake_and_one_side() -> None:
    """What one side has sent proves nothing when it is sent back or sent again."""
    proof = module._proof(TOKEN, b"follower", b"a" * 32, b"b" * 32)
    others = [
        module._proof(TOKEN, b"head", b"a" * 32, b"b" * 32),
        module._proof(TOKEN, b"follower", b"c" * 32, b"b" * 32),
        module._proof(TOKEN, b"follower", b"a" * 32, b"c" * 32),
        module._proof("other", b"follower", b"a" * 32, b"b" * 32),
    ]
    assert proof not in others
    assert len(proof) == 32
