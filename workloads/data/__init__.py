"""The data of workloads: what files hold, and what datasets make of it. Importing it does not import torch."""
