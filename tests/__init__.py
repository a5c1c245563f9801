"""One walk down the whole road with nothing mocked, then a folder for each room."""

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent  # of the checkout

# gRPC, which receives spans here, looks after forks otherwise, and writes into the logs of what the tests start.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
os.environ["GRPC_VERBOSITY"] = "NONE"
