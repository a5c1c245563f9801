"""One walk down the whole road with nothing mocked, then one file per module."""
