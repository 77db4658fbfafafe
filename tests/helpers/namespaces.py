"""Hosts on one machine: network namespaces with a link to a common bridge, and host names of their own. Needs root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

TOOLS = ("ip", "nsenter", "unshare", "mount")
# $0: host name, $1: its hosts file, then the command.
ENTER = 'mount --bind "$1" /etc/hosts && hostname "$0" && shift && exec "$@"'


class Hosts:
    """``n1``, ``n2`` … at 10.99.0.1, 10.99.0.2 …"""

    def __init__(self, number: int, hosts_file: Path) -> None:
        self._tag, self._hosts_file = f"sb{os.getpid() % 100_000}", hosts_file
        self.names = [f"n{i + 1}" for i in range(number)]

    def command(self, name: str, words: Sequence[str]) -> list[str]:
        """Return the command that runs ``words`` on a host."""
        net = f"--net=/run/netns/{self._namespace(name)}"
        script = ["sh", "-c", ENTER, name, str(self._hosts_file)]
        return ["nsenter", net, "unshare", "--uts", "--mount", *script, *words]

    def link(self, name: str, state: str) -> None:
        """Set the link of a host ``up`` or ``down``."""
        _run("ip", "-n", self._namespace(name), "link", "set", "eth0", state)

    def shape(self, rate: str) -> None:
        """Limit what each host sends, as ``1gbit``."""
        for name in self.names:
            limit = ("rate", rate, "burst", "256kb", "latency", "5ms")
            _run(
                "ip", "netns", "exec", self._namespace(name), "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", *limit
            )

    def _namespace(self, name: str) -> str:
        return f"{self._tag}{name}"

    def up(self) -> None:
        switch = f"{self._tag}sw"
        _run("ip", "netns", "add", switch)
        _run("ip", "-n", switch, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", switch, "link", "set", "br0", "up")
        for number, name in enumerate(self.names, 1):
            space, port = self._namespace(name), f"p{number}"
            _run("ip", "netns", "add", space)
            _run("ip", "link", "add", port, "netns", switch, "type", "veth", "peer", "name", "eth0", "netns", space)
            _run("ip", "-n", switch, "link", "set", port, "master", "br0", "up")
            _run("ip", "-n", space, "link", "set", "lo", "up")
            _run("ip", "-n", space, "addr", "add", f"10.99.0.{number}/24", "dev", "eth0")
            _run("ip", "-n", space, "link", "set", "eth0", "up")

    def down(self) -> None:
        for name in (*self.names, "sw"):
            with contextlib.suppress(subprocess.CalledProcessError):
                _run("ip", "netns", "delete", self._namespace(name))


def missing() -> str:
    """Return why there can be no hosts here, in words; an empty text if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    lacking = [tool for tool in TOOLS if not shutil.which(tool)]
    if lacking:
        return f"network namespaces need the commands {', '.join(lacking)}"
    tried = subprocess.run(["unshare", "--net", "--uts", "--mount", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "this machine allows no namespaces"


@contextlib.contextmanager
def hosts(number: int) -> Iterator[Hosts]:
    """Make hosts for the body."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hosts"
        lines = ["127.0.0.1 localhost", *(f"10.99.0.{i + 1} n{i + 1}" for i in range(number))]
        file.write_text("\n".join(lines) + "\n")
        found = Hosts(number, file)
        try:
            found.up()
            yield found
        finally:
            found.down()


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
