"""The data of workloads: file formats and datasets. Importing this package does not import torch."""
