"""GET /metrics in Prometheus' text format 0.0.4, as Toxiproxy's collectors print it (collectors/proxy.go)."""

from __future__ import annotations

import gc
import platform
import resource
import sys
import threading
import time
from pathlib import Path

import trio

from chaos.toxiproxy_server.proxy import Totals

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
# the errors of the handler, of which there are none: who reads them finds them
OF_HANDLER = """\
# HELP promhttp_metric_handler_errors_total Total number of internal errors encountered by the promhttp metric \
handler.
# TYPE promhttp_metric_handler_errors_total counter
promhttp_metric_handler_errors_total{cause="encoding"} 0
promhttp_metric_handler_errors_total{cause="gathering"} 0
"""
_STARTED = time.time()


def proxy_metrics(totals: Totals) -> str:
    """Return the bytes of all proxies, those of open connections included; nothing before the first connection."""
    text = ""
    for what in ("received", "sent"):
        rows = []
        for (direction, listener, proxy, upstream), counter in sorted(totals.items()):
            labels = {"direction": direction, "listener": listener, "proxy": proxy}
            labels["upstream"] = upstream
            inside = ",".join(f'{key}="{_escape(value)}"' for key, value in labels.items())
            rows.append((inside, getattr(counter, what)))
        name = f"toxiproxy_proxy_{what}_bytes_total"
        text += _metric(name, "", "counter", rows)
    return text


def runtime_metrics() -> str:
    """Return what the process uses: Prometheus' standard process metrics, and Python's, some under Go's names."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    info = (
        f'implementation="{platform.python_implementation()}",version="{platform.python_version()}"'
    )
    rows: list[tuple[str, str, str, str, float]] = [
        ("go_goroutines", "The original's name for what runs side by side: trio's tasks here.", "gauge", "",
         trio.lowlevel.current_statistics().tasks_living),
        ("go_info", "The original's name for its runtime, which is Python here.", "gauge",
         f'version="python{platform.python_version()}"', 1),
        ("go_threads", "The original's name for threads of the operating system.", "gauge", "",
         threading.active_count()),
        ("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", "counter", "",
         usage.ru_utime + usage.ru_stime),
        ("process_max_fds", "Maximum number of open file descriptors.", "gauge", "", soft),
        ("process_open_fds", "Number of open file descriptors.", "gauge", "", _open_files()),
        ("process_resident_memory_bytes", "Resident memory size in bytes.", "gauge", "",
         _memory(1) or usage.ru_maxrss),
        ("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", "gauge", "",
         _STARTED),
        ("process_virtual_memory_bytes", "Virtual memory size in bytes.", "gauge", "", _memory(0)),
        ("process_virtual_memory_max_bytes", "Maximum amount of virtual memory available in bytes.", "gauge", "",
         float(most) if most != resource.RLIM_INFINITY else float(1 << 64)),
        ("python_gc_objects_tracked", "Number of objects that the garbage collector tracks.", "gauge", "",
         sum(gc.get_count())),
        ("python_info", "Python platform information.", "gauge", info, 1),
        ("python_threads", "Number of threads.", "gauge", "", threading.active_count()),
    ]  # fmt: skip
    return "".join(
        _metric(name, text, kind, [(labels, value)]) for name, text, kind, labels, value in rows
    )


def _metric(name: str, text: str, kind: str, rows: list[tuple[str, float]]) -> str:
    if not rows:
        return ""
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    lines += [
        f"{name}{{{labels}}} {number(value)}" if labels else f"{name} {number(value)}"
        for labels, value in rows
    ]
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Return a number as Prometheus' client for Go prints it: shortest digits, with an exponent from 1e6 on.

    strconv.AppendFloat(f, 'g', -1, 64), whose %e is chosen at an exponent below -4 or from 6 on.
    """
    text = repr(float(value))
    exponent = int(f"{float(value):e}".partition("e")[2])
    if value == 0 or -4 <= exponent < 6:
        return text.removesuffix(".0")
    digits = text.lstrip("-").partition("e")[0].replace(".", "").strip("0")
    mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return f"{'-' if value < 0 else ''}{mantissa}e{exponent:+03d}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _open_files() -> int:
    folder = Path("/proc/self/fd") if sys.platform == "linux" else Path("/dev/fd")
    return len(list(folder.iterdir()))


def _memory(column: int) -> int:
    """Return a size of the process in bytes (0: virtual, 1: resident); 0 where no system tells.

    macOS tells the highest resident size only, in bytes (getrusage(2)).
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[column])
    except OSError:
        return 0
    return pages * resource.getpagesize()
