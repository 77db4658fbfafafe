"""A user's workload that prints a variable of its environment."""

import os

from workloads.mlp import MLP


class Says(MLP):
    def build(self):
        print("COLOUR is", os.environ["COLOUR"], flush=True)
        return super().build()
