"""One test of the whole way of a webhook with nothing mocked, then a folder for each room."""

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent  # of the checkout

# The tests receive spans by gRPC, which otherwise handles forks and writes into the logs of processes that tests start.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
os.environ["GRPC_VERBOSITY"] = "NONE"
