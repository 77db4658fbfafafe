"""A follower: does what node 0 says, until that says good-bye."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bench import interrupts
from bench.errors import BenchError, IncomparableError
from bench.machine import environment
from bench.machine.gpus import Machine
from bench.machine.preflight import look
from bench.messages.rank_record import RankRecord
from bench.messages.spec import Spec
from bench.nodes.channel import MOST_BYTES, Channel, Message, Refused, connect
from bench.nodes.head import PING_S, POLL_S, SILENCE_S
from bench.nodes.launcher import with_interface
from bench.nodes.mirror import Source
from bench.plan.code_key import digest_of
from bench.plan.data_files import absolute_data
from bench.runner import stack_traces
from bench.runner.gpu_sampler import of_ranks
from bench.runner.launch_case import make_launcher
from bench.runner.make_sites import SiteAsked, made_sites
from bench.runner.node_sampler import NodeSampler, NodeSamples
from bench.runner.rank_site import Site
from bench.runner.script_folder import make_folder
from bench.runner.watchdog import cut
from bench.untrusted.rank_files import NonsenseError
from bench.untrusted.text import printable
from launch import Launcher, LaunchError, Node, Outcome, Prepared, Request
from workloads.data import paths

RETRY_S = 0.2
GOODBYE_S = 60.0  # for node 0 to end the run after this node has got a signal


def follow(
    endpoint: tuple[str, int],
    hello: Mapping[str, Any],
    machine: Machine,
    token: str,
    join_s: float,
    log: Path,
    say: Callable[[str], None],
) -> int:
    """Join node 0, work for it, and return the run's exit code.

    ``hello`` is what this node says of itself, and ``machine`` has its GPUs. Whenever node 0 is lost, wait ``join_s``
    seconds for it to come back.
    """
    busy_since: float | None = None
    while True:
        channel = _joined(endpoint, token, join_s, say)
        follower = Follower(channel, hello, machine, log)
        try:
            code = follower.work()
        finally:
            follower.close()
        if code is not None:
            if code:
                say(f"warning: the run has ended with exit code {code}" + (f": {follower.why}" if follower.why else ""))
            return code
        busy_since = (busy_since or time.monotonic()) if follower.busy else None
        if busy_since and time.monotonic() - busy_since > join_s:
            raise BenchError(f"node 0: {follower.lost}", hint="Give each node another --node-rank.")
        if follower.busy:
            continue
        say(f"warning: node 0 was lost: {follower.lost}; waiting {join_s:g} s for it to come back")


def _joined(endpoint: tuple[str, int], token: str, join_s: float, say: Callable[[str], None]) -> Channel:
    """Return a channel to node 0, which may start later than this node."""
    deadline, where = time.monotonic() + join_s, f"{endpoint[0]}:{endpoint[1]}"
    why = "nothing listens there"
    while True:
        interrupts.check()
        try:
            return connect(endpoint, token, SILENCE_S)
        except Refused as error:
            raise BenchError(f"node 0 at {where}: {error}", hint="Set the same STEPBENCH_TOKEN on all nodes.") from None
        except OSError as error:
            why = error.strerror or str(error)
        if time.monotonic() > deadline:
            raise BenchError(
                f"node 0 was not there within {join_s:g} s, at {where}: {why}",
                hint="Start bench run --node-rank 0 there, and let its port through; --join-timeout is the patience.",
            )
        time.sleep(RETRY_S)


class Follower:
    """One connection to node 0, and what runs for it. ``lost`` says in words why the connection has ended."""

    def __init__(self, channel: Channel, hello: Mapping[str, Any], machine: Machine, log: Path) -> None:
        self._channel, self._machine, self._log = channel, machine, log
        self._inbox: queue.Queue[tuple[Message, bytes]] = queue.Queue()
        self._stopping: set[str] = set()  # launches that node 0 has stopped
        self._asked_for_stacks: queue.Queue[str] = queue.Queue()  # numbers of questions
        self._closed = threading.Event()
        self._signalled = False
        self.lost = self.why = ""  # why the connection, and the run, have ended
        self.busy = False  # node 0 has another follower of this number
        self._variables = environment.rank_environment()
        self._launchers: dict[str, Launcher] = {}  # by the id of node 0's
        self._sites, self._made = {"": Site()}, contextlib.ExitStack()  # by side of a comparison
        channel.send("hello", **hello)
        for work in (self._listen, self._ping):
            threading.Thread(target=work, name=f"follower {work.__name__}", daemon=True).start()

    def work(self) -> int | None:
        """Work until node 0 says good-bye, and return its exit code; None if the connection is lost."""
        done = {
            "files": self._files,
            "data": self._data,
            "survey": self._survey,
            "sites": self._make_sites,
            "prepare": self._prepare,
            "launch": self._launch,
            "close": self._close,
        }
        while True:
            self._pass_on_signals()
            try:
                message, blob = self._inbox.get(timeout=POLL_S)
            except queue.Empty:
                if self.lost:
                    return None
                continue
            if message["kind"] == "bye":
                self.why = printable(str(message["why"]))
                return int(message["code"])
            if message["kind"] == "busy":  # node 0 does not know yet that this node was lost
                self.lost, self.busy = printable(str(message["why"])), True
                time.sleep(PING_S)
                return None
            if message["kind"] == "refused":
                raise IncomparableError(f"node 0 refuses this node: {printable(str(message['why']))}")
            if message["kind"] in done:
                with contextlib.suppress(OSError):  # the listening thread says that node 0 is lost
                    done[message["kind"]](message, blob)

    def close(self) -> None:
        """End what was started, and remove what was made."""
        self._closed.set()
        for launcher in self._launchers.values():
            launcher.close()
        self._made.close()
        self._channel.close()

    # -- threads ---------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            while True:
                message, blob = self._channel.receive(SILENCE_S)
                if message["kind"] == "stop":
                    self._stopping.add(str(message.get("run_id")))
                elif message["kind"] == "stacks":
                    self._asked_for_stacks.put(message["question"])
                elif message["kind"] == "ping":
                    self._channel.send("pong", at=message["at"], here=time.time_ns())
                else:
                    self._inbox.put((message, blob))
        except TimeoutError:
            self.lost = f"nothing was heard of it for {SILENCE_S:g} s"
        except OSError as error:
            self.lost = str(error) or type(error).__name__

    def _ping(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closed.wait(PING_S):
                self._channel.send("ping")

    def _pass_on_signals(self) -> None:
        """Let node 0 end the run if this node has got a signal: it then says good-bye."""
        if interrupts.pending() and not self._signalled:
            self._signalled = True
            with contextlib.suppress(OSError):
                self._channel.send("signal", name=interrupts.name())
            patience = threading.Timer(GOODBYE_S, self._channel.close)
            patience.daemon = True
            patience.start()

    # -- what node 0 asks for --------------------------------------------------------------------------------------

    def _data(self, message: Message, blob: bytes) -> None:
        found = {}
        for name in map(str, message["names"]):
            with contextlib.suppress(OSError, ValueError, BenchError):  # node 0 says that it is not there
                found[name] = paths.fingerprint(absolute_data(name))
        self._channel.send("data", question=message["question"], fingerprints=found)

    def _files(self, message: Message, blob: bytes) -> None:
        self._channel.send(
            "files",
            question=message["question"],
            digests={str(name): digest_of(str(name)) for name in message["names"]},
        )

    def _survey(self, message: Message, blob: bytes) -> None:
        """Tell how busy this node is, and its GPUs if cases use any."""
        seen = look(self._machine if message["gpus"] else Machine())
        note = self._machine.note
        self._channel.send("survey", question=message["question"], look=dataclasses.asdict(seen), note=note)

    def _make_sites(self, message: Message, blob: bytes) -> None:
        """Make this node's sites of a comparison, which are removed with the end of this connection."""
        answer: dict[str, Any]
        try:
            made = self._made.enter_context(made_sites([SiteAsked(**one) for one in message["sites"]]))
            self._sites |= made
            answer = {"sites": {side: vars(site) for side, site in made.items()}}
        except BenchError as error:
            answer = {"error": error.message, "hint": error.hint}
        except OSError as error:  # a full disk
            answer = {"error": f"{tempfile.gettempdir()}: {error.strerror}"}
        self._channel.send("sites", question=message["question"], **answer)

    def _prepare(self, message: Message, blob: bytes) -> None:
        """Start a launch server for the variables of a launch, unless one is running."""
        one, site = str(message["launcher"]), self._sites[str(message["side"])]
        if one not in self._launchers:
            own = {**self._variables, **site.variables(self._variables)}
            self._launchers[one] = make_launcher("server", own, self._log, site.python, site.folder())
        variables = with_interface(message["environment"], self._variables, self._channel.own_address)
        request = Request("", "", 0, 0.0, self._log.parent, variables)
        try:
            self._launchers[one].prepare(request, self._is_to_end)
            error = ""
        except LaunchError as failure:
            error = self._with_log(str(failure))
        self._channel.send("ready", question=message["question"], error=error)

    def _close(self, message: Message, blob: bytes) -> None:
        """End the servers of a launcher."""
        if launcher := self._launchers.pop(str(message["launcher"]), None):
            launcher.close()

    def _launch(self, message: Message, blob: bytes) -> None:
        """Launch the ranks of this node, tell node 0 of them, and in the end how they ended."""
        launcher = self._launchers[str(message["launcher"])]
        fields = message["node"]
        node = Node(**{**fields, "own": self._channel.own_address})
        variables = with_interface(message["environment"], self._variables, self._channel.own_address)
        request = Request("", "", message["ranks"], float(message["timeout_s"]), self._log.parent, variables)
        ended: dict[str, Any] = {"run_id": node.run_id}
        sampled = b""
        try:
            scratch = launcher.prepare(request, self._is_to_end).scratch
            spec = _spec_here(blob, scratch, str(message["name"]))
            request = dataclasses.replace(
                request,
                entry=str(message["entry"]),
                argument=str(Path(spec.folder) / "spec.json"),
                log=Path(spec.folder),
                numa_binding=message["numa_binding"],
                node=node,
            )
            prepared = launcher.prepare(request, self._is_to_end)
            outcome, samples = self._watched(request, spec, prepared, node)
            ended["exit_codes"] = {node.first_rank + local: code for local, code in outcome.exit_codes.items()}
            ended["error"], sampled = outcome.error, _message_of(samples)
        except (LaunchError, OSError) as error:
            ended["error"] = self._with_log(str(error))
        self._channel.send("ended", sampled, **ended)

    def _is_to_end(self) -> bool:
        """Pass on a signal, and return whether node 0 is lost."""
        self._pass_on_signals()
        return bool(self.lost)

    def _with_log(self, error: str) -> str:
        """Return an error with the last words of this node's log, which node 0 does not see."""
        with contextlib.suppress(OSError):
            lines = self._log.read_text(errors="replace").splitlines()
            return f"{error.partition('; see ')[0]}: {lines[-1].strip()}" if lines and lines[-1].strip() else error
        return error

    def _watched(self, request: Request, spec: Spec, prepared: Prepared, node: Node) -> tuple[Outcome, NodeSamples]:
        """Launch the ranks of this node, and return how they ended and what was sampled meanwhile."""
        ranks, scratch = range(node.first_rank, node.first_rank + request.ranks), Path(spec.scratch)
        relay = Relay(self._channel, node.run_id, Source(request.log, scratch, ranks))
        # Host memory is not sampled in the window: each node's samples would hold up the ranks of all.
        sampler = NodeSampler(self._machine, spec.case, request.log, scratch, ranks, alone=False)

        def watch() -> bool:
            relay.look()
            with contextlib.suppress(queue.Empty):
                relay.tell_places(self._asked_for_stacks.get_nowait())
            self._pass_on_signals()
            return bool(self.lost) or node.run_id in self._stopping

        try:
            with sampler:
                outcome = prepared.launch(watch)
            relay.look(last=True)
            samples = sampler.samples()
            gpus = _gpus_of(request.log, ranks) if samples.devices else ()
            return outcome, dataclasses.replace(samples, devices=of_ranks(samples.devices, gpus))
        finally:
            for folder in (spec.folder, spec.compile_cache):
                if folder:
                    shutil.rmtree(folder, ignore_errors=True)


