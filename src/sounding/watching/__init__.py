"""The watch: training diagnosis that names the cause."""

from sounding.watching.watcher import Watch, watch

__all__ = ["Watch", "watch"]
