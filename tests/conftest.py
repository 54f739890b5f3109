"""What every test runs under: one thread (the pictures here are tiny, and workers share the cores), and property tests that repeat."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("repeatable")