class Relay:
    """Tells node 0 what the ranks of a launch on this node write, and the state of their processes."""

    def __init__(self, channel: Channel, run_id: str, source: Source) -> None:
        self._channel, self._run_id, self._source = channel, run_id, source
        self._pids: dict[int, int] = {}
        self._told: dict[int, dict[str, str]] = {}
        self._lost: dict[Path, int] = {}  # bytes that were cut out of a log

    def look(self, last: bool = False) -> None:
        """Send what is new; a connection that is lost ends the launch otherwise. ``last``: the processes are gone."""
        for log in self._source.folder.glob("*.log"):
            self._lost[log] = cut(log, self._lost.get(log, 0))
        # The state of a process first: what it wrote before it ended is then in what follows.
        states = {} if last else {rank: self._state(rank) for rank in self._source.ranks}
        with contextlib.suppress(OSError):
            for piece in self._source.changes():
                where = {"where": piece.where, "name": piece.name, "adds": piece.adds}
                self._channel.send("file", piece.data, run_id=self._run_id, **where)
            new = {rank: state for rank, state in states.items() if state and state != self._told.get(rank)}
            if new:
                self._told |= new
                self._channel.send("ranks", run_id=self._run_id, ranks=new)

    def tell_places(self, question: str) -> None:
        """Make the ranks write their stacks to their logs, and tell where they are."""
        logs = {rank: self._source.folder / f"rank{rank}.log" for rank in self._pids}
        places = stack_traces.take(self._pids, logs)
        with contextlib.suppress(OSError):
            self._channel.send("places", question=question, places=places)

    def _state(self, rank: int) -> dict[str, str]:
        if rank not in self._pids:
            with contextlib.suppress(NonsenseError, OSError):
                if record := RankRecord.read(self._source.folder, rank):
                    self._pids[rank] = record.pid
        if rank not in self._pids:
            return {}
        status = stack_traces.status(self._pids[rank])
        return {name: status[name] for name in ("State", "VmHWM") if name in status}


