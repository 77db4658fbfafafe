"""Node 0's side: waits for the followers, and knows at each moment which of them is there.

A follower that says nothing for SILENCE_S is lost, also if its connection stays open. It may come back, or another
process in its place; what must be equal on all nodes is compared each time.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import interrupts
from bench.errors import BenchError, IncomparableError, UsageError
from bench.machine.gpus import Gpu
from bench.nodes.channel import Channel, Message, Refused, accept
from bench.nodes.facts import difference, same_machine
from bench.nodes.options import is_loopback
from bench.runner.rank_site import Site
from bench.untrusted.rank_files import NonsenseError, checked
from bench.untrusted.text import printable

PING_S, SILENCE_S = 1.0, 5.0
PINGS = 10  # by which the clocks of two nodes are compared
DRIFT_NS = 10_000_000  # that two clocks may drift apart by themselves during these pings
POLL_S = 0.05
MOST_STRANGERS = 64  # connections that have not shown the token yet
Handler = Callable[[Message, bytes], None]


class Peer:
    """A follower that has joined. ``lost`` says in words why it is gone; empty while it is there."""

    def __init__(self, node: int, channel: Channel, hello: Mapping[str, Any]) -> None:
        self.node, self.channel, self.hello, self.facts = node, channel, hello, hello["facts"]
        self.host, self.places = printable(str(hello["host"])), int(hello["places"])
        self.gpus = tuple(checked(Gpu, one) for one in hello.get("gpus", ()))
        self.lost = ""
        self.clocks_set = 0  # how often its clock or this node's was set
        self.heard: Handler | None = None  # gets messages about the present launch
        self.sites = {"": Site()}  # by side of a comparison; without a side, its ranks run as it does itself
        self.fulfilled = 0  # how many of node 0's conditions
        self._clocks: deque[tuple[int, int]] = deque(maxlen=PINGS)  # (round trip, how far ahead) of the last pings
        self._answers: queue.Queue[Message | None] = queue.Queue()

    @property
    def name(self) -> str:
        """Its number and host, as messages name it."""
        return f"node {self.node} ({self.host})"

    @property
    def ahead_ns(self) -> int:
        """How far its wall clock is ahead of this node's, by the ping of the last ones that came back soonest."""
        return min(self._clocks, default=(0, 0))[1]

    def say(self, kind: str, blob: bytes = b"", **values: Any) -> None:
        """Send a message; a follower that cannot be reached is lost."""
        try:
            self.channel.send(kind, blob, **values)
        except OSError as error:
            self.drop(f"it could not be reached: {error.strerror or error}")

    def ask(self, kind: str, **values: Any) -> str:
        """Send a question, and return its number, by which the answer is known."""
        self.say(kind, question=(number := uuid.uuid4().hex), **values)
        return number

    def answer(self, number: str, seconds: float, stop: Callable[[], bool] = lambda: False) -> Message | None:
        """Return the answer to a question; None if the follower is lost, none comes in time, or ``stop`` is true."""
        deadline = time.monotonic() + seconds
        while not self.lost and (left := deadline - time.monotonic()) > 0 and not stop():
            with contextlib.suppress(queue.Empty):
                found = self._answers.get(timeout=min(left, POLL_S * 4))
                if found and found.get("question") == number:
                    return found
        return None

    def drop(self, why: str) -> None:
        """Regard the follower as lost."""
        self.lost = self.lost or f"{self.name} was lost: {why}"
        self._answers.put(None)
        self.channel.close()

    def listen(self, signalled: Callable[[Peer, str], None]) -> None:
        """Take its messages until it is lost."""
        try:
            while True:
                message, blob = self.channel.receive(SILENCE_S)
                kind = message["kind"]
                if kind == "signal":
                    signalled(self, str(message.get("name")))
                elif kind in ("file", "ranks", "ended"):
                    if handler := self.heard:
                        handler(message, blob)
                elif kind == "pong":
                    self._note_clock(int(message["at"]), int(message["here"]))
                elif kind != "ping":
                    self._answers.put(message)
        except TimeoutError:
            self.drop(f"nothing was heard of it for {SILENCE_S:g} s")
        except Exception as error:  # whatever it has sent: it alone is lost
            self.drop(str(error) or type(error).__name__)

    def _note_clock(self, at_ns: int, there_ns: int) -> None:
        now_ns = time.time_ns()
        trip_ns, ahead_ns = now_ns - at_ns, there_ns - (at_ns + now_ns) // 2
        if trip_ns < 0:  # this node's clock was set back meanwhile
            self._forget_clocks()
            return
        if any(abs(ahead_ns - ahead) > (trip_ns + trip) // 2 + DRIFT_NS for trip, ahead in self._clocks):
            self._forget_clocks()  # both trips cannot be of the same clocks
        self._clocks.append((trip_ns, ahead_ns))

    def _forget_clocks(self) -> None:
        """Forget earlier pings, as one of the two clocks was set."""
        self._clocks.clear()
        self.clocks_set += 1


@dataclass(frozen=True)
class Condition:
    """What followers must fulfil to take part, whenever they join: the right answer to a question.

    ``kind`` and ``values`` are the message. An answer must come within ``seconds``. ``check`` raises IncomparableError
    for a wrong one, NonsenseError for one that is no answer.
    """

    kind: str
    values: Mapping[str, Any]
    seconds: float
    check: Callable[[Peer, Message], None]


class Head:
    """Node 0 of ``nodes``, with its own ``facts``. ``peers`` has the followers that are there, by their number."""

    def __init__(
        self,
        endpoint: tuple[str, int],
        nodes: int,
        token: str,
        facts: Mapping[str, Any],
        join_s: float,
        warn: Callable[[str], None],
    ) -> None:
        """Listen at an address of this node. ``facts`` are its own, and ``join_s`` is how long it waits for others."""
        self.nodes, self.join_s = nodes, join_s
        self.peers: dict[int, Peer] = {}
        self.facts = facts
        self._token, self._warn = token, warn
        self._refusal: BenchError | None = None  # what ends the run
        self._conditions: list[Condition] = []
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._strangers = threading.Semaphore(MOST_STRANGERS)
        self._listening = _listening(endpoint)
        for work in (self._accept, self._ping):
            threading.Thread(target=work, name=f"nodes {work.__name__}", daemon=True).start()

    def wait(self, needed: int) -> list[Peer]:
        """Return the followers 1 to ``needed`` - 1, once they are there and fulfil the conditions.

        Raise BenchError if one is not there within the time to join, IncomparableError if one is unlike this node.
        """
        deadline = time.monotonic() + self.join_s
        while True:
            interrupts.check()
            if self._refusal:
                raise self._refusal
            there = {node: peer for node, peer in self.peers.items() if not peer.lost}
            absent = [node for node in range(1, needed) if node not in there]
            if not absent:
                found = [there[node] for node in range(1, needed)]
                self._fulfil(found)
                if not any(peer.lost for peer in found):
                    return found
            elif time.monotonic() > deadline:
                reasons = [peer.lost for node, peer in self.peers.items() if node in absent]
                names = ", ".join(map(str, absent))
                raise BenchError(
                    f"node{'s' * (len(absent) > 1)} {names} of {self.nodes} did not join within {self.join_s:g} s"
                    + (f" ({'; '.join(reasons)})" if reasons else ""),
                    hint=f"Start bench run --nnodes {self.nodes} --node-rank {absent[0]} with the same --rdzv-endpoint "
                    "there; --join-timeout is how long node 0 waits.",
                )
            time.sleep(POLL_S)

    def ask(self, kind: str, seconds: float, **values: Any) -> dict[int, Message]:
        """Ask all followers, and return their answers; one that gives none in time is lost."""
        asked = {peer: peer.ask(kind, **values) for peer in self.peers.values() if not peer.lost}
        found = {}
        for peer, number in asked.items():
            if (answer := peer.answer(number, seconds)) is None:
                peer.drop(f"it did not answer within {seconds:g} s")
            else:
                found[peer.node] = answer
        return found

    def require(self, condition: Condition) -> None:
        """Have all followers fulfil a condition, now and whenever one joins again.

        Raise IncomparableError if one does not.
        """
        self._conditions.append(condition)
        self.wait(self.nodes)

    def _fulfil(self, peers: Sequence[Peer]) -> None:
        """Ask followers about the conditions that they have not fulfilled yet; one that does not answer is lost."""
        for number, condition in enumerate(self._conditions):
            due = [peer for peer in peers if peer.fulfilled == number]
            asked = [peer.ask(condition.kind, **condition.values) for peer in due]  # all at once
            for peer, question in zip(due, asked, strict=True):
                answer = peer.answer(question, condition.seconds, lambda: bool(interrupts.pending()))
                interrupts.check()
                if answer is None:
                    peer.drop(f"it did not answer within {condition.seconds:g} s")
                    continue
                try:
                    condition.check(peer, answer)
                except (NonsenseError, KeyError, TypeError, AttributeError) as error:
                    peer.drop(f"its answer to {condition.kind!r} is not understood: {error}")
                    continue
                peer.fulfilled += 1

    def close(self, why: str, code: int) -> None:
        """Tell the followers that the run has ended, and with which exit code."""
        self._closing.set()
        for peer in self.peers.values():
            if not peer.lost:
                peer.say("bye", why=why, code=code)
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # ends the thread that accepts
        self._listening.close()
        for peer in self.peers.values():
            peer.channel.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:  # closed, or no descriptor is free
                time.sleep(POLL_S)
                continue
            if not self._strangers.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._join, args=(connection,), name="nodes join", daemon=True).start()

    def _join(self, connection: socket.socket) -> None:
        try:
            channel = self._known(connection)
        except Refused as error:
            self._warn(f"a process that wanted to join was refused: {error}")
            return
        except OSError:  # no follower, or one that was ended
            return
        try:
            hello, _ = channel.receive(SILENCE_S)
            peer = self._welcomed(channel, hello)
        except Exception:  # whatever it has sent
            channel.close()
            return
        if peer:
            peer.listen(self._signalled)

    def _known(self, connection: socket.socket) -> Channel:
        try:
            return accept(connection, self._token)
        finally:
            self._strangers.release()

    def _welcomed(self, channel: Channel, hello: Message) -> Peer | None:
        """Return the follower, or None if it is refused."""
        node = int(hello["node"])
        peer = Peer(node, channel, hello)
        with self._lock:
            before = self.peers.get(node)
            if not 0 < node < self.nodes or int(hello["nodes"]) != self.nodes:
                why = f"it says node {node} of {hello['nodes']}, and this run has {self.nodes}"
            elif before and not before.lost:
                why = f"{before.name} is there already"
            else:
                why = difference(self.facts, peer.facts, peer.name)
                if why:
                    self._refusal = IncomparableError(why, hint="Install the same on all nodes.")
                elif before and not same_machine(before.facts, peer.facts):
                    why = f"{peer.name} came back as another machine"
                    self._refusal = IncomparableError(why, hint="Start the run anew.")
            if why:
                channel.send("busy" if before and not before.lost else "refused", why=why)
                channel.close()
                return None
            channel.send("welcome")
            channel.send("ping", at=time.time_ns())
            self.peers[node] = peer
        return peer

    def _ping(self) -> None:
        while not self._closing.wait(PING_S):
            for peer in list(self.peers.values()):
                if not peer.lost:
                    peer.say("ping", at=time.time_ns())

    def _signalled(self, peer: Peer, name: str) -> None:
        self._warn(f"{peer.name} got {name}: the run ends")
        interrupts.request(name)


def _listening(endpoint: tuple[str, int]) -> socket.socket:
    """Return a socket that listens at an address of this node, and at no other."""
    host, port = endpoint
    flag = "--rdzv-endpoint"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(
            f"{flag}: {host} cannot be resolved: {error.strerror}", option=flag, given=f"{host}:{port}"
        ) from None
    family, *_, address = found[0]
    if is_loopback(host) and not (host == "localhost" or host[:1].isdigit() or ":" in host):
        raise UsageError(
            f"{flag}: {host} is {address[0]} on node 0, which other nodes cannot reach",
            option=flag,
            given=f"{host}:{port}",
            hint="Give the address of node 0 by which other nodes reach it.",
        )
    try:
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise UsageError(
            f"{flag}: node 0 cannot listen at {host}:{port}: {error.strerror}",
            option=flag,
            given=f"{host}:{port}",
            hint="Give an address of node 0 that the other nodes reach, and a free port.",
        ) from None
