"""Runs over several nodes: node 0 plans, decides and records, and followers launch what it tells them.

Each node runs ``bench run`` with its own launch server. The nodes talk over sockets (``channel``); node 0 waits for the
followers (``head``), divides each launch among the nodes (``placement``, ``launcher``), and has copies of the files of
their ranks (``mirror``), so that it watches and judges ranks of other nodes as it does its own. Nothing here imports
torch.
"""