def _gpus_of(folder: Path, ranks: Iterable[int]) -> set[str]:
    """Return the UUIDs of the GPUs that ranks have, as far as their records tell."""
    found: set[str] = set()
    for rank in ranks:
        with contextlib.suppress(NonsenseError):
            record = RankRecord.read(folder, rank)
            found |= set(record.device_uuids if record else ())
    return found


def _message_of(samples: NodeSamples) -> bytes:
    """Return samples as a message, without the readings of GPUs if a message cannot hold them."""
    whole = samples.to_json()
    if len(whole) <= MOST_BYTES:
        return whole
    note = f"{len(samples.devices)} readings of GPUs are too many for a message"
    return dataclasses.replace(samples, devices=[], note=note).to_json()


def _spec_here(blob: bytes, scratch: Path, name: str) -> Spec:
    """Write node 0's spec with the folders of this node, and return it."""
    folder = scratch / "records" / Path(name).name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_bytes(blob)
    spec = Spec.read(folder / "spec.json")
    cache = f"{scratch}/inductor-{folder.name}" if spec.compile_cache else ""
    script = spec.script and dataclasses.replace(spec.script, folder=str(folder / "cwd"))
    if script:
        make_folder(Path(script.home), Path(script.folder), without=[])
    spec = dataclasses.replace(spec, folder=str(folder), scratch=str(scratch), compile_cache=cache, script=script)
    spec.write()
    return spec
