"""Launches over several nodes: this node's part by its own launcher, the others' by the followers."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from bench import interrupts
from bench.nodes.channel import Message
from bench.nodes.facts import machine_of
from bench.nodes.head import Handler, Head, Peer
from bench.nodes.mirror import Copies, Piece
from bench.nodes.site_paths import SitePaths
from bench.plan.placement import placed
from bench.runner.node_sampler import NodeSamples
from bench.runner.rank_site import Site
from bench.runner.watchdog import FAILED_PATIENCE_S
from bench.untrusted.rank_files import NonsenseError
from launch import Launcher, LaunchError, Node, Outcome, Prepared, Request, Watch, never_stop

BOOT_S = 180.0  # for a follower's launch server, which may import torch from a slow disk
END_S, STOP_S = 30.0, 10.0  # for a follower to end after a good launch, and after a bad one
STACKS_S = 10.0
POLL_S = 0.02
OF_A_SERVER = "the launch server"  # begins the error of a server that has ended
INTERFACE = "GLOO_SOCKET_IFNAME"


class NodesLauncher(Launcher):
    """Launches on as few nodes as a request needs; ``places`` has the number of ranks that each node takes.

    A launch that fits into node 0 is one of its own launcher, ``here``. Ranks meet at one of ``ports``. ``side`` is
    that of a comparison, and ``site`` where its ranks run on this node.
    """

    def __init__(
        self,
        here: Launcher,
        head: Head,
        places: Sequence[int],
        variables: Mapping[str, str],
        ports: tuple[int, int] = (0, 0),
        side: str = "",
        site: Site | None = None,
    ) -> None:
        self._here, self._head, self._places, self._variables = here, head, places, variables
        self._ports, self._side, self._site = ports, side, site or Site()
        self._id = uuid.uuid4().hex  # each has launch servers of its own on followers, too

    def prepare(self, request: Request, watch: Watch = never_stop) -> Prepared:
        """Start what the launch needs on all of its nodes.

        Raise LaunchError if a node cannot, BenchError if one of them is not there.
        """
        parts = placed(request.ranks, self._places, request.even)
        if len(parts) == 1:
            return self._here.prepare(request, watch)
        peers = self._head.wait(len(parts))
        elsewhere = {peer.node: SitePaths.between(self._site, peer.sites[self._side]) for peer in peers}
        asked = [
            peer.ask(
                "prepare",
                launcher=self._id,
                side=self._side,
                environment=elsewhere[peer.node].of_variables(request.environment),
            )
            for peer in peers
        ]
        launch = _Launch(request, parts, peers, self._id, elsewhere)
        own = dataclasses.replace(
            request,
            ranks=parts[0],
            environment=with_interface(request.environment, self._variables, launch.address),
            node=dataclasses.replace(launch.node, ports=self._ports),
        )
        launch.here = self._here.prepare(own, watch)
        for peer, number in zip(peers, asked, strict=True):
            ready = peer.answer(number, BOOT_S, lambda: bool(interrupts.pending()) or watch())
            if ready is None or ready.get("error"):
                why = ready["error"] if ready else peer.lost or f"it started no launch server within {BOOT_S:g} s"
                raise LaunchError(f"{peer.name}: {why}" if ready or not peer.lost else peer.lost)
        return launch

    def close(self) -> None:
        """End the launch servers on all nodes."""
        self._here.close()
        for peer in self._head.peers.values():
            if not peer.lost:
                peer.say("close", launcher=self._id)


class _Launch:
    """One launch over several nodes; it is the ``elsewhere`` of its own ranks as well.

    ``nodes`` has the node of each rank that is not on node 0.
    """

    def __init__(
        self,
        request: Request,
        parts: Sequence[int],
        peers: Sequence[Peer],
        launcher: str,
        paths: Mapping[int, SitePaths],
    ) -> None:
        self._request, self._parts, self._peers, self._launcher, self._paths = request, parts, peers, launcher, paths
        self.here: Prepared
        self.address = peers[0].channel.own_address
        self._run_id = uuid.uuid4().hex
        self.node = Node(0, len(parts), self.address, self.address, self._run_id, hosted=self._hosted)
        self._first = [sum(parts[:number]) for number in range(len(parts))]
        self.nodes = {rank: peer.node for peer in peers for rank in self._ranks(peer)}
        self._status: dict[int, Mapping[str, str]] = {}
        self._ended: dict[int, Message] = {}
        self._sampled: dict[int, tuple[bytes, int]] = {}  # by node: its samples, and how far its clock is ahead in ns
        self._clocks_set = {peer.node: peer.clocks_set for peer in peers}
        self._failed_at: float | None = None
        self._begun = False  # whether the followers have been told to launch

    @property
    def scratch(self) -> Path:
        """The folder of this node's ranks, which has copies of what those of other nodes write in theirs."""
        return self.here.scratch

    @property
    def elsewhere(self) -> _Launch:
        """Itself."""
        return self

    @property
    def facts(self) -> Mapping[str, str]:
        """``node_facts``, and the interface by which node 0 reaches the others."""
        machines = [{**machine_of(peer.facts), "ranks": len(self._ranks(peer))} for peer in self._peers]
        return {"node_facts": json.dumps(machines, sort_keys=True), "interface": interface_of(self.address)}

    def launch(self, watch: Watch = never_stop) -> Outcome:
        """Launch on all nodes, and wait until all have ended."""
        for peer in self._peers:
            peer.heard = self._hearing(peer)
        try:
            outcome = self.here.launch(lambda: watch() or self._ended_badly())
            self._await_end(outcome.ok)
        except BaseException:
            self._stop()
            raise
        finally:
            for peer in self._peers:
                peer.heard = None
        return self._merged(outcome)

    def status(self, rank: int) -> Mapping[str, str]:
        """Return ``State`` and ``VmHWM`` of a process, as far as its node has told."""
        return self._status.get(rank, {})

    def places(self) -> Mapping[int, str]:
        """Make ranks of other nodes write their stacks, and return where they are."""
        asked = [peer.ask("stacks") for peer in self._peers]
        found: dict[int, str] = {}
        for peer, number in zip(self._peers, asked, strict=True):
            answer = peer.answer(number, STACKS_S) or {}
            found |= {int(rank): str(place) for rank, place in answer.get("places", {}).items()}
        return found

    def samples(self) -> Mapping[int, NodeSamples]:
        """Return what the other nodes sampled, by node and by this node's clock, without nodes that sent nothing."""
        return {peer.node: self._samples_of(peer) for peer in self._peers if peer.node in self._sampled}

    def _samples_of(self, peer: Peer) -> NodeSamples:
        content, ahead_ns = self._sampled[peer.node]
        try:
            found = NodeSamples.from_json(content).of_node(peer.name, self._ranks(peer), ahead_ns)
            return found.without_times(peer.name) if peer.clocks_set != self._clocks_set[peer.node] else found
        except NonsenseError as error:
            return NodeSamples(note=f"{peer.name}: what it sampled {error}")

    def _ranks(self, peer: Peer) -> range:
        first = self._first[peer.node]
        return range(first, first + self._parts[peer.node])

    def _hosted(self, port: int) -> None:
        """Let the followers start: node 0 hosts the store."""
        self._begun = True
        request, spec = self._request, Path(self._request.argument).read_bytes()
        for peer in self._peers:
            ranks = self._ranks(peer)
            node = Node(peer.node, len(self._parts), self.address, "", self._run_id, ranks.start, port)
            fields = {name: value for name, value in vars(node).items() if name not in ("hosted", "own", "ports")}
            paths = self._paths[peer.node]
            peer.say(
                "launch",
                paths.of_spec(spec),
                launcher=self._launcher,
                node=fields,
                ranks=len(ranks),
                name=request.log.name,
                entry=request.entry,
                timeout_s=request.timeout_s,
                environment=paths.of_variables(request.environment),
                numa_binding=request.numa_binding,
            )

    def _hearing(self, peer: Peer) -> Handler:
        back = self._paths[peer.node].back
        copies = Copies(self._request.log, self.scratch, self._ranks(peer), back.path)

        def hear(message: Message, blob: bytes) -> None:
            if message.get("run_id") != self._run_id:
                return  # late, of a launch before
            if message["kind"] == "file":
                piece = Piece(message["where"], message["name"], blob, bool(message["adds"]))
                with contextlib.suppress(OSError):  # this node's launch has ended, or its disk is full: its end says so
                    copies.write(piece, peer.ahead_ns)
            elif message["kind"] == "ended":
                if blob:
                    self._sampled[peer.node] = blob, peer.ahead_ns
                self._ended[peer.node] = message
            else:
                own = {int(rank): status for rank, status in message["ranks"].items()}
                self._status |= {rank: status for rank, status in own.items() if rank in copies.ranks}

        return hear

    def _await_end(self, well: bool) -> None:
        """Wait until the followers have ended their ranks; one that does not is lost."""
        if not well:
            self._stop()
        seconds = END_S if well else STOP_S
        deadline = time.monotonic() + seconds
        for peer in self._peers if self._begun else ():
            while peer.node not in self._ended and not peer.lost:
                if time.monotonic() > deadline:
                    peer.drop(f"its ranks did not end within {seconds:g} s")
                time.sleep(POLL_S)

    def _ended_badly(self) -> bool:
        """Return whether a node is lost, or has ended its ranks after a failure some time ago.

        In that time ranks here notice by themselves, and say more.
        """
        if any(peer.lost for peer in self._peers):
            return True
        failed = any(one.get("error") or any(one.get("exit_codes", {}).values()) for one in self._ended.values())
        if failed and self._failed_at is None:
            self._failed_at = time.monotonic()
        return self._failed_at is not None and time.monotonic() - self._failed_at > FAILED_PATIENCE_S

    def _stop(self) -> None:
        for peer in self._peers:
            peer.say("stop", run_id=self._run_id)

    def _merged(self, outcome: Outcome) -> Outcome:
        codes = dict(outcome.exit_codes)
        ends = [("node 0", outcome.stopped or not outcome.error.startswith(OF_A_SERVER), outcome.error)]
        for peer in self._peers:
            ended: dict[str, Any] = self._ended.get(peer.node, {})
            error = str(ended.get("error", ""))
            ends.append((peer.name, "exit_codes" in ended and not error.startswith(OF_A_SERVER), error))
            codes |= {int(rank): int(code) for rank, code in ended.get("exit_codes", {}).items()}
        # A launch server that ended took its ranks with it, and what other ranks say follows from that.
        lost = [peer.lost for peer in self._peers if peer.lost]
        lost += [f"{name}: {error}" for name, has_ranks, error in ends if error and not has_ranks]
        errors = [outcome.error, *(f"{name}: {error}" for name, _, error in ends[1:] if error)]
        return Outcome(codes, next(filter(None, errors), ""), outcome.stopped, next(iter(lost), ""))


def with_interface(own: Mapping[str, str], others: Mapping[str, str], address: str) -> dict[str, str]:
    """Return a launch's variables with the interface of an address for Gloo, unless the user has chosen one.

    Gloo itself looks up the name of the host, which is often that of the loopback interface.
    """
    name = "" if INTERFACE in own or INTERFACE in others else interface_of(address)
    return {**own, **({INTERFACE: name} if name else {})}


def interface_of(address: str) -> str:
    """Return the interface of this node that has an address; an empty text if there is none."""
    found = psutil.net_if_addrs().items()
    return next((name for name, addresses in found if address in (one.address for one in addresses)), "")
