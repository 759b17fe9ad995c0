"""The most memory that a process had, asked in that process."""

from __future__ import annotations

PEAK_MB_SOURCE = """
def peak_mb():
    import pathlib, re, resource
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        # On Linux getrusage tells the peak of the process that started this one, if that was higher.
        return int(re.search(r"VmHWM:\\s*(\\d+) kB", status.read_text())[1]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20  # macOS counts bytes
"""
"""Source to put before a program that prints `peak_mb()`."""
