"""Writes the scenarios of the second attack and their expected verdicts."""
import copy, json, sys
from pathlib import Path
HERE = Path(__file__).parent
ROWS = []
def base():
    return {"version": 1, "name": "", "duration": "10s", "settle": "1s", "networks": ["embedded", "simulated"],
     "server": {"use": "subj.py:RightServer", "heartbeat": {"interval": "1s", "timeout": "2s"}},
     "client": {"use": "subj.py:Right", "heartbeat": {"interval": "1s", "timeout": "2s"}, "connect_timeout": "2s",
       "close_timeout": "1s", "stable_after": "2s", "backoff": {"initial": "500ms", "factor": 2, "max": "2s"}},
     "workload": [{"from": "server", "every": "250ms"}],
     "timeline": [{"at": "3s", "fault": "reset", "name": "cut"}], "expect": []}
def case(name, want, *expect, client=None, server=None, timeline=None, workload=None, fails="", c=(), s=(), **top):
    d = base(); d["name"] = name
    if client: d["client"]["use"] = client if ":" in client else f"subj.py:{client}"
    if server: d["server"]["use"] = server if ":" in server else f"subj.py:{server}"
    for k, v in dict(c).items():
        if v is None: d["client"].pop(k, None)
        else: d["client"][k] = v
    for k, v in dict(s).items():
        if v is None: d["server"].pop(k, None)
        else: d["server"][k] = v
    if timeline is not None: d["timeline"] = timeline
    if workload is not None: d["workload"] = workload
    d["expect"] = list(expect)
    for k, v in top.items():
        if v is None: d.pop(k, None)
        else: d[k] = v
    (HERE / f"{name}.yaml").write_text(json.dumps(d, indent=1, ensure_ascii=False) + "\n")
    ROWS.append((name, want, fails))
NOOP = [{"at": "2s", "for": "6s", "toxic": "noop", "name": "calm"}]
BOTH = [{"from": "server", "every": "250ms"}, {"from": "client", "every": "250ms"}]
BO = {"initial": "500ms", "factor": 2, "max": "2s"}
def bo(**k): return {"backoff": {**BO, **k}}
REC = {"reconnects": {"after": "cut", "within": "3s"}}
